"""The agent file: how an agent comes about, who answers, and what is wrong with a file, all of it at once."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from shared.agents.facts import CallFacts
from shared.agents.file import base, from_settings, load
from shared.agents.model import (
    AzureSemanticVad,
    AzureStandardVoice,
    FoundryAgent,
    HttpTool,
    OpenAIVoice,
    Quota,
    Resource,
    Route,
    ServerVad,
)
from shared.agents.secrets import Secrets, process_secrets
from shared.agents.source import FILE_MAX_BYTES
from shared.errors import ConfigError
from shared.settings import WorkerSettings
from shared.settings import load as load_settings
from tests.unit.shared.agents.files import BELOW, SECRETS, WITH_KEY, agents, problems, write_wav


def facts(called: str = "100", caller: str = "+49301", trunk: str = "192.0.2.1", **headers: str) -> CallFacts:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return CallFacts(called=called, caller=caller, headers=fields, trunk=trunk, at=datetime(2026, 1, 1, tzinfo=UTC))


# ---- How an agent comes about ----


def test_an_agent_that_says_nothing_is_what_lies_below_it() -> None:
    agent = agents("agents: {only: }").agents["only"]
    assert (agent.name, agent.model, agent.instructions) == ("only", "gpt-4.1-mini", "Be brief.")
    assert agent.greeting is not None
    assert agent.greeting.text == "Hello."


def test_the_agent_comes_before_the_defaults_and_those_before_the_settings() -> None:
    agent = agents(
        """
        defaults: {instructions: default, goodbye: default, silence: {after_s: 5, prompts: 3}}
        agents: {a: {goodbye: own, silence: {after_s: 7}}}
        """
    ).agents["a"]
    assert (agent.model, agent.instructions, agent.goodbye) == ("gpt-4.1-mini", "default", "own")
    assert (agent.silence.after_s, agent.silence.prompts) == (7, 3)


def test_null_takes_back_what_was_inherited() -> None:
    assert agents("agents: {a: {greeting: null}}").agents["a"].greeting is None


def test_lists_are_replaced_whole() -> None:
    agent = agents("{defaults: {tools: [hang_up, send_dtmf]}, agents: {a: {tools: [hang_up]}}}").agents["a"]
    assert [tool.name for tool in agent.tools] == ["hang_up"]


def test_a_part_of_another_type_starts_afresh() -> None:
    agent = agents(
        """
        defaults:
          voice: {type: azure-standard, name: en-US-AvaNeural, rate: "1.1"}
          turn_detection: {type: azure_semantic_vad, remove_filler_words: true}
        agents:
          a: {voice: {type: openai, name: alloy}, turn_detection: {type: server_vad, threshold: 0.7}}
          b: {voice: {rate: "1.2"}, turn_detection: {threshold: 0.7}}
        default: a
        """
    ).agents
    assert agent["a"].voice == OpenAIVoice(type="openai", name="alloy")
    assert agent["a"].turn_detection == ServerVad(type="server_vad", threshold=0.7)
    assert agent["b"].voice == AzureStandardVoice(name="en-US-AvaNeural", rate="1.2")
    assert agent["b"].turn_detection == AzureSemanticVad(threshold=0.7, remove_filler_words=True)


def test_a_foundry_agent_inherits_nothing_that_would_be_ignored() -> None:
    text = """
    defaults: {instructions: default, tools: [hang_up], temperature: 0.5}
    agents: {a: {foundry_agent: {name: helpdesk, project: telephony}}}
    """
    agent = agents(text).agents["a"]
    assert agent.foundry_agent == FoundryAgent(name="helpdesk", project="telephony")
    assert (agent.model, agent.instructions, agent.tools, agent.temperature) == ("", "", (), None)


def test_a_model_takes_the_place_of_an_inherited_foundry_agent() -> None:
    text = "{defaults: {foundry_agent: {name: h, project: t}}, agents: {a: {model: gpt-4o}, b: {}}, default: a}"
    found = agents(text).agents
    assert (found["a"].model, found["a"].foundry_agent) == ("gpt-4o", None)
    assert found["b"].foundry_agent is not None


def test_say_and_wav_of_the_fallback_take_each_others_place(tmp_path: Path) -> None:
    write_wav(tmp_path / "sorry.wav")
    text = "{defaults: {fallback: {say: Sorry.}}, agents: {a: {fallback: {wav: sorry.wav}}}}"
    fallback = agents(text, directory=tmp_path).agents["a"].fallback
    assert (fallback.say, fallback.wav) == (None, tmp_path / "sorry.wav")


def test_targets_of_the_file_are_those_of_every_agent() -> None:
    found = agents(
        """
        transfers: {desk: {uri: "sip:desk@pbx.example", description: all}, night: "tel:+1"}
        agents:
          a: {transfers: {desk: "sip:other@pbx.example", more: "tel:+2"}}
          b: {}
        default: b
        """
    ).agents
    assert {name: target.uri for name, target in found["a"].transfers.items()} == {
        "desk": "sip:other@pbx.example",
        "night": "tel:+1",
        "more": "tel:+2",
    }
    assert found["a"].transfers["desk"].description is None, "a target is replaced whole"
    assert sorted(found["b"].transfers) == ["desk", "night"]


def test_entries_of_the_menu_are_inherited_or_replaced_whole() -> None:
    text = """
    defaults: {dtmf: {menu: {"1": {say: sales}, "2": {say: support}}}}
    agents: {a: {dtmf: {menu: {"1": {hang_up: true}}}}}
    """
    menu = agents(text).agents["a"].dtmf.menu
    assert (menu["1"].say, menu["1"].hang_up, menu["2"].say) == (None, True, "support")


def test_prices_and_currency_come_with_the_agents() -> None:
    found = agents(
        """
        currency: EUR
        prices: {"*": {input_text: 1, input_audio: 2, cached_text: 3, cached_audio: 4, output_text: 5, output_audio: 6}}
        agents: {a: }
        """
    )
    assert found.currency == "EUR"
    assert found.prices["*"].output_audio == 6


# ---- What an agent asks of the pool ----

RESOURCES = "resources: {west: {endpoint: 'https://w.example'}, east: {endpoint: 'https://e.example'}}\n"


def test_an_agent_asks_for_the_resource_of_the_settings_any_worker_and_the_middle_priority() -> None:
    agent = agents("agents: {a: }").agents["a"]
    assert (agent.resource, agent.labels, agent.priority) == (("",), {}, 5)


def test_resources_are_one_or_several_in_order_of_preference() -> None:
    found = agents(
        RESOURCES + "defaults: {resource: west}\nagents: {a: , b: {resource: [east, west, '']}}\ndefault: a"
    ).agents
    assert (found["a"].resource, found["b"].resource) == (("west",), ("east", "west", ""))


def test_labels_are_inherited_one_by_one_and_null_takes_one_back() -> None:
    found = agents(
        """
        defaults: {labels: {pool: gold, region: westeurope}, priority: 7}
        agents: {a: {labels: {region: swedencentral, codec: g711}}, b: {labels: {pool: null}, priority: 0}}
        default: a
        """
    ).agents
    assert found["a"].labels == {"pool": "gold", "region": "swedencentral", "codec": "g711"}
    assert found["b"].labels == {"region": "westeurope"}
    assert (found["a"].priority, found["b"].priority) == (7, 0)


def test_a_resource_has_the_limits_that_are_given() -> None:
    text = "resources: {west: {endpoint: 'https://w.example', quota: {connections_per_minute: 60, sessions: 20}}}"
    quota = agents(text + "\nagents: {a: }").resources["west"].quota
    assert quota == Quota(connections_per_minute=60, sessions=20)
    assert quota.tokens_per_minute is None


@pytest.mark.parametrize(
    ("agent", "problem"),
    [
        ("{resource: north}", "agents.a.resource: north is not one of resources (west, east)"),
        ("{resource: [west, north]}", "agents.a.resource.1: north is not one of resources (west, east)"),
        ("{resource: []}", "agents.a.resource: must not be empty; leave it out"),
        ("{resource: [west, west]}", "agents.a.resource: has a name twice"),
        ("{resource: 3}", "agents.a.resource: must be text: put it in quotes"),
        ("{labels: gold}", "agents.a.labels: must be a mapping"),
        ("{labels: {floor: 3}}", "agents.a.labels.floor: must be text: put it in quotes"),
        ("{labels: {Pool: gold}}", "agents.a.labels.Pool: "),
        ("{labels: {pool: 'very golden'}}", "agents.a.labels.pool: "),
        ("{labels: {pool: ''}}", "agents.a.labels.pool: "),
        ("{priority: 10}", "agents.a.priority: "),
        ("{priority: -1}", "agents.a.priority: "),
    ],
)
def test_what_an_agent_cannot_ask_for_is_refused(agent: str, problem: str) -> None:
    [found] = problems(RESOURCES + f"agents: {{a: {agent}}}")
    assert found.startswith(problem)


def test_a_default_that_cannot_be_asked_for_is_refused_where_it_stands() -> None:
    text = "defaults: {resource: [north]}\nagents: {a: , b: {resource: south}}\ndefault: a"
    assert problems(RESOURCES + text) == [
        "defaults.resource.0: north is not one of resources (west, east)",
        "agents.b.resource: south is not one of resources (west, east)",
    ]


@pytest.mark.parametrize("quota", ["{sessions: 0}", "{connections_per_minute: many}", "{sesions: 3}", "5"])
def test_a_bad_quota_is_refused(quota: str) -> None:
    text = f"resources: {{west: {{endpoint: 'https://w.example', quota: {quota}}}}}\nagents: {{a: }}"
    [problem] = problems(text)
    assert problem.startswith("resources.west.quota")


# ---- The pool without a file ----


def settings(**values: object) -> WorkerSettings:
    required = {"LEASE_SECRET": "0123456789abcdef", "AZURE_VOICELIVE_ENDPOINT": "https://a.example"}
    return load_settings(WorkerSettings, **required, **values)


def test_without_a_file_one_agent_is_made_of_the_settings() -> None:
    found = from_settings(
        base(settings(VOICE_LIVE_VOICE="alloy", VOICE_LIVE_MODEL="gpt-realtime", AZURE_VOICELIVE_API_KEY="k"))
    )
    name, agent = found.choose(facts())
    assert (name, agent.name, agent.model) == ("default", "default", "gpt-realtime")
    assert agent.voice == OpenAIVoice(type="openai", name="alloy")
    assert agent.greeting is not None
    assert found.resources == {"": Resource(endpoint="https://a.example", api_key=SecretStr("k"))}
    assert (agent.resource, agent.labels, agent.priority) == (("",), {}, 5)


def test_the_resource_of_the_settings_has_their_quota() -> None:
    found = from_settings(base(settings(VOICE_LIVE_SESSIONS="20", VOICE_LIVE_TOKENS_PER_MINUTE="")))
    assert found.resources[""].quota == Quota(sessions=20)


def test_a_greeting_that_is_switched_off_is_none() -> None:
    found = from_settings(base(settings(VOICE_LIVE_PROACTIVE_GREETING_ENABLED="false")))
    assert found.agents["default"].greeting is None


def test_settings_that_make_no_agent_are_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        from_settings(base(settings(VOICE_LIVE_VOICE="somebody")))
    assert caught.value.problems[0].startswith("VOICE_LIVE_*: voice")


# ---- Who answers ----

ROUTED = """
agents: {first: , second: , rest: }
default: rest
routes:
  - {called: ["100", "+49*"], caller: "+4930?", agent: first}
  - {header: {X-Language: "de*"}, trunk: [192.0.2.0/24, "2001:db8::/32"], agent: second}
"""


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (facts(), "first"),
        (facts(called="+4989"), "first"),
        (facts(called="1001"), "rest"),
        (facts(caller="+493012"), "rest"),
        (facts(caller="", x_language="de-AT"), "second"),
        (facts(caller="", x_language="de", trunk="2001:db8::7"), "second"),
        (facts(caller="", x_language="de", trunk="198.51.100.1"), "rest"),
        (facts(caller="", x_language="de", trunk=""), "rest"),
        (facts(caller="", x_language="en"), "rest"),
        (facts(caller="", called=""), "rest"),
    ],
)
def test_the_first_route_of_which_everything_is_true_decides(call: CallFacts, name: str) -> None:
    found, agent = agents(ROUTED).choose(call)
    assert (found, agent.name) == (name, name)


def test_one_agent_answers_everything() -> None:
    assert agents("{agents: {only: }, routes: [{called: '1', agent: only}]}").choose(facts())[0] == "only"


def test_a_route_that_asks_for_a_header_does_not_fit_a_call_without_it() -> None:
    route = Route.model_validate({"agent": "a", "header": {"X-Any": "*"}})
    assert route.misses(facts()) == ["header.X-Any"]
    assert route.misses(facts(x_any="")) == []


# ---- What is wrong with a file ----


def test_every_problem_is_reported_at_once_where_it_is_written() -> None:
    found = problems(
        """
        resources: {west: {endpoint: nowhere}}
        defaults: {goodbye: "", colour: red}
        agents:
          a:
            model: gpt-realtime
            interim_response: {type: llm}
            turn_detection: {type: vad}
            tools: [hang_up, {type: http_request, name: x, url: "https://x.example"}]
            dtmf: {menu: {12: {say: x}}}
          b: {modle: gpt-4o, resource: east, language: 3, voice: {type: azure-personal, name: me}}
          "c d": {}
        routes: [{agent: z, called: 100}, {agent: a, trunk: 192.0.2.1/24}]
        """
    )
    assert sorted(problem.partition(": ")[0] for problem in found) == sorted(
        [
            "resources.west.endpoint",
            "defaults.goodbye",
            "defaults.colour",
            "agents.a.interim_response",
            "agents.a.turn_detection.type",
            "agents.a.tools.1.description",
            "agents.a.dtmf.menu.12",
            "agents.b.modle",
            "agents.b.resource",
            "agents.b.language",
            "agents.b.voice.model",
            "agents.c d",
            "routes.0.agent",
            "routes.0.called",
            "routes.1.trunk",
            "default",
        ]
    )
    assert "agents.b.modle: is not known; did you mean model?" in found
    assert "agents.b.language: must be text: put it in quotes" in found
    assert "routes.0.agent: z is not one of agents (a, b, c d)" in found
    assert "agents.b.resource: east is not one of resources (west)" in found


def test_what_does_not_go_together_is_not_guessed_from_fields_that_are_wrong_themselves() -> None:
    [problem] = problems("agents: {a: {model: [x], turn_detection: {type: semantic_vad}}}")
    assert problem.startswith("agents.a.model: ")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("agents: [a\nb: c", "line 2, column 2: "),
        ("agents:\n  a: {}\n  a: {}", "line 3, column 3: the key a is there twice"),
        ("agents: {a: *b}", "line 1, column 13: found undefined alias 'b' (quote texts that begin with *)"),
        (
            "agents:\n  a:\n    greeting: *Hello* there",
            "line 3, column 21: expected alphabetic or numeric character, but found '*' "
            "(quote texts that begin with *)",
        ),
        ("agents: {a: !!python/name:os.system }", "line 1, column 13: could not determine a constructor"),
        ("- a", "must be a mapping with the key agents"),
        ("", "must be a mapping with the key agents"),
        ("a: \x07", "character 3: special characters are not allowed"),
        ("defaults: {}", "agents: is missing"),
        ("agents: {}", "agents: must have at least 1 item"),
        ("agents: 3", "agents: must be a mapping"),
        ("agents: {a: 3}", "agents.a: must be a mapping"),
        ("agents: {a: {name: b}}", "agents.a.name: is not written"),
        ("{agents: {a: , b: }, default: c}", "default: c is not one of agents (a, b)"),
        ("{agents: {a: }, routes: [{agent: a, called: []}]}", "routes.0.called: must not be empty; leave it out"),
        ("{agents: {a: }, transfers: {x: mailto:x}}", "transfers.x: must be a sip:, sips: or tel: URI"),
        ("agents: {a: {greeting: '{{ nobody }}'}}", "agents.a.greeting: UndefinedError: 'nobody' is undefined"),
        ("agents: {a: {fallback: {wav: no.wav}}}", "agents.a.fallback.wav: is no PCM WAV file that can be read"),
        ("agents: " + "[" * 60 + "]" * 60, "nested too deeply"),
    ],
)
def test_a_bad_file_is_refused_with_the_place(text: str, problem: str) -> None:
    [found] = problems(text)
    assert found.startswith(problem)


def test_a_foundry_agent_is_refused_with_an_api_key() -> None:
    text = """
    resources: {entra: {endpoint: "https://e.example"}, key: {endpoint: "https://k.example", api_key: {secret: KEY}}}
    defaults: {foundry_agent: {name: helpdesk, project: telephony}}
    agents: {a: {resource: key}, b: , c: {resource: entra}}
    default: a
    """
    needs = "foundry_agent: needs Microsoft Entra, and"
    assert problems(text) == [f"agents.a.{needs} resource key has an API key"]
    assert problems(text, below=WITH_KEY) == [
        f"agents.a.{needs} resource key has an API key",
        f"agents.b.{needs} the resource of the settings has an API key",
    ]


def test_each_resource_of_a_foundry_agent_must_have_entra() -> None:
    text = """
    resources: {entra: {endpoint: "https://e.example"}, key: {endpoint: "https://k.example", api_key: {secret: KEY}}}
    agents: {a: {foundry_agent: {name: helpdesk, project: telephony}, resource: [entra, key, ""]}}
    """
    needs = "agents.a.foundry_agent: needs Microsoft Entra, and"
    assert problems(text, below=WITH_KEY) == [
        f"{needs} resource key has an API key",
        f"{needs} the resource of the settings has an API key",
    ]


def test_a_file_that_is_too_long_is_refused() -> None:
    assert problems("#" * (FILE_MAX_BYTES + 1)) == [f"is longer than {FILE_MAX_BYTES} bytes"]


def test_aliases_cannot_make_a_file_larger_than_it_may_be() -> None:
    lines = ["x0: &x0 [a, a, a, a, a, a, a, a, a, a]"]
    lines += [f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 10)}]" for i in range(1, 9)]
    [problem] = problems("\n".join(lines))
    assert problem.startswith("has more than")


def test_a_file_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"agents\.yaml: cannot be read \(FileNotFoundError\)"):
        load(tmp_path / "agents.yaml", BELOW, SECRETS)


def test_texts_that_yaml_takes_for_something_else_stay_texts() -> None:
    agent = agents("agents: {a: {language: no, goodbye: 2026-01-01, instructions: 12:30}}").agents["a"]
    assert (agent.language, agent.goodbye, agent.instructions) == ("no", "2026-01-01", "12:30")
    assert agents("{agents: {a: }, routes: [{called: +4930, agent: a}]}").routing.routes[0].called == ("+4930",)
    assert agents("{agents: {a: }, routes: [{called: 0049, agent: a}]}").routing.routes[0].called == ("0049",)


@pytest.mark.parametrize(
    ("wav", "problem"),
    [
        ({"width": 1}, "must be 16 bit PCM"),
        ({"rate": 96000}, "must be 16 bit PCM"),
        ({"channels": 3}, "must be 16 bit PCM"),
        ({"frames": 0}, "must be longer than nothing"),
        ({"frames": 8000 * 61}, "must be longer than nothing"),
    ],
)
def test_an_unsuitable_wav_is_refused(tmp_path: Path, wav: dict[str, int], problem: str) -> None:
    write_wav(tmp_path / "sorry.wav", **wav)
    [found] = problems("agents: {a: {fallback: {wav: sorry.wav}}}", directory=tmp_path)
    assert found.startswith(f"agents.a.fallback.wav: {problem}")


# ---- Secrets ----

WITH_SECRETS = """
resources: {west: {endpoint: "https://west.example", api_key: {secret: KEY}}}
agents:
  a:
    resource: west
    tools:
      - type: http_request
        name: look
        description: Looks.
        url: https://x.example
        headers: {Authorization: {secret: TOKEN}}
"""


def test_secrets_are_resolved_and_not_shown() -> None:
    found = agents(WITH_SECRETS)
    key = found.resources["west"].api_key
    assert key is not None
    assert key.get_secret_value() == "hunter2"
    tool = found.agents["a"].tools[0]
    assert isinstance(tool, HttpTool)
    assert tool.headers["Authorization"] == SecretStr("Bearer opensesame")
    assert "hunter2" not in repr(found)
    assert "opensesame" not in repr(found)


def test_every_secret_that_is_missing_is_a_problem() -> None:
    assert problems(WITH_SECRETS, secrets=Secrets({}, Path("/nowhere"))) == [
        "resources.west.api_key: secret KEY is not in the environment and no file in /nowhere",
        "agents.a.tools.0.headers.Authorization: secret TOKEN is not in the environment and no file in /nowhere",
    ]


def test_a_secret_written_out_is_refused_and_not_repeated() -> None:
    [problem] = problems("{resources: {west: {endpoint: 'https://w.example', api_key: hunter2}}, agents: {a: }}")
    assert problem == "resources.west.api_key: must be written as {secret: NAME}, never as the secret itself"


def test_secrets_come_from_the_environment_the_env_file_and_a_directory_in_this_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    directory = tmp_path / "secrets"
    directory.mkdir()
    for name in ("ONE", "TWO", "THREE"):
        (directory / name).write_text(f"{name} of directory\n")
    (tmp_path / ".env").write_text("ONE='one of file'\nTWO='two of file'\n")
    monkeypatch.setenv("ONE", "one of environment")
    found = process_secrets(str(directory))
    assert [found(name) for name in ("ONE", "TWO", "THREE")] == [
        "one of environment",
        "two of file",
        "THREE of directory",
    ]


@pytest.mark.parametrize("name", ["../secret", "a/b", "", ".", "a b"])
def test_a_secrets_name_cannot_lead_out_of_the_directory(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text("found")
    (tmp_path / "inner").mkdir()
    with pytest.raises(ValueError, match="letters, digits"):
        Secrets({}, tmp_path / "inner")(name)


def test_a_secret_of_several_lines_is_refused_without_showing_it() -> None:
    with pytest.raises(ValueError, match="more than one line") as caught:
        Secrets({"KEY": "hunter2\r\nX-Evil: 1"})("KEY")
    assert "hunter2" not in str(caught.value)


def test_the_same_agents_come_from_a_file_and_its_content(tmp_path: Path) -> None:
    (tmp_path / "agents.yaml").write_text(ROUTED)
    loaded = load(tmp_path / "agents.yaml", BELOW, SECRETS)
    assert loaded == agents(ROUTED)
