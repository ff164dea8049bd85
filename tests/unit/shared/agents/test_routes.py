"""Routes: globs, headers and networks, tried in order."""

import fnmatch
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from shared.agents.facts import CallFacts
from shared.agents.routes import Route, Routing


def call(called: str = "", trunk: str = "", **headers: str) -> CallFacts:
    return CallFacts(caller="", called=called, headers=headers, trunk=trunk, at=datetime(2026, 1, 1, tzinfo=UTC))


@given(st.lists(st.text("12*?[]!-", min_size=1, max_size=6), min_size=1, max_size=4), st.text("123", max_size=5))
def test_a_number_fits_globs_as_fnmatch_says(globs: list[str], called: str) -> None:
    route = Route(agent="a", called=tuple(globs))
    assert route.fits(call(called)) == any(fnmatch.fnmatchcase(called, glob) for glob in globs)


def test_what_does_not_fit_is_said_by_its_key() -> None:
    route = Route(
        agent="a", called=("1*",), caller=("2",), trunk=("192.0.2.0/24",), header={"X-One": "1", "X-Two": "?"}
    )
    heard = call("300", "198.51.100.7", **{"x-one": "1"})
    assert route.misses(heard) == ["called", "caller", "trunk", "header.X-Two"]


def test_an_address_that_is_unknown_is_in_no_network() -> None:
    route = Route(agent="a", trunk=("0.0.0.0/0", "::/0"))
    known = {trunk: route.fits(call(trunk=trunk)) for trunk in ("192.0.2.1", "2001:db8::1", "", "host")}
    assert known == {"192.0.2.1": True, "2001:db8::1": True, "": False, "host": False}


def test_a_route_that_was_used_is_still_equal_to_one_that_was_not() -> None:
    used, fresh = (Routing("b", (Route(agent="a", called=("1",)),)) for _ in range(2))
    assert used.agent(call("1")) == "a"
    assert used == fresh
    assert used.routes[0].model_dump() == fresh.routes[0].model_dump()
