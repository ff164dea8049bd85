"""The agent file as an operator meets it."""

import json
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from click.testing import CliRunner, Result

from admin import agents
from admin.cli import main
from shared.agents.parts import Part

DOCS = Path(__file__).parents[3] / "docs"

SECRETS = {"SWEDEN_KEY": "hunter2", "ORDERS_TOKEN": "Bearer opensesame"}


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def sample(tmp_path: Path, secrets: None) -> Path:
    path = tmp_path / "agents.yaml"
    path.write_text(agents.sample(), "utf-8")
    return path


def voicepool(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["agents", *map(str, arguments)])


# ---- What is checked in ----


def test_the_example_is_the_sample() -> None:
    assert (DOCS / "agents.example.yaml").read_text("utf-8") == agents.sample(), "run: voicepool agents sample"


def test_the_schema_is_that_of_the_model() -> None:
    assert (DOCS / "agents.schema.json").read_text("utf-8") == agents.schema_text(), "run: voicepool agents schema"


def test_the_reference_is_that_of_the_model() -> None:
    text = (DOCS / "agents.md").read_text("utf-8")
    assert text == agents.with_reference(text), "run: voicepool agents table --into docs/agents.md"


def test_the_example_loads(secrets: None) -> None:
    assert agents.check(DOCS / "agents.example.yaml") == []


def test_the_foundry_agent_of_the_example_loads_too(sample: Path) -> None:
    lines = agents.sample().splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("  # assistant:"))
    for index in range(start, start + 3):
        lines[index] = lines[index].replace("# ", "", 1)
    sample.write_text("\n".join(lines), "utf-8")
    assert agents.load(sample).agents["assistant"].foundry_agent is not None


def test_the_schema_takes_the_example_and_refuses_a_misspelt_key() -> None:
    validator = jsonschema.Draft202012Validator(agents.schema())
    validator.check_schema(agents.schema())
    example = _json_keys(yaml.safe_load(agents.sample()))
    assert [error.message for error in validator.iter_errors(example)] == []
    example["agents"]["reception"]["modle"] = "x"
    assert not validator.is_valid(example)


def _json_keys(value: Any) -> Any:
    """As an editor's YAML support reads it: keys are text."""
    if isinstance(value, dict):
        return {str(key): _json_keys(inner) for key, inner in value.items()}
    return [_json_keys(inner) for inner in value] if isinstance(value, list) else value


def test_every_key_is_described_in_the_reference() -> None:
    text = agents.reference()
    models = [*_models(Part)]
    assert len(models) > 30
    for model in models:
        if not model.__name__.startswith("_"):
            for name, field in model.model_fields.items():
                assert field.description, f"{model.__name__}.{name}"
                assert f"| `{name}` |" in text or (model.__name__, name) == ("Agent", "name")


def _models(model: type[Part]) -> list[type[Part]]:
    return [inner for sub in model.__subclasses__() for inner in (sub, *_models(sub))]


# ---- The command ----


def test_a_good_file_is_good(sample: Path) -> None:
    result = voicepool("check", sample)
    assert (result.exit_code, result.output) == (0, "agents.yaml: good\n")


def test_a_bad_file_exits_with_1_and_all_problems(tmp_path: Path) -> None:
    path = tmp_path / "agents.yaml"
    path.write_text("agents: {a: {modle: x, uplink_ms: 7}}")
    result = voicepool("check", path)
    assert result.exit_code == 1
    assert [line.partition(": ")[2].partition(": ")[0] for line in result.output.splitlines()] == [
        "agents.a.uplink_ms",
        "agents.a.modle",
    ]
    report = json.loads(voicepool("check", path, "--json").output)
    assert report == {"ok": False, "problems": result.output.splitlines()}


def test_tools_that_workers_refuse_are_problems(tmp_path: Path) -> None:
    path = tmp_path / "agents.yaml"
    path.write_text(TOOLS_THAT_CANNOT_WORK)
    result = voicepool("check", path)
    assert result.exit_code == 1
    assert [line.split(": ")[1] for line in result.output.splitlines()] == [
        "agents.a.tools.somewhere.url",
        "agents.a.tools.typed.parameters",
        "agents.b.tools.nobody_wrote_it.name",
    ]
    assert all(line.startswith("agents.yaml: ") for line in result.output.splitlines())
    report = json.loads(voicepool("check", path, "--json").output)
    assert report == {"ok": False, "problems": result.output.splitlines()}


TOOLS_THAT_CANNOT_WORK = """
default: a
agents:
  a:
    tools:
      - type: http_request
        name: somewhere
        description: Asks a host of the model's choice.
        method: GET
        url: https://{host}/
        parameters: {type: object, properties: {host: {type: string}}, required: [host]}
      - type: http_request
        name: typed
        description: Has an argument of a type there is not.
        method: GET
        url: https://shop.example/
        parameters: {type: object, properties: {day: {type: date}}}
  b:
    tools: [{type: python, name: nobody_wrote_it}]
"""


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        ("import sys; sys.exit('no such module')", "the tools could not be checked: no such module"),
        ("import sys; sys.exit(3)", "the tools could not be checked: exit code 3"),
        ("", "the tools could not be checked: the check ended without an answer"),
        ("import threading; threading.Event().wait()", "the tools could not be checked: it took more than 0.5 s"),
    ],
)
def test_a_check_of_the_tools_that_fails_is_a_problem(
    program: str, problem: str, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interpreter = tmp_path / "python"
    interpreter.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{program}"\n')
    interpreter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    monkeypatch.setattr(agents, "_CHECK_S", 0.5 if "Event" in program else 30.0)
    assert agents.check(sample) == [problem]


def test_settings_that_are_bad_are_problems_too(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICE_LIVE_UPLINK_MS", "33")
    result = voicepool("check", sample)
    assert result.exit_code == 1
    assert result.output.startswith("VOICE_LIVE_UPLINK_MS: ")


def test_an_agent_is_shown_with_its_defaults_and_without_secrets(sample: Path) -> None:
    result = voicepool("show", "reception", "--file", sample)
    shown = yaml.safe_load(result.output)["agents"]["reception"]
    assert shown["timezone"] == "Europe/Berlin"
    assert shown["silence"]["after_s"] == 12.0
    assert (shown["resource"], shown["labels"], shown["priority"]) == (["sweden", ""], {}, 7)
    assert shown["tools"][3]["headers"] == {"Authorization": "**********"}


def test_everything_is_shown_without_secrets(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTS_FILE", str(sample))
    monkeypatch.setenv("AZURE_VOICELIVE_API_KEY", "0123456789abcdef")
    result = voicepool("show")
    assert result.exit_code == 0
    assert sorted(yaml.safe_load(result.output)["agents"]) == ["berater", "plain", "reception"]
    for secret in (*SECRETS.values(), "0123456789abcdef"):
        assert secret not in result.output


def test_an_agent_that_is_not_there_is_an_error_that_names_those_that_are(sample: Path) -> None:
    result = voicepool("show", "nobody", "--file", sample)
    assert result.exit_code == 1
    assert "there are: plain, reception, berater" in result.output


def test_without_a_file_the_agent_of_the_settings_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICE_LIVE_MODEL", "gpt-4o")
    assert yaml.safe_load(voicepool("show", "default").output)["agents"]["default"]["model"] == "gpt-4o"


def test_it_is_said_who_answers_and_why(sample: Path) -> None:
    call = ["--called", "500", "--caller", "+4930", "--header", "x-language=de-AT", "--file", str(sample)]
    assert voicepool("route", *call).output.splitlines() == [
        "routes.0 (reception): does not fit: called",
        "routes.1 (berater): fits",
        "berater answers",
        "priority 5; any worker",
        "resource (settings): no limits",
    ]
    assert voicepool("route", "--file", sample).output.splitlines() == [
        "routes.0 (reception): does not fit: called",
        "routes.1 (berater): does not fit: caller, header.X-Language",
        "routes.2 (reception): does not fit: trunk",
        "plain answers, the default: no route fits",
        "priority 5; any worker",
        "resource (settings): no limits",
    ]


def test_it_is_said_what_the_answering_agent_asks_of_the_pool(sample: Path) -> None:
    sample.write_text(sample.read_text("utf-8").replace("# labels:", "labels:"), "utf-8")
    assert voicepool("route", "--called", "+4930123450", "--file", sample).output.splitlines()[-4:] == [
        "reception answers",
        "priority 7; workers with region=westeurope",
        "resource sweden: 60 connections per minute, 40 sessions",
        "resource (settings): no limits",
    ]


def test_the_quota_of_the_settings_is_shown_with_their_resource(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICE_LIVE_SESSIONS", "12")
    assert yaml.safe_load(voicepool("show").output)["resources"]["(settings)"]["quota"] == {"sessions": 12}
    assert voicepool("route").output.splitlines()[-1] == "resource (settings): 12 sessions"


def test_a_header_without_a_value_is_a_usage_error(sample: Path) -> None:
    assert voicepool("route", "--header", "X-Language", "--file", sample).exit_code == 2


def test_the_reference_is_written_between_the_marker_lines(tmp_path: Path) -> None:
    path = tmp_path / "agents.md"
    path.write_text(f"before\n{agents.BEGIN}\nold\n{agents.END}\nafter\n")
    assert voicepool("table", "--into", path).exit_code == 0
    text = path.read_text()
    assert text.startswith(f"before\n{agents.BEGIN}\n")
    assert text.endswith(f"{agents.END}\nafter\n")
    assert agents.reference() in text


def test_a_document_without_marker_lines_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "agents.md"
    path.write_text("# Agents\n")
    result = voicepool("table", "--into", path)
    assert result.exit_code == 1
    assert "it has no lines" in result.output
