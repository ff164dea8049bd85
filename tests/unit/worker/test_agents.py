"""The agents of a running worker: a good file is taken whole, a bad one not at all."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from shared.agents.facts import CallFacts
from shared.agents.file import Agents
from shared.errors import ConfigError
from shared.settings import WorkerSettings, load
from worker.agents import AgentBook, Prepare

FACTS = CallFacts(caller="", called="", headers={}, trunk="", at=datetime(2026, 1, 1, tzinfo=UTC))

FIRST = "agents: {first: }"

PATIENCE_S = 10.0


def write(path: Path, text: str) -> None:
    path.write_text(text)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "agents.yaml"
    write(file, FIRST)
    return file


async def nothing_to_prepare(_: Agents) -> None:
    pass


def book(path: Path | None, prepare: Prepare = nothing_to_prepare) -> AgentBook:
    values = {"LEASE_SECRET": "0123456789abcdef", "AZURE_VOICELIVE_ENDPOINT": "https://a.example"}
    return AgentBook(load(WorkerSettings, **values, AGENTS_FILE=str(path or ""), AGENTS_RELOAD_S=0.001), prepare)


async def opened(path: Path | None, prepare: Prepare = nothing_to_prepare) -> AgentBook:
    agents = book(path, prepare)
    await agents.open()
    return agents


async def test_without_a_file_the_settings_are_the_agent(path: Path) -> None:
    agents = await opened(None)
    await agents.reload()
    assert agents.current.choose(FACTS)[0] == "default"


async def test_a_bad_file_at_the_start_is_refused(path: Path) -> None:
    write(path, "agents: {first: {modle: x}}")
    with pytest.raises(ConfigError, match=r"agents\.first\.modle"):
        await opened(path)


async def test_a_changed_file_is_taken_and_running_calls_keep_their_agent(path: Path) -> None:
    agents = await opened(path)
    _, before = agents.current.choose(FACTS)
    write(path, "{agents: {first: {goodbye: Bye.}, second: }, default: first}")
    with capture_logs() as logs:
        await agents.reload()
    assert logs == [{"event": "agents.reloaded", "agents": 2, "log_level": "info"}]
    assert agents.current.choose(FACTS)[1].goodbye == "Bye."
    assert before.goodbye == "Goodbye."


async def test_a_swapped_symbolic_link_is_a_change(path: Path, tmp_path: Path) -> None:
    link, other = tmp_path / "link.yaml", tmp_path / "other.yaml"
    other.write_text("agents: {other: }")
    link.symlink_to(path)
    agents = await opened(link)
    (tmp_path / "new").symlink_to(other)
    (tmp_path / "new").replace(link)
    await agents.reload()
    assert agents.current.choose(FACTS)[0] == "other"


async def test_the_same_content_is_not_taken_again(path: Path) -> None:
    prepared: list[Agents] = []

    async def prepare(agents: Agents) -> None:
        prepared.append(agents)

    agents = await opened(path, prepare)
    write(path, FIRST)
    await agents.reload()
    assert prepared == [agents.current]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_text("agents: {first: {modle: x}}"),
        lambda path: path.write_text("agents: ["),
        lambda path: path.unlink(),
    ],
)
async def test_a_bad_file_keeps_the_old_agents_and_is_reported_once(
    path: Path, spoil: Callable[[Path], object]
) -> None:
    agents = await opened(path)
    before = agents.current
    spoil(path)
    with capture_logs() as logs:
        await agents.reload()
        await agents.reload()
    [line] = logs
    assert line["event"] == "agents.refused"
    [problem] = line["problems"]
    assert problem.startswith("agents.yaml: ")
    assert agents.current is before


async def test_a_file_that_is_mended_is_taken(path: Path) -> None:
    agents = await opened(path)
    write(path, "agents: [")
    await agents.reload()
    write(path, FIRST)
    with capture_logs() as logs:
        await agents.reload()
    assert [line["event"] for line in logs] == ["agents.reloaded"]


async def test_what_cannot_be_made_ready_is_refused(path: Path) -> None:
    async def prepare(agents: Agents) -> None:
        if "second" in agents.agents:
            raise ConfigError(["agents.second: no such function"])

    agents = await opened(path, prepare)
    write(path, "agents: {second: }")
    with capture_logs() as logs:
        await agents.reload()
    assert logs == [{"event": "agents.refused", "problems": ["agents.second: no such function"], "log_level": "error"}]
    assert agents.current.choose(FACTS)[0] == "first"


async def test_calls_get_the_old_agents_until_the_new_ones_are_ready(path: Path) -> None:
    started, ready = asyncio.Event(), asyncio.Event()

    async def prepare(agents: Agents) -> None:
        if "second" in agents.agents:
            started.set()
            await ready.wait()

    agents = await opened(path, prepare)
    write(path, "agents: {second: }")
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
        tasks.create_task(agents.reload())
        await started.wait()
        assert agents.current.choose(FACTS)[0] == "first"
        ready.set()
    assert agents.current.choose(FACTS)[0] == "second"


async def test_the_watch_sees_a_change(path: Path) -> None:
    taken = asyncio.Event()

    async def prepare(agents: Agents) -> None:
        if "second" in agents.agents:
            taken.set()

    agents = await opened(path, prepare)
    watch = asyncio.create_task(agents.watch())
    write(path, "agents: {second: }")
    async with asyncio.timeout(PATIENCE_S):
        await taken.wait()
    watch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watch
