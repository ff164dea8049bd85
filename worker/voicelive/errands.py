"""The function calls of the model: which still run, and when their results can be spoken about. Pure.

output_item.done (function call) -> begun      one for each call of a response
response.done                    -> response_over
the tool's result                -> done
                                    all of a response: the model shall say something to it, unless nobody wants that
"""

from dataclasses import dataclass, field


@dataclass(slots=True)
class _Round:
    """The calls of one response."""

    running: set[str] = field(default_factory=set)
    over: bool = False
    """The response is done: nothing can be added, and a next one may be asked for."""
    answer_wanted: bool = False

    @property
    def finished(self) -> bool:
        return self.over and not self.running


class Errands:
    """The calls of all responses whose results have not all been given. Truthy while there are any."""

    def __init__(self) -> None:
        self._rounds: dict[str, _Round] = {}

    def __bool__(self) -> bool:
        return bool(self._rounds)

    def begun(self, response_id: str, call_id: str) -> None:
        """Notes a call."""
        self._rounds.setdefault(response_id, _Round()).running.add(call_id)

    def belongs(self, response_id: str) -> bool:
        """Says whether a response has calls."""
        return response_id in self._rounds

    def response_over(self, response_id: str) -> bool:
        """Notes that a response is done; says whether the model shall go on at once."""
        round_ = self._rounds.get(response_id)
        if round_ is None:
            return False
        round_.over = True
        return self._ended(response_id, round_)

    def connection_lost(self) -> None:
        """Notes that no response will be done any more; the calls run on."""
        for response_id, round_ in list(self._rounds.items()):
            round_.over = True
            if round_.finished:
                del self._rounds[response_id]

    def done(self, call_id: str, *, answer_wanted: bool) -> bool:
        """Notes a call's result; says whether the model shall go on at once."""
        for response_id, round_ in self._rounds.items():
            if call_id in round_.running:
                round_.running.discard(call_id)
                round_.answer_wanted |= answer_wanted
                return self._ended(response_id, round_)
        return False

    def others_run(self, call_id: str) -> bool:
        """Says whether calls run beside this one, or more may come."""
        return any(not each.over or each.running - {call_id} for each in self._rounds.values())

    def _ended(self, response_id: str, round_: _Round) -> bool:
        if not round_.finished:
            return False
        del self._rounds[response_id]
        return round_.answer_wanted
