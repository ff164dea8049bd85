"""Performs the scenario: takes its steps as the session allows. Does not know where in it we are (see `script`)."""

import json
from typing import Any

from simulator.voicelive.agenda import Agenda
from simulator.voicelive.ids import Ids
from simulator.voicelive.outlet import Mishaps, Outlet
from simulator.voicelive.output import FunctionCall, McpCall, Part, Speech
from simulator.voicelive.responder import Responder, Response
from simulator.voicelive.scenario import (
    Answer,
    Call,
    Close,
    Compound,
    Expectation,
    Fault,
    Function,
    Hang,
    Mcp,
    Opener,
    Parrot,
    Play,
    Say,
    Wait,
)
from simulator.voicelive.script import Script

# What a parrot says when nobody has said anything yet.
_NOTHING_HEARD = "I am listening."


class Performance:
    """One session's way through a script; `go_on` is called whenever something happened that may let it."""

    def __init__(
        self, script: Script, ids: Ids, outlet: Outlet, agenda: Agenda, mishaps: Mishaps, responder: Responder
    ) -> None:
        self._script = script
        self._ids = ids
        self._outlet = outlet
        self._agenda = agenda
        self._mishaps = mishaps
        self._responder = responder
        self._waits = False
        self._stalled: Response | None = None

    def go_on(self, now: float) -> None:
        """Take scenario steps until one has to wait: for time, for the client, or for an answer to be finished."""
        while not self._waits and not self._outlet.muted:
            response = self._responder.active
            if response is not None and (response.busy or response is self._stalled):
                return
            step = self._script.step
            if isinstance(step, Expectation):
                if self._script.settle():
                    continue
                if response is None:
                    return
                self._script.give_up(step)
            elif not isinstance(step, Answer | Opener):
                self._take_step(step, now)
            elif response is None:
                return
            elif isinstance(step, Answer):
                self._answer(response, step, now)
            else:
                self._open(response, step, now)

    def _take_step(self, step: Wait | Fault | Hang | Close, now: float) -> None:
        self._script.done()
        match step:
            case Wait(seconds):
                self._waits = True
                self._agenda.at(now + seconds, self._wait_over)
            case Fault(fault):
                self._mishaps.order(fault, now)
            case Hang():
                self._outlet.muted = True
            case Close(code, reason):
                self._outlet.close(code, reason)

    def _wait_over(self, now: float) -> None:
        self._waits = False
        self.go_on(now)

    def _open(self, response: Response, step: Opener, now: float) -> None:
        """Begin the answer; the next steps go on with it. A stall that is interrupted is over."""
        self._script.done()
        if isinstance(step, Mcp):
            self._responder.add(response, [_mcp_call(step)], now, complete=False)
            return
        self._stalled = response
        if step.seconds is not None:
            self._agenda.at(now + step.seconds, lambda at: self._stall_over(response, at))

    def _stall_over(self, response: Response, now: float) -> None:
        if self._stalled is response:
            self._stalled = None
            self.go_on(now)

    def _answer(self, response: Response, step: Answer, now: float) -> None:
        """Give the scenario's answer. The script moves on first: an instant answer is over before this returns."""
        parts = self._parts(step)
        self._script.answered({part.call_id: part.name for part in parts if isinstance(part, FunctionCall)})
        self._responder.add(response, parts, now, complete=True)

    def _parts(self, step: Answer) -> list[Part]:
        match step:
            case Say(text):
                return [Speech(text)]
            case Play(recording):
                return [Speech(recording.name, recording)]
            case Call():
                return [self._function_call(step)]
            case Compound(mcp, said, calls):
                opening = [] if mcp is None else [_mcp_call(mcp)]
                message = [] if said is None else [Speech(said)]
                return [*opening, *message, *map(self._function_call, calls)]
            case Parrot():
                turn = self._script.last_turn
                return [Speech(_NOTHING_HEARD) if turn is None else Speech(turn.transcript, turn.clip)]

    def _function_call(self, function: Function) -> FunctionCall:
        return FunctionCall(function.name, self._ids.new("call"), _json(function.arguments))


def _mcp_call(step: Mcp) -> McpCall:
    return McpCall(step.server, step.name, _json(step.arguments), step.output, step.seconds)


def _json(arguments: dict[str, Any] | str) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments)
