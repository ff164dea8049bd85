"""Who answers a call, and that it has all it needs."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
from azure.core.credentials import AzureKeyCredential
from structlog.testing import capture_logs

from shared.agents.facts import CallFacts
from shared.errors import ConfigError
from shared.settings import WorkerSettings, load
from worker.media.formats import G711_ALAW, G711_ULAW
from worker.staff import Answerer, Staff

AT = datetime(2026, 1, 1, tzinfo=UTC)

WEATHER = "{type: http_request, name: weather, description: d, url: 'https://weather.example'}"


def facts(called: str = "100", **headers: str) -> CallFacts:
    return CallFacts(caller="+49731", called=called, headers=headers, trunk="", at=AT)


class Payroll:
    """Employs the staff of an agent file, and can rewrite the file."""

    def __init__(self, directory: Path, stack: AsyncExitStack) -> None:
        self._path = directory / "agents.yaml"
        self._stack = stack

    async def employ(self, text: str, **settings: object) -> Staff:
        self.write(text)
        values = {
            "LEASE_SECRET": "0123456789abcdef",
            "AZURE_VOICELIVE_ENDPOINT": "https://one.example",
            "AZURE_VOICELIVE_API_KEY": "key-one",
            "AGENTS_FILE": str(self._path),
            "SECRETS_DIR": str(self._path.parent),
            **settings,
        }
        return await self._stack.enter_async_context(Staff(load(WorkerSettings, **values)))

    def write(self, text: str) -> None:
        self._path.write_text(text)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where clips are kept that were made once."""
    return tmp_path_factory.mktemp("clips")


@pytest.fixture
async def payroll(tmp_path: Path, clips: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Payroll]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(clips))
    monkeypatch.chdir(tmp_path)
    async with AsyncExitStack() as stack:
        yield Payroll(tmp_path, stack)


def instructions(answerer: Answerer, call: CallFacts) -> str:
    return answerer.session_options(G711_ULAW, call).instructions


async def test_the_route_says_who_answers(payroll: Payroll) -> None:
    staff = await payroll.employ("""
        agents: {day: , night: }
        routes: [{called: "2*", agent: night}]
        default: day
    """)
    assert staff.answerer(facts("100")).agent.name == "day"
    assert staff.answerer(facts("200")).agent.name == "night"


async def test_a_sessions_texts_are_filled_in_with_what_is_known_of_the_call(payroll: Payroll) -> None:
    staff = await payroll.employ(
        "agents: {a: {instructions: 'Of {{ caller.number }}.', greeting: 'Hello {{ called.number }}!'}}"
    )
    options = staff.answerer(facts()).session_options(G711_ALAW, facts())
    assert (options.instructions, options.greeting) == ("Of +49731.", "Hello 100!")
    assert (options.encoding, options.rate) == ("g711_alaw", 8000)


async def test_an_agent_without_a_greeting_has_none(payroll: Payroll) -> None:
    staff = await payroll.employ("agents: {a: {greeting: null}}")
    assert staff.answerer(facts()).session_options(G711_ULAW, facts()).greeting == ""


async def test_a_session_has_the_agents_tools(payroll: Payroll) -> None:
    staff = await payroll.employ(f"agents: {{a: {{tools: [hang_up, {WEATHER}]}}}}")
    tools = staff.answerer(facts()).session_options(G711_ULAW, facts()).tools
    assert [tool["name"] for tool in tools.definitions()] == ["hang_up", "weather"]


async def test_each_resource_is_signed_in_to_with_its_own_key(payroll: Payroll, tmp_path: Path) -> None:
    (tmp_path / "KEY_TWO").write_text("key-two")
    staff = await payroll.employ("""
        resources: {two: {endpoint: "https://two.example", api_key: {secret: KEY_TWO}}}
        agents: {a: {model: m1}, b: {resource: two, model: m2}}
        routes: [{called: "2", agent: b}]
        default: a
    """)
    found = []
    for called in ("1", "2"):
        resource = staff.answerer(facts(called)).resource
        assert isinstance(resource.credential, AzureKeyCredential)
        found.append((resource.endpoint, resource.credential.key, resource.model))
    assert found == [("https://one.example", "key-one", "m1"), ("https://two.example", "key-two", "m2")]


TWO_RESOURCES = """
    resources: {two: {endpoint: "https://two.example"}, three: {endpoint: "https://three.example"}}
    agents: {a: {resource: [two, ""], model: m1}, b: {resource: [three], model: m2}}
    default: a
"""


async def test_a_call_goes_to_the_resource_it_was_given_if_it_is_one_of_its_agents(payroll: Payroll) -> None:
    staff = await payroll.employ(TWO_RESOURCES)
    found = {}
    for given in (None, "two", "", "three", "nowhere"):
        answerer = staff.answerer(facts(), given)
        found[given] = answerer.resource_name, answerer.resource.endpoint
    preferred = ("two", "https://two.example")
    assert found == {
        None: preferred,
        "two": preferred,
        "": ("", "https://one.example"),
        "three": preferred,
        "nowhere": preferred,
    }


async def test_every_resource_in_use_can_be_connected_to_without_a_call(payroll: Payroll) -> None:
    staff = await payroll.employ(TWO_RESOURCES)
    assert staff.resources() == {"", "two", "three"}
    found = {name: (staff.resource(name).endpoint, staff.resource(name).model) for name in staff.resources()}
    assert found == {
        "": ("https://one.example", "m1"),
        "two": ("https://two.example", "m1"),
        "three": ("https://three.example", "m2"),
    }
    with pytest.raises(KeyError):
        staff.resource("nowhere")


async def test_a_resource_that_no_agent_uses_is_not_one_in_use(payroll: Payroll) -> None:
    staff = await payroll.employ("resources: {two: {endpoint: 'https://two.example'}}\nagents: {a: {resource: two}}")
    assert staff.resources() == {"two"}
    with pytest.raises(KeyError):
        staff.resource("")


async def test_clips_are_ready_in_the_calls_format(payroll: Payroll) -> None:
    staff = await payroll.employ("agents: {a: {fallback: {say: Sorry.}}, b: }\ndefault: a\n")
    answerer = staff.answerer(facts())
    for wire in (G711_ULAW, G711_ALAW):
        assert answerer.filler(wire) and answerer.apology(wire)
    assert answerer.apology(G711_ULAW) != answerer.apology(G711_ALAW)


async def test_an_agent_without_an_apology_has_none(payroll: Payroll) -> None:
    staff = await payroll.employ("agents: {a: }")
    assert staff.answerer(facts()).apology(G711_ULAW) == b""


async def test_tools_that_cannot_be_used_are_refused_together(payroll: Payroll) -> None:
    with pytest.raises(ConfigError) as caught:
        await payroll.employ("""
            agents:
              a: {tools: [{type: python, name: nothing_of_that_name}]}
              b: {tools: [{type: python, name: nor_of_that}]}
            default: a
        """)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "agents.a.tools.nothing_of_that_name.name",
        "agents.b.tools.nor_of_that.name",
    ]


async def test_a_call_keeps_the_agent_and_the_tools_it_began_with(payroll: Payroll) -> None:
    staff = await payroll.employ("agents: {a: {instructions: Old., tools: [hang_up]}}")
    before = staff.answerer(facts())
    payroll.write("agents: {a: {instructions: New., tools: [send_dtmf]}}")
    await staff._book.reload()
    after = staff.answerer(facts())
    assert (instructions(before, facts()), instructions(after, facts())) == ("Old.", "New.")
    assert before.catalogue.kind("hang_up") is not None
    assert after.catalogue.kind("hang_up") is None and after.catalogue.kind("send_dtmf") is not None


async def test_a_file_whose_tools_cannot_be_used_changes_nothing(payroll: Payroll) -> None:
    staff = await payroll.employ("agents: {a: {tools: [hang_up]}}")
    payroll.write("agents: {a: {tools: [{type: python, name: nothing_of_that_name}]}}")
    with capture_logs() as logs:
        await staff._book.reload()
    assert [line["event"] for line in logs] == ["agents.refused"]
    assert staff.answerer(facts()).catalogue.kind("hang_up") is not None


async def test_a_text_that_cannot_be_filled_in_for_a_call_does_not_break_it(payroll: Payroll) -> None:
    text = "{{ 100 // called.number | length }} {{ caller.number }}"  # fails for calls without a number
    staff = await payroll.employ(f"agents: {{a: {{instructions: '{text}', greeting: '{text}'}}}}")
    with capture_logs() as logs:
        options = staff.answerer(facts("")).session_options(G711_ULAW, facts(""))
    assert (options.instructions, options.greeting) == (text, "")
    assert [(line["event"], line["agent"]) for line in logs] == [("agent.text_not_filled_in", "a")] * 2
    assert "+49731" not in str(logs)
