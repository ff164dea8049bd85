"""Walks one session through its scenario. Does not send or time anything: it says what comes next."""

from simulator.voicelive.scenario import Answer, ExpectOutput, Parrot, Scenario, Step


class Script:
    """A position in a scenario, and what did not go as the scenario expected (`failures`)."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._at = 0
        self._call_id: str | None = None
        self.failures: list[str] = []

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

    def called(self, call_id: str) -> None:
        """The `call` step was taken, under this call id."""
        self._call_id = call_id
        self.done()

    def output(self, call_id: str, output: str) -> None:
        """The client sent a function call's output; it settles an expectation, well or badly."""
        step = self.step
        if not isinstance(step, ExpectOutput):
            return
        if call_id != self._call_id:
            self._fail("the output is for another call")
        elif step.contains not in output:
            self._fail("the output lacks the expected text")
        self.done()

    def give_up_waiting(self) -> None:
        """A response was asked for while an output was still expected."""
        self._fail("a response was asked for before the output")
        self.done()

    def _fail(self, what: str) -> None:
        self.failures.append(f"step {self._at + 1}: {what}")
