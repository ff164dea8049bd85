"""Audio between pjmedia's conference bridge and Python, in bulk: the API of the native audio port (audio_port.c).

It decides nothing and knows nothing of calls, answers or Voice Live: the owner connects, finishes and flushes.

An `AudioPort` is one slot of the bridge with two rings. pjmedia's clock thread fills the uplink (caller -> owner) and
empties the downlink (owner -> caller) every 20 ms, without Python and without the GIL. All methods return at once.
They may be called from any thread, also one that pjsip does not know and also from pjsua2's callbacks.

Formats. The bridge side is 16 bit mono at `bridge_rate`. Python's side is bytes: `pcm16` is 16 bit little-endian mono
at `rate` (2 bytes a sample), `g711_ulaw` and `g711_alaw` are ITU-T G.711 at 8000 Hz (1 byte a sample). Where the rates
differ the port resamples (linear phase, 2 ms delay between 8 and 24 kHz, 1 ms between 16 and 24 kHz).

Limits. The uplink ring holds 2048 ms; when it is full the newest frame is dropped and counted. The downlink ring holds
16384 ms; when it is full `write()` accepts less.

Only one thing survives the endpoint: reading what is left, and the counters.
"""

from types import TracebackType
from typing import Final, Literal, Self, final

from _typeshed import structseq
from typing_extensions import Buffer

@final
class Counters(structseq[int], tuple[int, int, int, int, int, int, int, int, int, int, int, int]):
    """What has gone through a port since it was made, in samples at the bridge rate unless it says otherwise.

    Every snapshot is exact: `written == played + flushed + queued`, and what `read()` has returned so far is
    `captured - uplink_dropped - uplink_queued`.

    How much of a chunk the caller has heard: note `written` before and after writing it. The chunk then lies in
    [before, after) of everything ever written. As long as nothing of it was flushed, `played + flushed - before`
    samples of it are over, at least 0 and at most all. `flush()` drops the newest: with n its return value, nothing at
    or beyond `written - n` was heard.
    """

    __match_args__: Final = (
        "captured",
        "uplink_dropped",
        "uplink_queued",
        "written",
        "played",
        "flushed",
        "queued",
        "downlink_rejected",
        "underruns",
        "first_captured_ns",
        "first_played_ns",
        "playout_started_ns",
    )

    @property
    def captured(self) -> int:
        """Taken from the bridge, dropped ones included. 160 (8 kHz) or 320 (16 kHz) more each 20 ms once connected."""

    @property
    def uplink_dropped(self) -> int:
        """Of these, lost because the uplink ring was full."""

    @property
    def uplink_queued(self) -> int:
        """Of these, waiting for `read()`."""

    @property
    def written(self) -> int:
        """Put into the downlink ring. When resampling, a third or two thirds of what `write()` took, and 16 more for
        each `finish()` (the filter's delay)."""

    @property
    def played(self) -> int:
        """Of these, handed to the bridge, which sends them in the same tick."""

    @property
    def flushed(self) -> int:
        """Of these, dropped by `flush()`."""

    @property
    def queued(self) -> int:
        """Of these, still to be played."""

    @property
    def downlink_rejected(self) -> int:
        """Not accepted by `write()` because the ring was full. A sample that is offered again counts again."""

    @property
    def underruns(self) -> int:
        """Frames of 20 ms that ran short, in part or wholly, in the middle of an answer. Not samples."""

    @property
    def first_captured_ns(self) -> int:
        """CLOCK_REALTIME in ns of the first frame captured; 0 before."""

    @property
    def first_played_ns(self) -> int:
        """CLOCK_REALTIME in ns of the first sample played; 0 before."""

    @property
    def playout_started_ns(self) -> int:
        """CLOCK_REALTIME in ns at which the latest answer's first sample was played; 0 before the first.

        An answer is what is written between two marks set by `finish()` or `flush()`, even without a gap between them.
        """

@final
class AudioPort:
    """A port of the running endpoint's conference bridge. As a context manager it closes itself."""

    def __new__(
        cls,
        *,
        bridge_rate: int,
        encoding: Literal["pcm16", "g711_ulaw", "g711_alaw"],
        rate: int,
        wake_ms: int = 20,
    ) -> Self:
        """A new port in the bridge, connected to nothing.

        `bridge_rate` (Hz) is 8000 or 16000 and must be MediaConfig.clockRate. `rate` (Hz) is that of Python's side:
        `bridge_rate` or 24000 for pcm16; G.711 needs 8000 and a bridge of 8000. `wake_ms` (20 to 1000) is how much
        uplink audio must wait before `take_ready()` names the port.

        Raises ValueError for values that do not go together or do not suit the bridge, RuntimeError without a running
        endpoint or when pjmedia refuses (the bridge has no slot left), MemoryError.

        The first port ends pjsua2's calls of Endpoint.onAudioMediaOpCompleted, which take the GIL in the clock thread.
        """

    @property
    def id(self) -> int:
        """Small number that names the port in `take_ready()`; given to another port only after this one has left."""

    @property
    def slot(self) -> int:
        """Slot in the conference bridge; -1 once the port is closed or the endpoint is gone."""

    def connect(self, call_slot: int, /) -> None:
        """Carry audio both ways to and from `call_slot`, from the next tick on.

        Call it on every Call.onCallMediaState with the stream's current slot (AudioMedia.getPortId): it replaces an
        earlier connection, and doing it again for the same slot is harmless. From the first connection until `close()`
        every tick is captured; without audio from the bridge as silence.

        Raises ValueError for a slot that cannot be, or when the port is closed; RuntimeError if the slot is not in use
        or the endpoint is gone.
        """

    def disconnect(self) -> None:
        """Undo `connect()`. Playout pauses, capture goes on with silence. Harmless when not connected or closed."""

    def read(self, max_bytes: int = -1) -> bytes:
        """All captured audio, or at most `max_bytes` of it (whole samples), oldest first; empty if there is none.

        Raises ValueError if the port is closed.
        """

    def write(self, audio: Buffer, /) -> int:
        """Queue audio behind what is queued and return the number of bytes accepted, a multiple of the sample size.

        Less than all is accepted when the ring is full or when the last sample is incomplete; the rest stays with the
        caller. How audio is cut into writes makes no difference to what is played. Raises ValueError if the port is
        closed, TypeError or BufferError if `audio` is not a contiguous buffer.
        """

    def finish(self) -> bool:
        """Mark the end of an answer: the resampler's rest is played out, and running empty here is no underrun.

        False if the ring has no room for the resampler's 16 samples: nothing has happened, call it again later. Raises
        ValueError if the port is closed.
        """

    def flush(self) -> int:
        """Drop all queued audio (barge-in) in constant time and return the number of samples, at the bridge rate.

        From the next tick on nothing of it is played. Also ends the answer, as `finish()` does, and empties the
        resampler. Raises ValueError if the port is closed.
        """

    def counters(self) -> Counters:
        """What has gone through so far; also after `close()`."""

    def close(self) -> None:
        """Leave the bridge. Nothing is captured or played any more at once, the slot is free after the next tick.

        Harmless in every order: twice, while connected, after the call or the endpoint is gone. A port that nobody
        refers to closes itself.
        """

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...

def wake_fd() -> int:
    """File descriptor that becomes readable when `take_ready()` has something to tell; the same for all ports.

    Not inherited across exec. Make no port before a fork whose child uses ports, too.
    """

def take_ready() -> list[int]:
    """Make `wake_fd()` unreadable and return the ids of ports with at least `wake_ms` of audio to read.

    A port that is not read is named again after its next frame. One that was closed a moment ago may be named again.
    """

def take_ticks() -> tuple[int, int, int]:
    """What the bridge's clock has done since the last call: its ticks, those that were late, and ns of the longest.

    A tick is late when it ends more than 30 ms after the one before; it should be 20. Ticks are counted for all ports
    together and only while there are any. The longest is 0 when none was counted.
    """
