"""Which fault strikes when: decided by a seed before anything runs, so that the same seed makes the same trouble.

    (seed, seconds) -> [Fault, Fault, ...]

It commits none, and knows no process: a fault's `target` is a number, of which whoever commits it makes one of those
that are there.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

GAP_S = (3.5, 7.5)
"""From one fault to the next."""

FIRST_S = 5.0
"""Before it calls begin undisturbed."""


class FaultKind(StrEnum):
    """What may happen."""

    KILL_WORKER = "worker killed"
    FREEZE_WORKER = "worker frozen"
    HANG_WORKER = "worker hung"
    """Frozen for so long that its supervisor kills it."""
    KILL_SUPERVISOR = "supervisor killed"
    STOP_POD = "pod stopped (SIGTERM)"
    DRAIN_WORKER = "worker drained and undrained"
    KILL_DISPATCHER = "dispatcher killed"
    EMPTY_REDIS = "Redis restarted empty"
    CUT_REDIS = "Redis cut off"
    SLOW_REDIS = "Redis slow (500 ms)"
    DROP_MODEL = "Voice Live connections dropped"
    REFUSE_MODEL = "Voice Live refusing"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong."""

    at_s: float
    """After the start."""
    kind: FaultKind
    target: int
    """Which of those that it may strike: to be taken modulo their number."""
    lasts_s: float
    """Until it is over, or until somebody replaces what has died."""

    @property
    def until_s(self) -> float:
        """When it is over."""
        return self.at_s + self.lasts_s


_LASTS_S = {
    FaultKind.KILL_WORKER: (0.0, 0.0),
    FaultKind.FREEZE_WORKER: (3.0, 3.0),
    FaultKind.HANG_WORKER: (15.0, 15.0),
    FaultKind.KILL_SUPERVISOR: (1.0, 3.0),
    FaultKind.STOP_POD: (0.0, 0.0),
    FaultKind.DRAIN_WORKER: (3.0, 8.0),
    FaultKind.KILL_DISPATCHER: (1.0, 3.0),
    FaultKind.EMPTY_REDIS: (0.0, 0.0),
    FaultKind.CUT_REDIS: (1.0, 10.0),
    FaultKind.SLOW_REDIS: (3.0, 10.0),
    FaultKind.DROP_MODEL: (0.0, 0.0),
    FaultKind.REFUSE_MODEL: (2.0, 6.0),
}

_DECK = (*FaultKind, FaultKind.KILL_WORKER, FaultKind.KILL_DISPATCHER)
"""All kinds come about as often as each other, and those that a pool sees most, twice as often."""

DEATHS = {FaultKind.KILL_WORKER: 10.0, FaultKind.FREEZE_WORKER: 25.0, FaultKind.HANG_WORKER: 25.0}
"""What takes with it what only a worker knows, and how long afterwards Redis has all that is to be known of it: its
calls are reaped after some 4 s, and one that thaws is told within a renewal, and says goodbye for up to 8 s."""

FORGETTING = {FaultKind.EMPTY_REDIS: 10.0, FaultKind.CUT_REDIS: 10.0}
"""What takes with it what only Redis knows, and how long afterwards workers have told it again: a renewal."""

_REDIS = {FaultKind.EMPTY_REDIS, FaultKind.CUT_REDIS, FaultKind.SLOW_REDIS}
_MODEL = {FaultKind.DROP_MODEL, FaultKind.REFUSE_MODEL}


def draw(seed: int, seconds: float) -> list[Fault]:
    """Returns the faults of a run, in order of time; all of them are over when it ends.

    A worker's death and a loss of memory in Redis keep apart: of a call that only the two of them knew, nobody could
    say afterwards what came of it. Of Redis's and the model's faults there is one at a time each. Everything else may
    coincide.
    """
    chance = random.Random(f"chaos {seed}")
    faults: list[Fault] = []
    deck: list[FaultKind] = []
    at_s = FIRST_S
    while True:
        if len(deck) < len(_DECK):
            deck += chance.sample(_DECK, len(_DECK))
        fault = next(fault for kind in list(deck) if _may_follow(fault := _of_kind(kind, at_s, chance), faults))
        if fault.until_s > seconds:
            return faults
        deck.remove(fault.kind)
        faults.append(fault)
        at_s += chance.uniform(*GAP_S)


def _of_kind(kind: FaultKind, at_s: float, chance: random.Random) -> Fault:
    return Fault(at_s, kind, chance.randrange(1 << 16), chance.uniform(*_LASTS_S[kind]))


def _may_follow(fault: Fault, before: Sequence[Fault]) -> bool:
    for other in before:
        if fault.kind in _REDIS and other.kind in _REDIS and fault.at_s < other.until_s + 1.0:
            return False
        if fault.kind in _MODEL and other.kind in _MODEL and fault.at_s < other.until_s + 1.0:
            return False
        if fault.kind in FORGETTING and fault.at_s < other.at_s + DEATHS.get(other.kind, 0.0):
            return False
        if fault.kind in DEATHS and fault.at_s < other.until_s + FORGETTING.get(other.kind, 0.0):
            return False
    return True
