"""What happened when in one call, put together from what the telephone saw and what the call record says.

It measures nothing and prints nothing; both sources give Unix ms by this host's clock.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from shared.messages import CallRecord


class Source(StrEnum):
    """Who saw it."""

    PHONE = "phone"
    RECORD = "call record"


@dataclass(frozen=True, slots=True)
class Moment:
    """One line of the timeline."""

    at_ms: int
    """Since the caller sent the INVITE."""
    name: str
    """The mark's own name."""
    label: str
    source: Source
    key: bool
    """One of the handful that tell how good the call was."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """One call's moments in order."""

    invite_ms: int
    """Unix ms; all else counts from here."""
    moments: Sequence[Moment]

    def at(self, name: str, source: Source) -> int | None:
        """Returns when it first happened, in ms since the INVITE."""
        return next((m.at_ms for m in self.moments if m.name == name and m.source is source), None)

    def between(self, first: str, second: str, source: Source) -> int | None:
        """Returns the ms between two marks, or None when one of them is missing."""
        begin, end = self.at(first, source), self.at(second, source)
        return None if begin is None or end is None else end - begin


_LABELS = {
    (Source.PHONE, "invite"): "INVITE sent",
    (Source.RECORD, "invite"): "INVITE at the dispatcher",
    (Source.PHONE, "trying"): "100 Trying",
    (Source.RECORD, "lease"): "lease: slot taken on {worker}",
    (Source.RECORD, "claimed"): "lease claimed by the worker",
    (Source.PHONE, "ringing"): "180 Ringing",
    (Source.RECORD, "connected"): "Voice Live: WebSocket open",
    (Source.RECORD, "session_ready"): "Voice Live: session ready",
    (Source.RECORD, "answered"): "worker answers 200",
    (Source.PHONE, "answered"): "200 OK",
    (Source.RECORD, "greeting_audio"): "greeting: first audio from Voice Live",
    (Source.RECORD, "greeting_playout"): "greeting: first RTP sent",
    (Source.PHONE, "greeting_first_packet"): "greeting: first packet heard",
    (Source.PHONE, "greeting_end"): "greeting: end",
    (Source.PHONE, "speech_start"): "caller begins to speak",
    (Source.RECORD, "speech_started"): "Voice Live hears speech",
    (Source.RECORD, "barge_in"): "caller talks over the model: playout flushed",
    (Source.PHONE, "speech_end"): "caller has spoken",
    (Source.RECORD, "speech_stopped"): "Voice Live hears its end",
    (Source.RECORD, "answer_audio"): "answer: first audio from Voice Live",
    (Source.RECORD, "answer_playout"): "answer: first RTP sent",
    (Source.PHONE, "answer_first_packet"): "answer: first packet heard",
    (Source.PHONE, "answer_end"): "answer: end",
    (Source.PHONE, "bye"): "BYE",
    (Source.RECORD, "hangup"): "hang-up at the worker",
    (Source.RECORD, "ended"): "call over, lease released",
}
"""In the order of cause and effect, which decides between marks of the same millisecond."""

_RANK = {mark: rank for rank, mark in enumerate(_LABELS)}

_KEY = {
    (Source.PHONE, "invite"),
    (Source.RECORD, "lease"),
    (Source.RECORD, "session_ready"),
    (Source.PHONE, "answered"),
    (Source.PHONE, "greeting_first_packet"),
    (Source.PHONE, "speech_end"),
    (Source.PHONE, "answer_first_packet"),
    (Source.PHONE, "bye"),
}


def merge(phone_marks: Mapping[str, float], record: CallRecord | None) -> Timeline:
    """Returns the timeline of the call whose telephone made `phone_marks` (with at least `invite`).

    Times are cut to whole ms, as in a call record. Several turns in one are numbered from the second on.
    """
    seen = [((Source.PHONE, name), int(at_ms)) for name, at_ms in phone_marks.items()]
    if record:
        seen += [((Source.RECORD, name), at_ms) for name, at_ms in record.marks]
    invite_ms = int(phone_marks["invite"])
    worker = record.worker_id if record else ""
    moments = []
    times: Counter[tuple[Source, str]] = Counter()
    for mark, at_ms in sorted(seen, key=lambda each: (each[1], _RANK.get(each[0], len(_RANK)))):
        times[mark] += 1
        nth = f" ({times[mark]})" if times[mark] > 1 else ""
        source, name = mark
        label = _LABELS.get(mark, name).format(worker=worker) + nth
        moments.append(Moment(at_ms - invite_ms, name, label, source, mark in _KEY))
    return Timeline(invite_ms, moments)
