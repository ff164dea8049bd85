"""How often somebody may do something."""

from admin.api.allowance import KEYS_MAX, Allowance


def test_a_burst_is_free_and_then_it_is_so_many_a_second() -> None:
    allowance = Allowance(per_s=2.0, burst=3)
    assert [allowance.take("a", 0.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert allowance.take("a", 0.0) == 0.5
    assert allowance.take("a", 0.25) == 0.25
    assert allowance.take("a", 0.5) == 0.0
    assert allowance.take("a", 0.5) > 0


def test_what_is_not_used_is_saved_up_to_the_burst() -> None:
    allowance = Allowance(per_s=2.0, burst=3)
    allowance.take("a", 0.0)
    assert [allowance.take("a", 1000.0) == 0.0 for _ in range(4)] == [True, True, True, False]


def test_everybody_has_an_allowance_of_his_own() -> None:
    allowance = Allowance(per_s=1.0, burst=1)
    assert allowance.take("a", 0.0) == 0.0
    assert allowance.take("b", 0.0) == 0.0
    assert allowance.take("a", 0.0) > 0


def test_only_so_many_are_remembered_and_the_latest_are() -> None:
    allowance = Allowance(per_s=1.0, burst=1)
    for number in range(KEYS_MAX + 1):
        allowance.take(f"{number}", 0.0)
    assert allowance.take("0", 0.0) == 0.0
    assert allowance.take(f"{KEYS_MAX}", 0.0) > 0
