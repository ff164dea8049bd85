"""What a dispatcher reads of the agent file: what it needs is checked, everything else passed over."""

import textwrap
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared.agents.demands import Demands, Roster, from_settings, parse
from shared.agents.facts import CallFacts
from shared.agents.outline import Quota
from shared.errors import ConfigError
from shared.messages import ResourceQuota
from tests.unit.shared.agents import files

OF_SETTINGS = Quota(sessions=9)


def roster(text: str) -> Roster:
    return parse(textwrap.dedent(text).encode(), Path("agents.yaml"), OF_SETTINGS)


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        roster(text)
    assert all(problem.startswith("agents.yaml: ") for problem in caught.value.problems)
    return [problem.removeprefix("agents.yaml: ") for problem in caught.value.problems]


def facts(called: str) -> CallFacts:
    return CallFacts(caller="", called=called, headers={}, trunk="", at=datetime(2026, 1, 1, tzinfo=UTC))


def test_without_a_file_the_agent_of_the_settings_asks_for_their_resource() -> None:
    found = from_settings(Quota(connections_per_minute=60))
    assert found.choose(facts("100")) == Demands("default", {}, 5, (ResourceQuota(name="", connections_per_minute=60),))
    assert found.routing.always == "default"


def test_an_agent_asks_for_what_it_and_the_defaults_say() -> None:
    found = roster("""
        resources:
          west: {endpoint: "https://w.example", quota: {connections_per_minute: 1, sessions: 2, tokens_per_minute: 3}}
        defaults: {labels: {pool: gold}, priority: 7}
        agents: {a: , b: {resource: [west, ""], labels: {region: north, pool: null}, priority: 9}}
        routes: [{called: "2*", agent: b}]
        default: a
    """)
    assert found.choose(facts("100")) == Demands("a", {"pool": "gold"}, 7, (ResourceQuota(name="", sessions=9),))
    limits = (
        ResourceQuota(name="west", connections_per_minute=1, sessions=2, tokens_per_minute=3),
        ResourceQuota(name="", sessions=9),
    )
    assert found.choose(facts("200")) == Demands("b", {"region": "north"}, 9, limits)


NOT_FOR_DISPATCHERS = """
resources: {west: {endpoint: "https://w.example", api_key: {secret: NOT_HERE}}}
prices: nothing
transfers: {desk: "sip:desk@pbx.example"}
defaults: {fallback: {wav: not-here.wav}}
agents:
  a: {resource: west, modle: x, greeting: "{{ nobody }}", foundry_agent: {name: h, project: p}, tools: [no_such_tool]}
"""


def test_what_it_does_not_need_is_passed_over_good_or_bad() -> None:
    assert roster(NOT_FOR_DISPATCHERS).agents == {"a": Demands("a", {}, 5, (ResourceQuota(name="west"),))}
    assert len(files.problems(NOT_FOR_DISPATCHERS)) > 4, "a worker has a lot to say of it"


NEEDED = """
resources: {west: {endpoint: "https://w.example", quota: {sessions: 0}}}
defaults: {priority: 11}
agents:
  a: {resource: [west, east]}
  b: {labels: {Pool: gold}}
  "c d": {}
  e: 3
routes: [{agent: z, called: 100}, {agent: a, trunk: 192.0.2.1/24}]
default: nobody
"""


def test_every_problem_of_what_it_needs_is_reported_at_once_as_a_worker_reports_it() -> None:
    found = problems(NEEDED)
    assert {problem.partition(": ")[0] for problem in found} == {
        "resources.west.quota.sessions",
        "defaults.priority",
        "agents.a.resource.1",
        "agents.b.labels.Pool",
        "agents.c d",
        "agents.e",
        "routes.0.agent",
        "routes.0.called",
        "routes.1.trunk",
        "default",
    }
    assert {*found} <= {*files.problems(NEEDED)}


@pytest.mark.parametrize("text", ["agents: [", "- a", "defaults: {}", "agents: {}", "agents: {a: , b: }"])
def test_a_file_that_says_not_who_answers_is_refused(text: str) -> None:
    assert problems(text) == files.problems(text)


@pytest.mark.parametrize(
    ("routes", "always"),
    [("[]", "a"), ("[{called: '1', agent: a}]", "a"), ("[{agent: b}]", None), ("[{called: '1', agent: b}]", None)],
)
def test_one_agent_answers_always_when_no_route_leads_to_another(routes: str, always: str | None) -> None:
    assert roster(f"agents: {{a: , b: }}\ndefault: a\nroutes: {routes}").routing.always == always
