"""Agent files and scenarios for a pool under test, and a simulator of its own for each agent that plays one.

with voice_lives(tmp_path, {"tools": [{"say": "Hello."}]}) as services:
    path = agent_file(tmp_path, {"tools": {"resource": "tools"}}, resources=resources(services))
    with running_pool(tmp_path, AGENTS_FILE=str(path)) as pool: ...
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from shared.messages import CallRecord
from tests.acceptance.pool import Pool
from tests.acceptance.telephone import PhoneCall, finish, ringing
from tests.acceptance.voice_live import VoiceLive

KEY = {"SIMULATOR_KEY": "any"}
"""Environment of a pool whose agents have simulators of their own (`resources`)."""

Step = Mapping[str, Any]


def agent_file(directory: Path, agents: Mapping[str, Mapping[str, Any]], **top: Any) -> Path:
    """Writes an agent file and returns its path; `top` are the file's other keys: routes, default, transfers ...

    Written as an editor would who saves: a reader gets the old file or the new one.
    """
    path, new = directory / "agents.yaml", directory / "agents.yaml.new"
    new.write_text(yaml.safe_dump({"agents": {name: dict(agent) for name, agent in agents.items()}, **top}))
    return new.rename(path)


def by_number(agents: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns routes by which each agent answers the called number that is its own name."""
    return [{"called": name, "agent": name} for name in agents]


def scenario(directory: Path, name: str, steps: Sequence[Step], **top: Any) -> Path:
    """Writes a scenario (simulator/README.md) and returns its path, for `--mode script --script PATH`."""
    path = directory / f"{name}.scenario.yaml"
    path.write_text(yaml.safe_dump({"name": name, "steps": [dict(step) for step in steps], **top}, sort_keys=False))
    return path


def scripted(path: Path, *options: str) -> list[str]:
    """Returns the simulator's options for playing a scenario, with what was said shown to the test."""
    return ["--mode", "script", "--script", str(path), "--reveal", *options]


@contextmanager
def voice_lives(
    directory: Path, scenarios: Mapping[str, Sequence[Step]], *options: str
) -> Iterator[dict[str, VoiceLive]]:
    """Runs a simulator for each scenario during the block."""
    with ExitStack() as stack:
        services = {}
        for name, steps in scenarios.items():
            script = scripted(scenario(directory, name, steps), *options)
            services[name] = VoiceLive(f"simulator {name}", script, directory)
            stack.callback(services[name].end)
        yield services


def resources(services: Mapping[str, VoiceLive]) -> dict[str, dict[str, Any]]:
    """Returns the agent file's `resources` for these simulators; the key of all of them is the secret SIMULATOR_KEY."""
    return {
        name: {"endpoint": service.url, "api_key": {"secret": "SIMULATOR_KEY"}} for name, service in services.items()
    }


@dataclass(frozen=True)
class Seen:
    """One call from three sides: the telephone, the record, and Voice Live's last session."""

    phone: PhoneCall
    record: CallRecord
    session: dict[str, Any]

    @property
    def report(self) -> dict[str, Any]:
        """What the telephone reports."""
        return self.phone.report

    @property
    def heard_ms(self) -> list[float]:
        """The length of each stretch of speech the caller heard."""
        return [heard["end"] - heard["start"] for heard in self.report["heard"]]

    @property
    def items(self) -> list[dict[str, Any]]:
        """The conversation as Voice Live has it."""
        items: list[dict[str, Any]] = self.session["items"]
        return items

    @property
    def outputs(self) -> dict[str, list[str]]:
        """What the model was told by each function, by its name."""
        names = {item["call_id"]: item["name"] for item in self.items if item["type"] == "function_call"}
        outputs: dict[str, list[str]] = {}
        for item in self.items:
            if item["type"] == "function_call_output":
                outputs.setdefault(names[item["call_id"]], []).append(item["output"])
        return outputs

    @property
    def told(self) -> list[str]:
        """What the model was told in the caller's place, such as digits."""
        return [
            item["text"] for item in self.items if item.get("role") == "user" and item.get("text", "").startswith("[")
        ]

    def assert_went_well(self, *, ended_by: str = "caller") -> None:
        """Fails unless the call went as the caller planned and the model got what its scenario expects.

        A call that the pool ends may be over before the telephone has counted the pause that ends an answer.
        """
        assert self.report["ended_by"] == ended_by, self.report
        assert self.report["ok"] or (ended_by, self.report["reason"]) == ("pool", "the other side hung up"), self.report
        assert self.session["script"]["failures"] == [], self.session["script"]
        assert self.record.counters["session_errors"] == 0, self.session["sent"]


def ring_each(
    pool: Pool, callers: Mapping[str, tuple[str, Sequence[str]]], services: Mapping[str, VoiceLive] | None = None
) -> dict[str, Seen]:
    """Has all callers call at once, each a number with options of the telephone, and returns what was seen of each.

    The agents named in `services` have their sessions there, all others at the pool's own simulator.
    """
    with ExitStack() as stack:
        phones = {
            name: stack.enter_context(ringing(pool, *options, called=called))
            for name, (called, options) in callers.items()
        }
        calls = {name: finish(phone, pool)[0] for name, phone in phones.items()}
    return {name: seen(pool, call, services or {}) for name, call in calls.items()}


def seen(pool: Pool, call: PhoneCall, services: Mapping[str, VoiceLive]) -> Seen:
    """Returns what was seen of a call that is over."""
    record = pool.record(call.call_id)
    return Seen(call, record, services.get(record.agent, pool.voice_live).session(record.sessions[-1]))
