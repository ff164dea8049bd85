"""What is done about the call itself: the model's function calls, keys that the caller presses, leaving, transfers.

Tools that are none of the call's are only asked for (`RunTool`). A call is left, and a caller transferred, when
everything that was to be said has been heard: `Session._settle` says when, by `_go`.
"""

from typing import Any

from shared.agents.model import CollectDigitsTool, HangUpTool, SendDtmfTool, TransferTool
from shared.ending import CallEnd
from worker.tools.catalogue import BadCall
from worker.voicelive import actions as do
from worker.voicelive import events, messages
from worker.voicelive.alarms import Alarm
from worker.voicelive.digits import Collector, Entry
from worker.voicelive.floor import ANSWER, Purpose
from worker.voicelive.memory import ToolCall, Typed
from worker.voicelive.rules.state import LEAVE_S, Collecting, Leaving, Moving, State, as_json


class Acts(State):
    """What is decided about acting."""

    def _output_done(self, event: events.OutputItemDone, now: float) -> None:
        item = event.item
        if item.type == "mcp_approval_request":
            self._send(messages.refused_approval(item.id))
        elif item.type == "function_call":
            self.memory.entries.append(ToolCall(item.call_id, item.name, item.arguments, now))
            self._errands.begun(event.response_id, item.call_id)
            self._call(event.response_id, item, now)

    def _call(self, response_id: str, item: events.OutputItem, now: float) -> None:
        arguments = self.options.tools.check(item.name, item.arguments, self.hidden_digits)
        if isinstance(arguments, BadCall):
            self._answer_call(item.call_id, as_json(error=arguments.message), now, failed=True)
            return
        match self.options.tools.kind(item.name):
            case HangUpTool() | TransferTool() if self._leaving is not None or self._moving is not None:
                told = as_json(error="the call is being ended or transferred already")
                self._answer_call(item.call_id, told, now, failed=True, go_on=False)
            case HangUpTool():
                said = self._spoke == response_id
                farewell = arguments.get("farewell") or ("" if said else self._agent.goodbye)
                self._leave(CallEnd.AGENT_HANGUP, farewell, now, call_id=item.call_id)
            case TransferTool():
                self._moving = Moving(arguments["target"], item.call_id)
                if arguments.get("announcement"):
                    self._say(Purpose.SAY, arguments["announcement"], now)
            case SendDtmfTool():
                self._do(do.SendDigits(item.call_id, arguments["digits"]))
            case CollectDigitsTool():
                self._begin_collecting(item.call_id, arguments, now)
            case _:
                self._do(do.RunTool(item.call_id, item.name, arguments))

    def _answer_call(self, call_id: str, output: str, now: float, *, failed: bool = False, go_on: bool = True) -> None:
        """Gives the model a function call's result; with `go_on` it shall say something to it."""
        call = self.memory.tool_call(call_id)
        if call is None or call.output is not None:
            return
        call.output, call.done_at, call.failed = output, now, failed
        if self._live is not None:  # otherwise the next connection is told with everything else
            self._send(messages.function_output(call_id, output, self._new_item()))
        if self._errands.done(call_id, answer_wanted=go_on):
            self._floor.want(ANSWER)

    def _referred(self, status: int, now: float) -> None:
        """The REFER has its final status."""
        moving, self._moving = self._moving, None
        if moving is None:
            return
        if moving.ordered_to:
            self._do(do.OrderOver("" if 200 <= status < 300 else _why(status)))
        if 200 <= status < 300:
            self.transferred_to = moving.target
            self._answer_call(moving.call_id, as_json(result="transferred"), now, go_on=False)
            self._do(do.HangUp(CallEnd.TRANSFERRED))
        elif moving.otherwise is not None:
            self._do(do.Mark("transfer_failed"))
            self._do(do.HangUp(moving.otherwise))
        elif moving.call_id:
            self._do(do.Mark("transfer_failed"))
            self._answer_call(moving.call_id, as_json(error=_why(status)), now, failed=True)
        else:
            self._do(do.Mark("transfer_failed"))
            self._tell(
                f"[The transfer to {moving.target} did not work: {_why(status)}. The caller is still here.]", now
            )

    def _begin_collecting(self, call_id: str, arguments: dict[str, Any], now: float) -> None:
        if self._collecting is not None:
            self._answer_call(call_id, as_json(error="digits are being collected already"), now, failed=True)
            return
        dtmf = self._agent.dtmf
        timeout_s = float(arguments.get("timeout_s", max(10.0, dtmf.inter_digit_s)))
        entry = Entry(
            max_digits=arguments["max_digits"],
            terminator=arguments.get("terminator", dtmf.terminator),
            inter_digit_s=float(arguments.get("timeout_s", dtmf.inter_digit_s)),
        )
        self._collecting = Collecting(call_id, Collector(entry), arguments.get("sensitive", False), timeout_s)
        self._disown()  # it is the caller who is waited for now
        self._stop_filler()
        for digit in self._keys.take():  # typed ahead
            if self._collecting is not None:
                self._collect(self._collecting, digit, now)

    def _ends_entry(self, digit: str, now: float) -> bool:
        """Says whether a key only ends an entry that was complete without it: people press it out of habit."""
        terminator, until = self._needless_terminator
        self._needless_terminator = "", 0.0
        return digit == terminator and now <= until

    def _collect(self, collecting: Collecting, digit: str, now: float) -> None:
        entry = collecting.collector.press(digit)
        if entry is not None:
            self._collected(collecting, entry, now)
        else:
            self._alarms.set(Alarm.DIGITS, now + collecting.collector.pause_s)

    def _collected(self, collecting: Collecting, digits: str, now: float) -> None:
        self._collecting = None
        self._alarms.clear(Alarm.DIGITS)
        self._needless_terminator = collecting.collector.terminator, now + collecting.collector.pause_s
        if not digits:
            self._answer_call(collecting.call_id, as_json(error="the caller typed nothing"), now, failed=True)
            return
        self.memory.entries.append(Typed(digits, now, collecting.sensitive))
        self._do(do.Mark("digits"))
        shown = digits
        if collecting.sensitive:
            shown = f"<digits-{len(self.hidden_digits) + 1}>"
            self.hidden_digits[shown] = digits
        self._answer_call(collecting.call_id, as_json(digits=shown, count=len(digits)), now)

    def _typed(self, digits: str, now: float) -> None:
        self._alarms.clear(Alarm.DIGITS)
        if digits:
            entry = Typed(digits, now)
            self._do(do.Mark("digits"))
            self._tell(messages.typed(digits), now, entry)

    def _choose(self, digit: str, now: float) -> None:
        entry = self._agent.dtmf.menu[digit]
        self.memory.entries.append(Typed(digit, now))
        self._do(do.Mark("digits"))
        if entry.transfer is not None:
            self._moving = self._moving or Moving(entry.transfer)
        elif entry.hang_up and self._live is None:  # nobody is there to say goodbye
            self._do(do.HangUp(CallEnd.AGENT_HANGUP))
        elif entry.hang_up:
            self._leave(CallEnd.AGENT_HANGUP, self._agent.goodbye, now)
        else:
            self._say(Purpose.SAY, entry.say or "", now)

    def _remember(self, digits: str, now: float, *, sensitive: bool = False) -> None:
        if digits:
            self.memory.entries.append(Typed(digits, now, sensitive))

    def _leave(self, end: CallEnd, farewell: str, now: float, *, call_id: str = "", revocable: bool = True) -> None:
        """Ends the call once the farewell, and what is being said now, has been heard."""
        if self._leaving is not None and not self._leaving.revocable:
            return
        if self._moving is not None and self._moving.referred:
            self._moving.otherwise = end  # somebody else may take the caller over at any moment
            return
        if self._moving is not None and self._moving.ordered_to:
            self._do(do.OrderOver("the call is being ended"))
        dropped = [each.call_id for each in (self._moving, self._leaving) if each is not None]
        self._moving = None
        self._leaving = Leaving(end, call_id, revocable)
        for each in dropped:
            self._answer_call(each, as_json(error="the call is being ended"), now, failed=True, go_on=False)
        self._alarms.set(Alarm.LEAVE, now + LEAVE_S)
        if farewell:
            self._say(Purpose.ASK if revocable else Purpose.SAY, farewell, now)

    def _stay(self, now: float) -> None:
        """The caller went on talking: the call is not ended."""
        leaving, self._leaving = self._leaving, None
        self._alarms.clear(Alarm.LEAVE)
        if leaving is not None and leaving.call_id:
            told = as_json(error="not hung up: the caller went on talking")
            self._answer_call(leaving.call_id, told, now, failed=True, go_on=False)

    def _caller_acted(self, now: float) -> None:
        """The caller spoke or pressed a key."""
        self._prompts_left = self._agent.silence.prompts
        self._alarms.clear(Alarm.SILENCE)
        self._floor.caller_spoke()
        if self._leaving is not None and self._leaving.revocable:
            self._stay(now)

    def _go(self, now: float) -> None:
        """Leaves or transfers, if that is what was waited for."""
        if self._leaving is not None and not self._errands.others_run(self._leaving.call_id):
            if self._leaving.call_id:
                self._answer_call(self._leaving.call_id, as_json(result="hung up"), now, go_on=False)
            self._do(do.HangUp(self._leaving.end))
            self._leaving = None
            self._alarms.clear(Alarm.LEAVE)
        elif self._moving is not None and not self._moving.referred:
            self._moving.referred = True
            self._stop_filler()
            uri = self._moving.ordered_to or self._agent.transfers[self._moving.target].uri
            self._do(do.Transfer(uri))


def _why(status: int) -> str:
    """Returns what the model is told of a transfer's SIP status (RFC 3261 section 21)."""
    reasons = {408: "nobody answered", 480: "not available", 486: "busy", 600: "busy", 603: "declined"}
    return reasons.get(status, f"it failed with SIP status {status}")
