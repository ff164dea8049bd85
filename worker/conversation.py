"""The Voice Live side of a call: its session's decisions carried out on the connection and the audio port.

It knows no SIP. What the session decides is in `worker/voicelive/session.py`; here it is only done.
"""

from collections.abc import Callable

import structlog

from shared.errors import UpstreamError
from worker.media.downlink import Downlink
from worker.media.formats import WireFormat
from worker.media.port import AudioPort
from worker.media.uplink import Uplink
from worker.timeline import Timeline
from worker.voicelive import session as sessions
from worker.voicelive.connection import Connection

log = structlog.get_logger()

_PLAYOUT_MARKS = {"greeting_audio": "greeting_playout", "answer_audio": "answer_playout"}
"""An answer's first audio is followed by its first packet: two marks, so that the difference can be seen."""


class Conversation:
    """One session and the audio both ways. `wake()` is called whenever the port has caller audio waiting."""

    def __init__(self, options: sessions.SessionOptions, wire: WireFormat, port: AudioPort, timeline: Timeline) -> None:
        self._session = sessions.Session(options)
        self._port = port
        self._timeline = timeline
        self._downlink = Downlink(port, wire)
        self._uplink: Uplink | None = None
        self._playout_mark = ""
        self._playout_before_ns = 0
        self.session_id = ""

    async def run(self, connection: Connection, on_ready: Callable[[], None]) -> None:
        """Carries the conversation until it is cancelled; calls `on_ready` once the caller may be answered.

        Raises UpstreamError when the session cannot be set up or the connection is gone.
        """
        async for event in connection.events():
            for action in self._session.receive(event):
                if isinstance(action, sessions.Ready):
                    self.session_id = action.session_id
                    self._uplink = Uplink(self._port, connection)  # not before: the session's input format stands now
                    on_ready()
                else:
                    await self._do(action, connection)

    def wake(self) -> None:
        """Moves audio: caller audio is waiting, and the playout may have room again."""
        if self._uplink is not None:
            self._uplink.send()
        self._downlink.top_up()
        if self._playout_mark:
            self._note_playout()

    def counters(self) -> dict[str, int]:
        """Returns the call's audio and session counters; audio in samples at the bridge rate."""
        port = self._port.counters()
        return {
            "captured": port.captured,
            "uplink_dropped": port.uplink_dropped,
            "played": port.played,
            "flushed": port.flushed,
            "underruns": port.underruns,
            "downlink_dropped_bytes": self._downlink.dropped_bytes,
            "session_errors": self._session.errors,
        }

    async def _do(self, action: sessions.Action, connection: Connection) -> None:
        match action:
            case sessions.Play():
                self._downlink.play(action.item_id, action.audio)
            case sessions.FinishAnswer():
                self._downlink.finish()
            case sessions.FlushPlayout():
                await self._flush(connection)
            case sessions.Mark():
                self._mark(action.name)
            case sessions.UpdateSession():
                await connection.update_session(action.session)
            case sessions.Send():
                await connection.send(action.message)
            case sessions.Refused():
                raise UpstreamError(f"session refused: {action.code} {action.param}".rstrip())

    async def _flush(self, connection: Connection) -> None:
        cut_off = self._downlink.flush()
        if cut_off:
            self._timeline.mark("barge_in")
        for item in cut_off:
            for action in self._session.cut_off(item.item_id, item.heard_ms):
                await self._do(action, connection)

    def _mark(self, name: str) -> None:
        self._timeline.mark(name)
        if name in _PLAYOUT_MARKS:
            self._playout_mark = _PLAYOUT_MARKS[name]
            self._playout_before_ns = self._port.counters().playout_started_ns

    def _note_playout(self) -> None:
        started_ns = self._port.counters().playout_started_ns
        if started_ns != self._playout_before_ns:
            self._timeline.mark(self._playout_mark, started_ns // 1_000_000)
            self._playout_mark = ""
