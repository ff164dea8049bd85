"""Which answer the caller was hearing, and how far: the playout's samples, by the item they belong to.

    written    |------ item a ------|---- item b ----|-- item c --|
    position                               ^ everything before has been heard

Positions are samples at the bridge rate, counted as the audio port counts them. It holds no audio.
"""

from collections import deque
from dataclasses import dataclass

from worker.media.formats import BRIDGE_RATE

_SAMPLES_PER_MS = BRIDGE_RATE // 1000


@dataclass(frozen=True, slots=True)
class CutOff:
    """An answer the caller has not heard to its end."""

    item_id: str
    heard_ms: int
    """How much of it was heard, rounded down; never more than there was."""


@dataclass(slots=True)
class _Span:
    item_id: str
    start: float
    length: float


class Ledger:
    """Kept in the order in which audio is queued."""

    def __init__(self) -> None:
        self._spans: deque[_Span] = deque()
        self._end = 0.0

    def begin(self, position: int) -> None:
        """Says that the playout is empty, and that what is queued next will be played from `position` on.

        Where spans end is worked out from the sizes of what was queued; the resampler adds a little at the end of each
        answer, which is forgiven here.
        """
        self._spans.clear()
        self._end = float(position)

    def add(self, item_id: str, samples: float, position: int) -> None:
        """Enters audio of an item behind all other, and forgets what ends before `position`."""
        while self._spans and self._spans[0].start + self._spans[0].length <= position:
            self._spans.popleft()
        if self._spans and self._spans[-1].item_id == item_id:
            self._spans[-1].length += samples
        else:
            self._spans.append(_Span(item_id, self._end, samples))
        self._end += samples

    def cut(self, position: int) -> list[CutOff]:
        """Returns what is cut off when nothing beyond `position` is played, oldest first, and forgets everything."""
        cut = [
            CutOff(span.item_id, max(0, int(position - span.start)) // _SAMPLES_PER_MS)
            for span in self._spans
            if span.start + span.length > position
        ]
        self.begin(position)
        return cut
