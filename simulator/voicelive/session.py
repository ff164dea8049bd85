"""One Voice Live session: events in, actions out. Does no IO and reads no clock.

Every method that takes `now` (seconds of any clock that only goes forward) returns the actions that follow; between
calls the owner waits until `next_wake` and calls `advance`. Faults, scenario and pace are all inside.

    append ── input buffer, VAD ── turn ── transcript ── response ── audio out
    receive ─ session.update, items, manual turns, response.create/cancel
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from simulator.voicelive import shapes
from simulator.voicelive.actions import Action
from simulator.voicelive.agenda import Agenda
from simulator.voicelive.behaviour import Behaviour
from simulator.voicelive.configuration import Configuration
from simulator.voicelive.conversation import Conversation, message_text, pre_generated_text
from simulator.voicelive.faults import MAX_DURATION_REASON, SessionFault
from simulator.voicelive.ids import Ids
from simulator.voicelive.listener import Listener, Turn
from simulator.voicelive.outlet import Mishaps, Outlet
from simulator.voicelive.output import Speech
from simulator.voicelive.performance import Performance
from simulator.voicelive.profiles import DEPLOYED
from simulator.voicelive.record import Record
from simulator.voicelive.refusal import Refused, invalid_type, invalid_value, table, text, whole
from simulator.voicelive.responder import Responder, Response
from simulator.voicelive.script import Script

# The largest audio one append may carry.
MAX_APPEND_BYTES = 15 * 1024 * 1024

APPEND = "input_audio_buffer.append"

# The model behind an agent, which no handshake names.
_AGENT_MODEL = "gpt-4.1-mini"

# In a monologue, how much of an answer is still to be heard when the audio of the next one begins to come.
_MONOLOGUE_LEAD_S = 0.5

# Between two answers of a monologue at least; those without audio would follow each other without end.
_MONOLOGUE_PAUSE_S = 0.1

Handler = Callable[["Session", Mapping[str, Any], float], None]


@dataclass(frozen=True, slots=True)
class Opening:
    """What the handshake says about a session; `epoch_s` is unix time minus session time."""

    model: str | None
    agent: str | None
    epoch_s: float


class Session:
    """A session from `start` to its last action. Events the client sends go to `append` (audio) and `receive`.

    Without a `script` to go on with it walks through the behaviour's scenario from the start.
    """

    def __init__(
        self,
        opening: Opening,
        behaviour: Behaviour,
        now: float,
        ids: Ids | None = None,
        script: Script | None = None,
    ) -> None:
        ids = ids or Ids()
        manner = behaviour.manner(opening.model)
        self.id = ids.new("sess")
        self.record = Record(opening.epoch_s)
        self._ids = ids
        self._behaviour = behaviour
        self._manner = manner
        self._agenda = Agenda()
        self._outlet = Outlet(ids, self.record)
        self._mishaps = Mishaps(self._outlet, self._agenda)
        self._conversation = Conversation(ids)
        created = self._created(opening, now)
        self._configuration = Configuration(created, manner.profile)
        common = (ids, self._outlet, self._agenda, self._conversation, self.record)
        self._listener = Listener(self._configuration, manner, *common, self._mishaps)
        self._listener.on_speech = self._barge_in
        self._listener.on_end = self._remember_turn
        self._listener.on_turn = self._answer_turn
        self._listener.transcript = lambda: self._script.heard or behaviour.heard
        self._responder = Responder(manner, *common)
        self._responder.after_done = self._after_response
        self._script = script or Script(behaviour.scenario)
        self._performance = Performance(self._script, ids, self._outlet, self._agenda, self._mishaps, self._responder)
        self._responder.on_open = self._performance.go_on
        self._mcp_servers: set[str] = set()

    @property
    def next_wake(self) -> float | None:
        """When to call `advance`; None while nothing is planned."""
        return None if self._outlet.muted else self._agenda.next

    def start(self, now: float, faults: Iterable[SessionFault] = ()) -> list[Action]:
        """Open the session: `session.created`, then the scenario's first steps; faults that wait for nothing follow."""
        self.record.mark("opened", now)
        faults = list(faults)
        for fault in faults:
            if fault.on is not None:
                self._mishaps.order(fault, now)
        self._outlet.send(shapes.session_event("session.created", self._configuration.session), now)
        self._agenda.at(now + self._behaviour.max_session_s, self._expire)
        for fault in faults:
            if fault.on is None:
                self._mishaps.order(fault, now)
        self._performance.go_on(now)
        return self._outlet.take()

    def append(self, audio: bytes, now: float) -> list[Action]:
        """The fast path of `input_audio_buffer.append`, audio already decoded from base64."""
        self.record.received[APPEND] += 1
        if len(audio) > MAX_APPEND_BYTES:
            self._refuse(Refused("invalid_value", "Audio exceeds 15 MiB.", "audio"), None, now)
        else:
            self._listener.append(audio, now)
        return self._outlet.take()

    def receive(self, event: object, now: float) -> list[Action]:
        """Any other client event, as decoded JSON."""
        event_id = event.get("event_id") if isinstance(event, dict) else None
        try:
            self._dispatch(event, now)
        except Refused as refusal:
            self._refuse(refusal, event_id if isinstance(event_id, str) else None, now)
        return self._outlet.take()

    def rendered(self, ref: str, audio: bytes, now: float) -> list[Action]:
        """The answer to a `Render` action."""
        self._responder.rendered(ref, audio, now)
        return self._outlet.take()

    def render_failed(self, ref: str, message: str, now: float) -> list[Action]:
        """A `Render` action could not be carried out: the response fails, the client is told why."""
        if not self._outlet.muted:
            event = shapes.error("server_error", message, param=None, event_id=None, kind="server_error")
            self._outlet.send(event, now)
            self._responder.fail(ref, message, now)
        return self._outlet.take()

    def order(self, fault: SessionFault, now: float) -> list[Action]:
        """Commit a fault, now or when it is due."""
        self._mishaps.order(fault, now)
        return self._outlet.take()

    def advance(self, now: float) -> list[Action]:
        """Do what is due by `now`."""
        if not self._outlet.muted:
            self._agenda.run(now)
        return self._outlet.take()

    def shown(self) -> dict[str, Any]:
        """What the control API says about the session: no audio, and words only when they are to be revealed."""
        return {
            "id": self.id,
            "model": self._configuration.session["model"],
            "profile": self._manner.profile.name,
            "state": self._state,
            "appended_audio_ms": round(self._listener.heard_ms, 3),
            "script": {"position": self._script.position, "failures": list(self._script.failures)},
            **self.record.shown(),
            **(self._revealed() if self._behaviour.reveal else {}),
        }

    def _revealed(self) -> dict[str, Any]:
        session = self._configuration.session
        return {
            "items": self._conversation.shown(),
            "instructions": session["instructions"],
            "session": dict(session),
            "said": list(self._responder.said),
        }

    @property
    def _state(self) -> str:
        if self._outlet.muted:
            return "silent"
        if self._responder.active is not None:
            return "answering"
        return "hearing" if self._listener.speaking else "listening"

    # Client events

    def _dispatch(self, event: object, now: float) -> None:
        if not isinstance(event, dict) or not isinstance(event.get("type"), str):
            raise Refused("invalid_json", "Expected a JSON object with a 'type'.", "type")
        kind = event["type"]
        self.record.received[kind] += 1
        handler = _HANDLERS.get(kind)
        if handler is None:
            raise invalid_value("type", kind, "one of " + ", ".join(f"'{each}'" for each in _HANDLERS))
        handler(self, event, now)

    def _refuse(self, refusal: Refused, event_id: str | None, now: float) -> None:
        kind = "invalid_request_error"
        event = shapes.error(refusal.code, refusal.message, param=refusal.param, event_id=event_id, kind=kind)
        self._outlet.send(event, now)

    def _on_update(self, event: Mapping[str, Any], now: float) -> None:
        if self._mishaps.spoils("mute_update"):
            return
        fault = self._mishaps.spoils("refuse_update")
        if fault is not None:
            raise Refused("invalid_value", f"Invalid value for '{fault.param}'.", fault.param)
        self._configuration.update(table(event, "session"), audio_heard=self._listener.heard_ms > 0)
        self._listener.reconfigure()
        self._outlet.send(shapes.session_event("session.updated", self._configuration.session), now)
        self._list_mcp_tools(now)
        if self._manner.monologue:
            self._speak_on(now)

    def _list_mcp_tools(self, now: float) -> None:
        """Show the tools of each MCP server that is new in the session: those the client allows, by name."""
        for tool in self._configuration.mcp_servers:
            if tool["server_label"] in self._mcp_servers:
                continue
            self._mcp_servers.add(tool["server_label"])
            names = tool.get("allowed_tools") or ()
            item = shapes.mcp_list_tools_item(self._ids.new("item"), tool["server_label"], names)
            self._outlet.send(shapes.item_created(item, self._conversation.add(item)), now)
            self._outlet.send(shapes.mcp_list_tools("mcp_list_tools.in_progress", item["id"]), now)
            self._outlet.send(shapes.mcp_list_tools("mcp_list_tools.completed", item["id"]), now)

    def _on_bad_append(self, event: Mapping[str, Any], now: float) -> None:
        text(event, "audio")
        raise Refused("invalid_value", "Invalid 'audio': expected base64-encoded audio bytes.", "audio")

    def _on_commit(self, _event: Mapping[str, Any], now: float) -> None:
        self._listener.commit(now)

    def _on_clear(self, _event: Mapping[str, Any], now: float) -> None:
        self._listener.clear()
        self._outlet.send({"type": "input_audio_buffer.cleared"}, now)

    def _on_output_clear(self, _event: Mapping[str, Any], now: float) -> None:
        self._outlet.send({"type": "output_audio_buffer.cleared"}, now)

    def _on_item_create(self, event: Mapping[str, Any], now: float) -> None:
        item = self._conversation.from_client(table(event, "item"))
        previous_id = self._conversation.add(item, event.get("previous_item_id"))
        self._outlet.send(shapes.item_created(item, previous_id), now)
        if item["type"] == "function_call_output":
            self._script.output(item["call_id"], item["output"])
        elif item.get("role") == "user":
            self._script.message(message_text(item))
        self._performance.go_on(now)

    def _on_item_retrieve(self, event: Mapping[str, Any], now: float) -> None:
        self._outlet.send(shapes.item_retrieved(self._conversation.find(text(event, "item_id"))), now)

    def _on_item_delete(self, event: Mapping[str, Any], now: float) -> None:
        item_id = text(event, "item_id")
        self._conversation.remove(item_id)
        self._outlet.send(shapes.item_deleted(item_id), now)

    def _on_item_truncate(self, event: Mapping[str, Any], now: float) -> None:
        item_id, index, end_ms = text(event, "item_id"), whole(event, "content_index"), whole(event, "audio_end_ms")
        if index != 0:
            raise invalid_value("content_index", index, "0")
        self._conversation.truncate(item_id, end_ms)
        self.record.mark("truncated", now, audio_ms=end_ms)
        self._outlet.send(shapes.item_truncated(item_id, index, end_ms), now)

    def _on_response_create(self, event: Mapping[str, Any], now: float) -> None:
        params = event.get("response") or {}
        if not isinstance(params, dict):
            raise invalid_type("response", "an object", params)
        self._configuration.response_options(params)
        words = (pre_generated_text(params), params.get("instructions"), event.get("additional_instructions"))
        if self._responder.active is not None and params.get("cancel_previous"):
            self._responder.cancel("client_cancelled", now)
        postponed = self._listener.postpone(params)
        if not postponed:
            self._refuse_second()
        self._script.request(" ".join(each for each in words if isinstance(each, str)))
        self._performance.go_on(now)
        if not postponed:
            self._create_response(params, None, now)

    def _on_response_cancel(self, event: Mapping[str, Any], now: float) -> None:
        active = self._responder.active
        if active is None or event.get("response_id") not in (None, active.id):
            raise Refused("response_cancel_not_active", "Cancellation failed: no active response found")
        self._responder.cancel("client_cancelled", now)

    # Turns and responses

    def _barge_in(self, now: float) -> None:
        """The caller has begun to speak: interrupt the model as `turn_detection` wants it."""
        detection = self._configuration.turn_detection
        if detection is None or not detection["interrupt_response"]:
            return
        response = self._responder.active
        playing = self._conversation.playing(now) if detection.get("auto_truncate") else None
        if self._manner.cancel_s:
            self._agenda.at(now + self._manner.cancel_s, lambda at: self._interrupt(response, playing, at))
        else:
            self._interrupt(response, playing, now)

    def _interrupt(self, response: Response | None, playing: tuple[str, int] | None, now: float) -> None:
        if response is not None and self._responder.active is response:
            self._responder.cancel(self._manner.cancel_reason, now)
        if playing is not None:
            self._conversation.truncate(*playing)
            self._outlet.send(shapes.item_truncated(playing[0], 0, playing[1]), now)

    def _answer_turn(self, turn: Turn, now: float) -> None:
        try:
            self._create_response(turn.request or {}, turn, now)
        except Refused as refusal:
            self._refuse(refusal, None, now)

    def _create_response(self, params: Mapping[str, Any], turn: Turn | None, now: float) -> None:
        self._refuse_second()
        spoken = pre_generated_text(params)
        response = self._responder.begin(
            self._configuration.response_options(params),
            timed=bool(self._configuration.session["output_audio_timestamp_types"]),
            text_tokens=len(self._configuration.session["instructions"].split()) + self._conversation.words,
            input_ms=turn.clip.ms if turn is not None and turn.clip is not None else 0.0,
            origin=turn.ended_at if turn is not None else now,
            now=now,
        )
        if spoken is not None:
            self._responder.add(response, [Speech(spoken)], now, complete=True)
        else:
            self._performance.go_on(now)

    def _refuse_second(self) -> None:
        active = self._responder.active
        if active is not None:
            message = f"Conversation already has an active response in progress: {active.id}."
            raise Refused("conversation_already_has_active_response", message)

    def _after_response(self, now: float) -> None:
        self._performance.go_on(now)
        if self._manner.monologue:
            self._agenda.at(max(self._monologue_due, now + _MONOLOGUE_PAUSE_S), self._speak_on)

    @property
    def _monologue_due(self) -> float:
        return self._responder.heard_until - _MONOLOGUE_LEAD_S - self._manner.first_audio_s

    def _speak_on(self, now: float) -> None:
        """Begin the next answer of a monologue, unless one is under way or there is still much to be heard."""
        if self._responder.active is None and now >= self._monologue_due:
            self._create_response({}, None, now)

    def _remember_turn(self, turn: Turn) -> None:
        self._script.last_turn = turn

    def _expire(self, now: float) -> None:
        event = shapes.error(
            "session_expired", MAX_DURATION_REASON, param=None, event_id=None, kind="invalid_request_error"
        )
        self._outlet.send(event, now)
        self._outlet.close(1001, MAX_DURATION_REASON)

    def _created(self, opening: Opening, now: float) -> dict[str, Any]:
        profile = self._manner.profile
        expires_at = int(now + opening.epoch_s + self._behaviour.max_session_s)
        model = opening.model or _AGENT_MODEL
        created = shapes.session(self.id, profile, DEPLOYED.get(model, model), expires_at)
        if opening.agent is not None:
            created["agent"] = shapes.agent(opening.agent, self._ids.new("asst"), self._ids.new("thread"))
        return created


_HANDLERS: Mapping[str, Handler] = {
    "session.update": Session._on_update,
    APPEND: Session._on_bad_append,
    "input_audio_buffer.commit": Session._on_commit,
    "input_audio_buffer.clear": Session._on_clear,
    "output_audio_buffer.clear": Session._on_output_clear,
    "conversation.item.create": Session._on_item_create,
    "conversation.item.retrieve": Session._on_item_retrieve,
    "conversation.item.delete": Session._on_item_delete,
    "conversation.item.truncate": Session._on_item_truncate,
    "response.create": Session._on_response_create,
    "response.cancel": Session._on_response_cancel,
}
