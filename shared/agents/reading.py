"""An agent file between YAML and model: defaults are put under agents, names looked up, problems put in their place.

It types nothing. `shared/agents/file.py` makes whole agents of it, `shared/agents/demands.py` what dispatchers need.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from shared.agents.merging import merged
from shared.agents.problems import Found
from shared.errors import ConfigError

T = TypeVar("T")

Build = Callable[[str, dict[Any, Any]], tuple[T | None, list[Found]]]
"""Makes something of an agent's name and of what it comes to, or says everything that is wrong with it."""


def read(path: Path) -> bytes:
    """Returns what is in the file; raises ConfigError when it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError([f"{path.name}: cannot be read ({type(error).__name__})"]) from error


class Draft:
    """The values of one file, as they are written."""

    def __init__(self, values: dict[Any, Any]) -> None:
        agents = values.get("agents")
        if isinstance(agents, dict):  # an agent that says nothing is one that is as the defaults say
            values = {**values, "agents": {name: {} if own is None else own for name, own in agents.items()}}
        self.values = values

    def agents(self, below: Mapping[str, Any], build: Build[T]) -> tuple[dict[str, T], list[str]]:
        """Returns what `build` makes of each agent with its defaults, and the problems; `below` is put under those."""
        built: dict[str, T] = {}
        problems: list[str] = []
        inherited = merged(self._mapping("defaults"), merged({"transfers": self._mapping("transfers")}, below))
        for key, own in self._mapping("agents").items():
            if not isinstance(own, dict):
                continue  # the file as a whole has said so
            name, here = str(key), ("agents", str(key))
            if "name" in own:
                problems.append(line(Found((*here, "name"), "is not written: the key above is the name")))
                continue
            raw = merged(own, inherited)
            agent, trouble = build(name, raw)
            trouble += self._unknown_resources(raw)
            problems += [line(self._in_file(problem, here, own)) for problem in trouble]
            if agent is not None:
                built[name] = agent
        return built, problems

    def unknown_names(self) -> Iterator[str]:
        """Yields what names an agent that there is not; by what is written, so that other mistakes hide none of it."""
        agents, routes, default = self._mapping("agents"), self.values.get("routes"), self.values.get("default")
        for index, route in enumerate(routes if isinstance(routes, list) else ()):
            name = route.get("agent") if isinstance(route, dict) else None
            if isinstance(name, str) and name not in agents:
                yield f"routes.{index}.agent: {name} is not one of agents ({_list(agents)})"
        if isinstance(default, str) and default not in agents:
            yield f"default: {default} is not one of agents ({_list(agents)})"
        if default is None and len(agents) > 1:
            yield "default: is missing: who answers calls that no route fits?"

    def _unknown_resources(self, raw: Mapping[Any, Any]) -> Iterator[Found]:
        resources, written = self._mapping("resources"), raw.get("resource")
        named: dict[tuple[str, ...], Any] = {("resource",): written}
        if isinstance(written, list):
            named = {("resource", str(index)): name for index, name in enumerate(written)}
        for path, name in named.items():
            if isinstance(name, str) and name not in {"", *resources}:
                yield Found(path, f"{name} is not one of resources ({_list(resources)})")

    def _in_file(self, problem: Found, here: tuple[str, ...], own: dict[Any, Any]) -> Found:
        """Says where in the file it is: in the agent, in what it inherits, or, of what does not go together, here."""
        if not problem.involves and not _has(own, problem.path):
            for inherited, where in ((self._mapping("defaults"), ("defaults",)), (self.values, ())):
                if _has(inherited, problem.path):
                    return problem._replace(path=(*where, *problem.path))
        return problem._replace(path=(*here, *problem.path))

    def _mapping(self, key: str) -> dict[Any, Any]:
        value = self.values.get(key)
        return value if isinstance(value, dict) else {}


def line(problem: Found) -> str:
    """Returns the problem as it is reported."""
    return f"{'.'.join(problem.path)}: {problem.text}" if problem.path else problem.text


def _list(names: Mapping[Any, Any]) -> str:
    return ", ".join(map(str, names)) or "there are none"


def _has(mapping: Any, path: tuple[str, ...]) -> bool:
    """Whether the mapping has something at the path, or could have it: its parent is there and not just text."""
    for index, step in enumerate(path):
        inner = mapping[int(step)] if isinstance(mapping, list) else _get(mapping, step)
        if inner is _NOTHING:
            return index > 0 and index == len(path) - 1
        mapping = inner
    return True


_NOTHING = object()


def _get(mapping: Any, step: str) -> Any:
    if isinstance(mapping, dict):
        return next((value for key, value in mapping.items() if str(key) == step), _NOTHING)
    return _NOTHING
