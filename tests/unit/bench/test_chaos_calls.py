"""Which calls a chaos run makes."""

from bench.chaos.run import AGENT_HANGS_UP_S, CANCELLED, HOLD_S, LEFT_TO_THE_AGENT, RATE, Options, plans
from bench.chaos.verdict import BRIEF

DISPATCHERS = [("127.0.0.1", 1), ("127.0.0.1", 2), ("127.0.0.1", 3)]


def test_the_same_seed_makes_the_same_calls() -> None:
    assert plans(Options(60.0, 4), DISPATCHERS) == plans(Options(60.0, 4), DISPATCHERS)
    assert plans(Options(60.0, 4), DISPATCHERS) != plans(Options(60.0, 5), DISPATCHERS)


def test_ten_minutes_have_more_than_two_thousand_calls_of_every_kind() -> None:
    calls = plans(Options(600.0, 1), DISPATCHERS)
    assert len(calls) == RATE * 600 >= 2000
    cancelled = [call for call in calls if call.give_up_s is not None]
    brief = [call for call in calls if call.called == BRIEF]
    assert abs(len(cancelled) / len(calls) - CANCELLED) < 0.03
    assert abs(len(brief) / len(calls) - LEFT_TO_THE_AGENT) < 0.03
    assert not [call for call in brief if call in cancelled or call.hold_s != AGENT_HANGS_UP_S]
    assert all(HOLD_S[0] <= call.hold_s <= HOLD_S[1] for call in calls if call.called != BRIEF)
