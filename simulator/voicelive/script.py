"""Walks through a scenario. Does not send or time anything: it says what comes next.

One script belongs to one session, or to all sessions of a process, one after the other: a session that is opened when
another was lost goes on where that one stopped. An answer that was begun counts as given.
"""

from collections.abc import Mapping

from simulator.voicelive.listener import Turn
from simulator.voicelive.scenario import (
    Answer,
    Expectation,
    ExpectMessage,
    ExpectOutput,
    ExpectRequest,
    Parrot,
    Scenario,
    Step,
)

_AWAITED = {ExpectOutput: "output", ExpectMessage: "message", ExpectRequest: "request"}


class Script:
    """A position in a scenario, and what did not go as the scenario expected (`failures`).

    What the client does counts for an expectation also when it comes before the expectation's turn: an output after
    the last answer with calls, words after the last answer. `last_turn` is the caller's, which a parrot says back.
    """

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._at = 0
        self._calls: dict[str, str] = {}
        self._all_calls: set[str] = set()
        self._outputs: list[tuple[str, str]] = []
        self._messages: list[str] = []
        self._requests: list[str] = []
        self.failures: list[str] = []
        self.last_turn: Turn | None = None

    @property
    def position(self) -> int:
        """How many steps are done in this round."""
        return self._at

    @property
    def step(self) -> Step:
        """The step to take now; parroting once all are done."""
        return self._scenario.steps[self._at] if self._at < len(self._scenario.steps) else Parrot()

    @property
    def heard(self) -> str | None:
        """The transcript the scenario gives the caller's turn that the next answer belongs to."""
        rest = (*self._scenario.steps[self._at :], Parrot())
        return next(step.heard for step in rest if isinstance(step, Answer))

    def done(self) -> None:
        """The step was taken; go on to the next."""
        self._at = min(self._at + 1, len(self._scenario.steps))
        if self._at == len(self._scenario.steps) and self._scenario.at_end == "repeat":
            self._at = 0

    def answered(self, calls: Mapping[str, str]) -> None:
        """An answer was given; `calls` are the function calls in it, names by call id."""
        if calls:
            self._calls, self._outputs = dict(calls), []
            self._all_calls |= calls.keys()
        self._messages, self._requests = [], []
        self.done()

    def output(self, call_id: str, output: str) -> None:
        """The client sent a function call's output. One sent again, in a new session, changes nothing."""
        if call_id in self._calls:
            self._outputs.append((self._calls.pop(call_id), output))
        elif call_id not in self._all_calls and isinstance(self.step, ExpectOutput):
            self._fail("the output is for another call")

    def message(self, text: str) -> None:
        """The client created a user message."""
        self._messages.append(text)

    def request(self, text: str) -> None:
        """The client asked for a response in these words."""
        self._requests.append(text)

    def settle(self) -> bool:
        """Go on if the expectation at hand has been met, or can no longer be; says whether it went on."""
        match self.step:
            case ExpectOutput(contains, name):
                return self._settle_output(contains, name)
            case ExpectMessage(contains):
                return self._settle_text(self._messages, contains)
            case ExpectRequest(contains):
                return self._settle_text(self._requests, contains)
        return False

    def give_up(self, step: Expectation) -> None:
        """A response is under way, asked for while something else was still expected."""
        self._fail(f"a response was asked for before the {_AWAITED[type(step)]}")

    def _settle_output(self, contains: str, name: str | None) -> bool:
        fitting = [output for output in self._outputs if name in (None, output[0])]
        good = next((output for output in fitting if contains in output[1]), None)
        if good is not None:
            self._outputs.remove(good)
            self.done()
            return True
        if not fitting or any(name in (None, waiting) for waiting in self._calls.values()):
            return False
        self._outputs.remove(fitting[0])
        self._fail("the output lacks the expected text")
        return True

    def _settle_text(self, texts: list[str], contains: str) -> bool:
        found = next((index for index, text in enumerate(texts) if contains in text), None)
        if found is None:
            return False
        del texts[: found + 1]
        self.done()
        return True

    def _fail(self, what: str) -> None:
        self.failures.append(f"step {self._at + 1}: {what}")
        self.done()
