"""What an INVITE asks of the pool, by the agent file; and that a worker chooses the same agent."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from dispatcher.agents import AgentDirectory, facts_of
from dispatcher.sip.message import Request, parse
from shared.agents import demands, file
from shared.agents.demands import Demands
from shared.agents.facts import CallFacts
from shared.agents.file import Agents
from shared.agents.model import Resource
from shared.agents.outline import Quota
from shared.agents.secrets import Secrets
from shared.errors import ConfigError
from shared.messages import ResourceQuota
from shared.settings import DispatcherSettings, WorkerSettings, load
from worker.agents import AgentBook
from worker.pjsip import invite as invites

ROUTED = """
resources: {west: {endpoint: "https://w.example", api_key: {secret: NOT_HERE}, quota: {sessions: 3}}}
agents: {gold: {labels: {pool: gold}, resource: west, priority: 8}, rest: }
routes: [{header: {X-Tier: gold}, agent: gold}, {called: "2*", agent: gold}, {trunk: 192.0.2.0/24, agent: gold}]
default: rest
"""

GOLD = Demands("gold", {"pool": "gold"}, 8, (ResourceQuota(name="west", sessions=3),))
REST = Demands("rest", {}, 5, (ResourceQuota(name="", connections_per_minute=60),))

ELSEWHERE = "198.51.100.1"


def write(path: Path, text: str) -> None:
    path.write_text(text)


def request(data: bytes) -> Request:
    message = parse(data)
    assert isinstance(message, Request)
    return message


def lines(uri: str, sender: str, receiver: str, headers: list[str]) -> bytes:
    head = [
        f"INVITE {uri} SIP/2.0",
        "Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bKx",
        f"From: {sender};tag=1" if "<" in sender else f"f: <{sender}>;tag=1",
        f"To: {receiver}",
        "Call-ID: 1@h",
        "CSeq: 1 INVITE",
    ]
    return "\r\n".join([*head, *headers, "Content-Length: 0", "", ""]).encode()


def invite(uri: str = "sip:100@192.0.2.1", *headers: str) -> Request:
    return request(lines(uri, "<sip:7@h>", "<sip:100@h>", [*headers]))


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "agents.yaml"
    path.write_text(ROUTED)
    return path


def directory(path: Path | None) -> AgentDirectory:
    values = {"LEASE_SECRET": "0123456789abcdef", "VOICE_LIVE_CONNECTIONS_PER_MINUTE": "60"}
    return AgentDirectory(load(DispatcherSettings, **values, AGENTS_FILE=str(path or ""), AGENTS_RELOAD_S=0.001))


async def opened(path: Path | None) -> AgentDirectory:
    agents = directory(path)
    await agents.open()
    return agents


async def test_without_a_file_every_call_asks_for_the_resource_of_the_settings(path: Path) -> None:
    agents = await opened(None)
    await agents.reload()
    expected = Demands("default", {}, 5, (ResourceQuota(name="", connections_per_minute=60),))
    assert agents.demands(invite(), ELSEWHERE) == expected


@pytest.mark.parametrize(
    ("call", "source", "asked"),
    [
        (invite(), ELSEWHERE, REST),
        (invite("sip:2001@192.0.2.1"), ELSEWHERE, GOLD),
        (invite("sip:100@192.0.2.1", "x-tier: gold"), ELSEWHERE, GOLD),
        (invite("sip:100@192.0.2.1", "X-Tier: silver"), ELSEWHERE, REST),
        (invite(), "192.0.2.7", GOLD),
    ],
)
async def test_the_route_decides_what_a_call_asks_for(path: Path, call: Request, source: str, asked: Demands) -> None:
    assert (await opened(path)).demands(call, source) == asked


async def test_no_header_is_read_when_one_agent_answers_always(path: Path) -> None:
    write(path, "{agents: {only: }, routes: [{called: '1*', agent: only}]}")
    unread = Request(b"INVITE", b"", [], {}, b"")
    assert (await opened(path)).demands(unread, ELSEWHERE).agent == "only"


async def test_a_bad_file_at_the_start_is_refused(path: Path) -> None:
    write(path, "agents: {a: {priority: high}}")
    with pytest.raises(ConfigError, match=r"agents\.a\.priority"):
        await opened(path)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_text("agents: {a: {priority: high}}"),
        lambda path: path.write_text("agents: ["),
        lambda path: path.unlink(),
    ],
)
async def test_a_bad_file_keeps_the_old_one_and_is_reported_once(path: Path, spoil: Callable[[Path], object]) -> None:
    agents = await opened(path)
    before = agents.current
    spoil(path)
    with capture_logs() as logs:
        await agents.reload()
        await agents.reload()
    assert [line["event"] for line in logs] == ["agents.refused"]
    assert agents.current is before


async def test_a_changed_file_is_taken_whole(path: Path) -> None:
    agents = await opened(path)
    write(path, "agents: {only: {priority: 1}}")
    with capture_logs() as logs:
        await agents.reload()
    assert logs == [{"event": "agents.reloaded", "agents": 1, "log_level": "info"}]
    assert agents.demands(invite(), ELSEWHERE).agent == "only"


# ---- The same agent as on the worker ----

MANY = """
agents: {a: , b: , c: , d: , e: , rest: }
routes:
  - {called: "1*", caller: "+49*", agent: a}
  - {header: {X-Tier: "g*", Subject: "?"}, agent: b}
  - {caller: ["7", "[!a-z+]*"], agent: c}
  - {called: ["2?", "a;b"], trunk: [192.0.2.0/24, "2001:db8::/32"], agent: d}
  - {header: {P-Asserted-Identity: "*+49*"}, agent: e}
default: rest
"""

TRUNKS = st.sampled_from(["192.0.2.1", "198.51.100.1", "2001:db8::1", ""])
USERS = st.sampled_from(["1", "100", "21", "7", "+4930", "a%3Bb", "+4930;ext=1", "Anonymous", "x:secret"])
URIS = USERS.map("sip:{}@192.0.2.1;x=y".format) | st.sampled_from(["sip:192.0.2.1", "tel:+49-30;phone-context=h"])
ADDRESSES = URIS.map("<{}>".format) | URIS.map('"A, <b> \\"c\\"" <{}>'.format) | URIS
NAMES = st.sampled_from(["d", "J", "X-Tier", "x-tier", "Subject", "s", "P-Asserted-Identity", "Privacy", "X-Other"])
VALUES = ADDRESSES | st.sampled_from(
    ["gold", "g", "1", "", "id", "none", "critical;user", "gr\u00fcn", "a\r\n b", "a \r\n\t b"]
)
HEADERS = st.lists(st.builds("{}: {}".format, NAMES, VALUES), max_size=6)


def seen_by_worker(data: bytes, trunk: str) -> CallFacts:
    seen = invites.parse(data.decode("utf-8", "surrogateescape"))
    return CallFacts(seen.caller, seen.called, seen.headers, trunk, datetime.now(UTC))


BELOW = file.Base({"model": "gpt-4.1-mini"}, Resource(endpoint="https://one.example"))
ROSTER = demands.parse(MANY.encode(), Path("agents.yaml"), Quota())
AGENTS = file.parse(MANY.encode(), Path("agents.yaml"), BELOW, Secrets({}))


@given(URIS, ADDRESSES, ADDRESSES, HEADERS, TRUNKS)
def test_dispatcher_and_worker_know_the_same_of_a_call_and_choose_the_same_agent(
    uri: str, sender: str, receiver: str, headers: list[str], trunk: str
) -> None:
    data = lines(uri, sender, receiver, headers)
    here, there = facts_of(request(data), trunk), seen_by_worker(data, trunk)
    assert (here.caller, here.called, here.headers) == (there.caller, there.called, there.headers)
    assert ROSTER.choose(here).agent == AGENTS.choose(there)[0]


async def test_dispatcher_and_worker_read_the_same_of_one_file(path: Path) -> None:
    write(path, MANY.replace("agents: {a: ,", "agents: {a: {priority: 9, labels: {pool: gold}},"))

    async def prepare(_: Agents) -> None:
        pass

    values = {"LEASE_SECRET": "0123456789abcdef", "AZURE_VOICELIVE_ENDPOINT": "https://one.example"}
    book = AgentBook(load(WorkerSettings, **values, AGENTS_FILE=str(path)), prepare)
    await book.open()
    agents = (await opened(path)).current.agents
    for name, agent in book.current.agents.items():
        asked = agents[name]
        resources = tuple(resource.name for resource in asked.resources)
        assert (asked.labels, asked.priority, resources) == (agent.labels, agent.priority, agent.resource)
