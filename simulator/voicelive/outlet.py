"""Gathers what a session sends, and commits its faults. Does not decide what the session says."""

from collections.abc import Callable

from simulator.voicelive import shapes
from simulator.voicelive.actions import Abort, Action, Close, Send, SendRaw, StopPongs
from simulator.voicelive.agenda import Agenda
from simulator.voicelive.faults import ArmedFaults, SessionFault
from simulator.voicelive.ids import Ids
from simulator.voicelive.record import Record
from simulator.voicelive.shapes import Event

_UNKNOWN_EVENT = {"type": "response.hologram.delta", "item_id": "item_unknown", "delta": "?"}
_BAD_JSON = '{"event_id":"event_cut","type":"response.audio.delta","delta":"AAAA'
_BINARY = b"\x00\xffnot json"


class Outlet:
    """The actions of one step, in order. Once muted (hung, closed, aborted) it takes no more."""

    def __init__(self, ids: Ids, record: Record) -> None:
        self._ids = ids
        self._record = record
        self._actions: list[Action] = []
        self.muted = False
        self.after_send: Callable[[str, float], None] = lambda _type, _now: None

    def send(self, event: Event, now: float) -> None:
        """Send an event, `event_id` first."""
        if self.muted:
            return
        self._record.sent[event["type"]] += 1
        self._actions.append(Send({"event_id": self._ids.new("event"), **event}))
        self.after_send(event["type"], now)

    def put(self, action: Action) -> None:
        if not self.muted:
            self._actions.append(action)

    def close(self, code: int, reason: str) -> None:
        """End the session with a close frame."""
        self.put(Close(code, reason))
        self.muted = True

    def take(self) -> list[Action]:
        """What has gathered since the last call."""
        taken, self._actions = self._actions, []
        return taken


class Mishaps:
    """The faults of one session: strikes at once, after an event or after a time."""

    def __init__(self, outlet: Outlet, agenda: Agenda) -> None:
        self._outlet = outlet
        self._agenda = agenda
        self._armed = ArmedFaults()
        self._spoiled: dict[str, tuple[SessionFault, int]] = {}
        outlet.after_send = self._after_send

    def order(self, fault: SessionFault, now: float) -> None:
        """Arm a fault, or let it strike when it waits for nothing."""
        if fault.on is not None:
            self._armed.arm(fault)
        else:
            self._strike_later(fault, now)

    def spoils(self, kind: str) -> SessionFault | None:
        """The fault of this kind for the turn or update at hand; it uses up one of its times."""
        fault, times = self._spoiled.get(kind, (None, 0))
        if times > 1 and fault is not None:
            self._spoiled[kind] = (fault, times - 1)
        else:
            self._spoiled.pop(kind, None)
        return fault

    def _after_send(self, event_type: str, now: float) -> None:
        for fault in self._armed.due_after(event_type):
            self._strike_later(fault, now)

    def _strike_later(self, fault: SessionFault, now: float) -> None:
        if fault.after_s:
            self._agenda.at(now + fault.after_s, lambda at: self._strike(fault, at))
        else:
            self._strike(fault, now)

    def _strike(self, fault: SessionFault, now: float) -> None:
        outlet = self._outlet
        match fault.kind:
            case "abort":
                outlet.put(Abort())
                outlet.muted = True
            case "close":
                outlet.close(fault.code, fault.reason)
            case "hang":
                outlet.muted = True
            case "no_pong":
                outlet.put(StopPongs())
            case "oversize":
                outlet.put(SendRaw('{"type":"simulator.oversize","padding":"' + "x" * fault.bytes + '"}'))
            case "binary":
                outlet.put(SendRaw(_BINARY))
            case "bad_json":
                outlet.put(SendRaw(_BAD_JSON))
            case "unknown_event":
                outlet.send(dict(_UNKNOWN_EVENT), now)
            case "warning":
                outlet.send(shapes.warning("This is a simulated warning."), now)
            case "error":
                message = "The server had an error while processing your request."
                outlet.send(shapes.error("server_error", message, param=None, event_id=None, kind="server_error"), now)
            case "delay_transcript" | "duplicate_transcript" | "empty_transcript" | "refuse_update" | "mute_update":
                self._spoiled[fault.kind] = (fault, fault.times)
