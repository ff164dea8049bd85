"""What a model can do with its tools: hang up, transfer, press keys, ask a web service, Python functions, MCP servers.

All calls are made at once, each answered by an agent whose Voice Live plays a scenario; each test looks at one.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from shared.ending import CallEnd, CallResult
from tests.acceptance.agents import KEY, Seen, agent_file, by_number, resources, ring_each, voice_lives
from tests.acceptance.pool import running_pool
from tests.acceptance.process import ROOT
from tests.acceptance.web_service import WebService, serving

ORDER = "/orders/47%2F11%3Fx%3D1"
"""Where an order is looked up whose number could be taken for a path and a query."""

LAST_WORDS = "Thank you for calling. It was a pleasure to talk to you. Have a nice day, and goodbye."

SLOW_S = 3.0
"""How long the web service takes over a slow answer: beyond the agents' patience with dead air."""

STATUS = {
    "type": "http_request",
    "name": "order_status",
    "description": "Looks up an order.",
    "parameters": {"type": "object", "properties": {"number": {"type": "string"}}, "required": ["number"]},
}

TRANSFER = {"name": "transfer_call", "arguments": {"target": "desk"}}

ASKED = ["--say", "please do what I ask of you"]

SCENARIOS: dict[str, list[dict[str, Any]]] = {
    "hangup": [{"answer": {"say": LAST_WORDS, "calls": [{"name": "hang_up"}]}}],
    "farewell": [{"call": {"name": "hang_up", "arguments": {"farewell": "Goodbye and thank you for everything."}}}],
    "accept": [
        {"call": {**TRANSFER, "arguments": {"target": "desk", "announcement": "I will put you through right away."}}}
    ],
    "busy": [
        {"call": TRANSFER},
        {"expect_output": {"name": "transfer_call", "contains": "busy"}},
        {"say": "The desk is busy at the moment."},
    ],
    "keys": [
        {"call": {"name": "send_dtmf", "arguments": {"digits": "12,#"}}},
        {"expect_output": {"name": "send_dtmf", "contains": "sent"}},
        {"say": "I have pressed the keys."},
    ],
    "slow": [
        {"call": {"name": "order_status", "arguments": {"number": "47/11?x=1"}}},
        {"expect_output": {"name": "order_status", "contains": "on its way"}},
        {"say": "Your order is on its way to you."},
    ],
    "mistaken": [
        {"answer": {"calls": [{"name": "order_status", "arguments": {"nr": 1}}, {"name": "weather"}]}},
        {"expect_output": {"name": "order_status", "contains": "number"}},
        {"expect_output": {"name": "weather", "contains": "order_status"}},
        {"say": "I am sorry, that did not work."},
    ],
    "both": [
        {"answer": {"calls": [{"name": "meet", "arguments": {"who": who}} for who in ("ann", "bob")]}},
        {"expect_output": {"name": "meet", "contains": "met"}},
        {"expect_output": {"name": "meet", "contains": "met"}},
        {"say": "They have met each other."},
    ],
    "python": [
        {"call": {"name": "opening_hours", "arguments": {"day": "Monday"}}},
        {"expect_output": {"name": "opening_hours", "contains": "Monday from nine"}},
        {"say": "We open at nine on Mondays."},
    ],
    "mcp": [
        {"mcp": {"server": "crm", "name": "find", "arguments": {"who": "me"}, "output": "customer five"}},
        {"say": "You are our fifth customer."},
    ],
}

CALLERS: dict[str, tuple[str, list[str]]] = {
    "hangup": ("hangup", [*ASKED, "--hold-until-bye"]),
    "farewell": ("farewell", [*ASKED, "--hold-until-bye"]),
    "accept": ("accept", [*ASKED, "--refer", "accept", "--hold-until-bye"]),
    "busy": ("busy", [*ASKED, "--refer", "busy"]),
    "keys": ("keys", ASKED),
    "slow": ("slow", [*ASKED, "--hold", "6"]),
    "mistaken": ("mistaken", ASKED),
    "both": ("both", ASKED),
    "python": ("python", [*ASKED, "--from-user", "+4930555"]),
    "mcp": ("mcp", ASKED),
}


def install_opening_hours(directory: Path) -> None:
    """Makes the directory what a package with one tool is installed as."""
    info = directory / "acme-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[voicepool.tools]\nopening_hours = acme_tools:opening_hours\n")
    (directory / "acme_tools.py").write_text(
        "from worker.tools.context import ToolContext\n\n\n"
        "def opening_hours(context: ToolContext, day: str) -> dict[str, str]:\n"
        '    """Says when we are open."""\n'
        '    return {"open": f"{day} from nine", "for": context.facts.caller}\n'
    )


def agents(service_url: str) -> dict[str, dict[str, Any]]:
    status = {**STATUS, "url": f"{service_url}/orders/{{number}}", "headers": {"Authorization": {"secret": "TOKEN"}}}
    meet = {
        "type": "http_request",
        "name": "meet",
        "description": "Has somebody meet somebody.",
        "method": "POST",
        "url": f"{service_url}/meet",
        "parameters": {"type": "object", "properties": {"who": {"type": "string"}}, "required": ["who"]},
    }
    crm = {
        "type": "mcp",
        "label": "crm",
        "url": "https://crm.example/mcp",
        "authorization": {"secret": "TOKEN"},
        "allowed_tools": ["find"],
    }
    tools: dict[str, list[Any]] = {
        "hangup": ["hang_up"],
        "farewell": ["hang_up"],
        "accept": ["transfer_call"],
        "busy": ["transfer_call"],
        "keys": ["send_dtmf"],
        "slow": [status],
        "mistaken": [status],
        "both": [meet],
        "python": [{"type": "python", "name": "opening_hours"}],
        "mcp": [crm],
    }
    return {
        name: {"resource": name, "tools": tools[name], "dead_air": {"after_s": 1.0, "filler": "One moment please."}}
        for name in SCENARIOS
    }


@pytest.fixture(scope="module")
def service() -> WebService:
    answers = {ORDER: {"status": "on its way"}, "/meet": "they have met"}
    return WebService(answers, slow={ORDER: SLOW_S}, together=("/meet",))


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory, service: WebService) -> dict[str, Seen]:
    """Returns what was seen of the calls of all CALLERS."""
    directory = tmp_path_factory.mktemp("tools")
    install_opening_hours(directory / "packages")
    with serving(service) as url, voice_lives(directory, SCENARIOS) as services:
        path = agent_file(
            directory,
            agents(url),
            resources=resources(services),
            routes=by_number(SCENARIOS),
            default="hangup",
            transfers={"desk": {"uri": "sip:desk@pbx.example", "description": "The front desk."}},
        )
        settings = {"AGENTS_FILE": str(path), "TOKEN": "Bearer very-secret", **KEY}
        settings["PYTHONPATH"] = f"{ROOT}:{directory / 'packages'}"
        with running_pool(directory, workers=1, **settings) as pool:
            found = ring_each(pool, CALLERS, services)
            assert not [line for line in pool.logs() if "very-secret" in line], "a secret is in a log"
            return found


def test_the_agent_hangs_up_after_its_last_words_have_been_heard(calls: dict[str, Seen]) -> None:
    call = calls["hangup"]
    call.assert_went_well(ended_by="pool")
    assert (call.record.result, call.record.reason) == (CallResult.COMPLETED, CallEnd.AGENT_HANGUP)
    said = call.record.transcript[-1]
    assert (said.text, said.heard_ms) == (LAST_WORDS, None)
    assert call.heard_ms[-1] > said.audio_ms - 400, "the silence around it is not heard as speech"
    assert [tool.name for tool in call.record.tools] == ["hang_up"]


def test_the_agent_says_the_farewell_it_hangs_up_with(calls: dict[str, Seen]) -> None:
    call = calls["farewell"]
    call.assert_went_well(ended_by="pool")
    assert call.record.reason == CallEnd.AGENT_HANGUP
    assert call.session["said"][-1] == "Goodbye and thank you for everything."
    said = call.record.transcript[-1]
    assert (said.text, said.heard_ms) == ("Goodbye and thank you for everything.", None)
    assert call.heard_ms[-1] > said.audio_ms - 400


def test_a_transfer_is_announced_referred_and_ends_the_call(calls: dict[str, Seen]) -> None:
    call = calls["accept"]
    call.assert_went_well(ended_by="pool")
    assert call.session["said"][-1] == "I will put you through right away."
    assert call.report["refer_target"] == "sip:desk@pbx.example"
    assert (call.record.result, call.record.reason) == (CallResult.COMPLETED, CallEnd.TRANSFERRED)
    assert call.record.transfer == "desk"
    assert call.record.transcript[-1].heard_ms is None, "the announcement is heard to its end"


def test_a_transfer_to_somebody_busy_goes_back_to_the_model(calls: dict[str, Seen]) -> None:
    call = calls["busy"]
    call.assert_went_well()
    assert call.report["refer_target"] == "sip:desk@pbx.example"
    assert call.outputs == {"transfer_call": ['{"error": "busy"}']}
    assert call.session["said"][-1] == "The desk is busy at the moment."
    assert call.heard_ms[-1] > 500
    assert call.record.reason == CallEnd.CALLER_HANGUP
    assert call.record.transfer == ""
    assert [tool.failed for tool in call.record.tools] == [True]


def test_keys_the_model_presses_arrive_at_the_callers_side(calls: dict[str, Seen]) -> None:
    call = calls["keys"]
    call.assert_went_well()
    assert call.report["digits_received"] == "12#", "a comma is a pause"
    assert call.session["said"][-1] == "I have pressed the keys."


def test_a_web_service_gets_the_arguments_and_the_secret(calls: dict[str, Seen], service: WebService) -> None:
    calls["slow"].assert_went_well()
    assert service.of(ORDER) == [("Bearer very-secret", "")]
    assert json.loads(calls["slow"].outputs["order_status"][0]) == {"status": "on its way"}


def test_a_caller_hears_a_filler_while_a_tool_runs_and_the_answer_after_it(
    calls: dict[str, Seen], service: WebService
) -> None:
    call = calls["slow"]
    asked_at, told_at = call.report["turns"][0]["speech_end"], service.answered_at_ms[ORDER]
    after = [heard for heard in call.report["heard"] if heard["start"] > asked_at]
    assert after[0]["start"] < told_at, "the filler"
    answer = call.record.transcript[-1]
    assert (answer.text, answer.heard_ms) == ("Your order is on its way to you.", None)
    assert after[-1]["end"] - told_at > answer.audio_ms - 400, "the silence around it is not heard as speech"
    assert call.record.tools[0].took_ms is not None
    assert call.record.tools[0].took_ms >= SLOW_S * 1000
    assert len(call.record.sessions) == 1, "a slow tool is no reason for another session"


def test_a_mistaken_call_is_answered_with_what_is_wrong(calls: dict[str, Seen], service: WebService) -> None:
    call = calls["mistaken"]
    call.assert_went_well()
    assert "number" in json.loads(call.outputs["order_status"][0])["error"]
    assert "There is no tool 'weather'" in json.loads(call.outputs["weather"][0])["error"]
    assert call.session["said"][-1] == "I am sorry, that did not work."
    assert [tool.failed for tool in call.record.tools] == [True, True]
    assert {path for path, _, _ in service.asked} == {ORDER, "/meet"}, "nothing is sent for a call that cannot be run"


def test_two_calls_in_one_response_run_at_once_and_are_answered_together(
    calls: dict[str, Seen], service: WebService
) -> None:
    call = calls["both"]
    call.assert_went_well()
    assert sorted(json.loads(body)["who"] for _, body in service.of("/meet")) == ["ann", "bob"]
    assert call.outputs["meet"] == ["they have met"] * 2
    assert call.session["said"][1:] == ["They have met each other."], "one answer to both"


def test_a_python_function_of_an_installed_package_answers_the_model(calls: dict[str, Seen]) -> None:
    call = calls["python"]
    call.assert_went_well()
    assert json.loads(call.outputs["opening_hours"][0]) == {"open": "Monday from nine", "for": "+4930555"}
    (tool,) = [tool for tool in call.session["session"]["tools"] if tool["name"] == "opening_hours"]
    assert tool["description"] == "Says when we are open."


def test_an_mcp_server_is_passed_on_to_the_service_which_asks_it(calls: dict[str, Seen]) -> None:
    call = calls["mcp"]
    call.assert_went_well()
    (tool,) = call.session["session"]["tools"]
    assert (tool["type"], tool["server_label"], tool["server_url"]) == ("mcp", "crm", "https://crm.example/mcp")
    assert (tool["allowed_tools"], tool["require_approval"]) == (["find"], "never")
    assert [item["name"] for item in call.items if item["type"] == "mcp_call"] == ["find"]
    assert call.session["said"][-1] == "You are our fifth customer."
    assert call.heard_ms[-1] > 500
