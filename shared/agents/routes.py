"""Who answers which call: the routes of an agent file, tried in order. It knows agents by their names only."""

import fnmatch
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Annotated

from pydantic import AfterValidator, Field

from shared.agents.facts import CallFacts
from shared.agents.parts import Line, Name, Part, Strings

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _networks(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        ipaddress.ip_network(value)
    return values


class Route(Part):
    """Which calls an agent gets: those for which everything given here is true. In globs * is any text, ? any sign."""

    agent: Name
    """Who answers."""
    called: Strings = ()
    """Globs, one of which fits the called number."""
    caller: Strings = ()
    """Globs, one of which fits the caller's number."""
    header: dict[Line, Line] = Field(default_factory=dict)
    """Header fields of the INVITE and globs, all of which fit."""
    trunk: Annotated[Strings, AfterValidator(_networks)] = ()
    """Networks, one of which the INVITE came from."""

    def fits(self, facts: CallFacts) -> bool:
        """Says whether everything given here is true of the call."""
        for _, true in self._conditions:
            if not true(facts):
                return False
        return True

    def misses(self, facts: CallFacts) -> list[str]:
        """Returns what is not true of the call, by the keys above; none when the route fits."""
        return [key for key, true in self._conditions if not true(facts)]

    @cached_property
    def _conditions(self) -> tuple[tuple[str, "_Condition"], ...]:
        # Made once: a dispatcher asks hundreds of routes about each call, and fnmatch itself remembers 256 globs only.
        called, caller, networks = _one_of(self.called), _one_of(self.caller), [*map(ipaddress.ip_network, self.trunk)]
        conditions: dict[str, _Condition] = {}
        if self.called:
            conditions["called"] = lambda facts: called(facts.called)
        if self.caller:
            conditions["caller"] = lambda facts: caller(facts.caller)
        if self.trunk:
            conditions["trunk"] = lambda facts: _within(networks, facts.trunk)
        for name, glob in self.header.items():
            conditions[f"header.{name}"] = _of_header(name, glob)
        return tuple(conditions.items())


@dataclass(frozen=True)
class Routing:
    """Who answers, of all agents of a file."""

    default: str
    """Who answers what no route fits."""
    routes: tuple[Route, ...] = ()

    @cached_property
    def always(self) -> str | None:
        """Who answers every call, whatever is known of it; None when that depends."""
        return self.default if all(route.agent == self.default for route in self.routes) else None

    def agent(self, facts: CallFacts) -> str:
        """Returns who answers this call: the agent of the first route that fits, or the default."""
        index = self.route(facts)
        return self.default if index is None else self.routes[index].agent

    def route(self, facts: CallFacts) -> int | None:
        """Returns the index of the first route that fits, as one that asks for nothing always does; None without."""
        return next((index for index, route in enumerate(self.routes) if route.fits(facts)), None)


_Condition = Callable[[CallFacts], object]
"""Says of a call, by whether what it returns is true, that it fulfils one condition of a route."""


def _one_of(globs: tuple[str, ...]) -> Callable[[str], object]:
    return re.compile("|".join(map(fnmatch.translate, globs))).match


def _of_header(name: str, glob: str) -> _Condition:
    key, fits = name.lower(), _one_of((glob,))
    return lambda facts: key in facts.headers and fits(facts.headers[key])


def _within(networks: list[_Network], address: str) -> bool:
    known = _address(address)
    return known is not None and any(known in network for network in networks)


@lru_cache(maxsize=1024)
def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:  # an address that is unknown is in no network
        return None
