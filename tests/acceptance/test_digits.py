"""What becomes of the keys a caller presses: the model is told, a menu acts, and what is secret stays so.

All calls are made at once, each answered by an agent of its own; each test looks at one.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pytest

from shared.ending import CallEnd
from tests.acceptance.agents import KEY, Seen, agent_file, by_number, resources, ring_each, voice_lives
from tests.acceptance.pool import running_pool
from tests.acceptance.web_service import WebService, serving

NUMBER = "8052917"
"""What callers type openly; long enough to stand in no time or id by accident."""

CARD = "4929175380216647"
CARD_NAME = "<digits-1>"
"""What the model knows of it."""

CALLER = "+4915208066512"

TOLD = f"[The caller typed {NUMBER} on the telephone's keys.]"

PAY = {"name": "pay", "arguments": {"card": CARD_NAME}}

ASK = {"name": "collect_digits", "arguments": {"max_digits": 16, "terminator": "", "sensitive": True}}

SCENARIOS: dict[str, list[dict[str, Any]]] = {
    "typed": [{"expect_message": "The caller typed"}, {"say": "Thank you, I have written it down."}],
    "card": [
        {"call": {**ASK, "heard": "I would like to pay a marmalade sandwich."}},
        {"expect_output": {"name": "collect_digits", "contains": CARD_NAME}},
        {"call": PAY},
        {"expect_output": {"name": "pay", "contains": "paid"}},
        {"say": "Thank you, the marmalade is paid."},
    ],
    "nothing": [
        {"call": {"name": "collect_digits", "arguments": {"max_digits": 4, "timeout_s": 3}}},
        {"expect_output": {"name": "collect_digits", "contains": "typed nothing"}},
        {"say": "You have typed nothing."},
    ],
}

CALLERS: dict[str, tuple[str, list[str]]] = {
    "rfc4733": ("typed", ["--dtmf", f"{NUMBER}#", "--dtmf-method", "rfc4733"]),
    "info": ("typed", ["--dtmf", f"{NUMBER}#", "--dtmf-method", "info"]),
    "dtmf-relay": ("typed", ["--dtmf", f"{NUMBER}#", "--dtmf-method", "dtmf-relay"]),
    "time-out": ("typed", ["--dtmf", NUMBER]),
    "transferred": ("menu", ["--dtmf", "1", "--refer", "accept", "--hold-until-bye"]),
    "hung up": ("menu", ["--dtmf", "2", "--hold-until-bye"]),
    "told": ("menu", ["--dtmf", "3"]),
    "card": ("card", ["--say", "I want to pay", "--dtmf", CARD, "--dtmf-after", "6", "--from-user", CALLER]),
    "nothing": ("nothing", ["--say", "I want to type something"]),
}

MENU = {"1": {"transfer": "desk"}, "2": {"hang_up": True}, "3": {"say": "We are open from nine to five."}}


def agents(service_url: str) -> dict[str, dict[str, Any]]:
    pay = {
        "type": "http_request",
        "name": "pay",
        "description": "Has the caller pay.",
        "method": "POST",
        "url": f"{service_url}/pay",
        "parameters": {
            "type": "object",
            "properties": {"card": {"type": "string", "pattern": "^[0-9]{16}$"}},
            "required": ["card"],
        },
    }
    return {
        "typed": {"resource": "typed", "dtmf": {"inter_digit_s": 1.5}},
        "card": {"resource": "card", "tools": ["collect_digits", pay], "dtmf": {"inter_digit_s": 5}},
        "nothing": {
            "resource": "nothing",
            "tools": ["collect_digits"],
            "dead_air": {"after_s": 1.5, "filler": "One moment please."},
        },
        "menu": {"dtmf": {"menu": MENU}, "goodbye": "Goodbye, and call again."},
    }


class Calls:
    """What was seen of all calls, what the web service was asked, and what everybody logged."""

    def __init__(self, seen: Mapping[str, Seen], service: WebService, logs: list[str], records: str) -> None:
        self.seen = seen
        self.service = service
        self.logs = logs
        self.records = records
        """The file of call records."""


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Calls:
    directory = tmp_path_factory.mktemp("digits")
    service = WebService({"/pay": {"status": "paid", "with": CARD}})
    records, log = directory / "records.jsonl", directory / "worker.log"
    with serving(service) as url, voice_lives(directory, SCENARIOS) as services:
        settings = {
            "AGENTS_FILE": str(
                agent_file(
                    directory,
                    agents(url),
                    resources=resources(services),
                    routes=by_number(agents(url)),
                    default="menu",
                    transfers={"desk": "sip:desk@pbx.example"},
                )
            ),
            "CALL_RECORD_FILE": str(records),
            "VOICE_LIVE_LOG_FILE": str(log),
            **KEY,
        }
        with running_pool(directory, workers=1, simulator=["--reveal"], **settings) as pool:
            seen = ring_each(pool, CALLERS, services)
            logs = [*pool.logs(), *log.read_text().splitlines()]
            logs += [line for each in services.values() for line in each.process.lines()]
    return Calls(seen, service, logs, records.read_text())


@pytest.mark.parametrize("method", ["rfc4733", "info", "dtmf-relay"])
def test_digits_reach_the_model_as_words_in_the_callers_place(calls: Calls, method: str) -> None:
    call = calls.seen[method]
    call.assert_went_well()
    assert call.told == [TOLD], "once, and without the key that ended them"
    assert call.session["said"][1:] == ["Thank you, I have written it down."]
    assert [typed.digits for typed in call.record.dtmf] == [NUMBER]


def test_digits_are_complete_after_a_pause(calls: Calls) -> None:
    call = calls.seen["time-out"]
    call.assert_went_well()
    assert call.told == [TOLD]
    assert call.session["said"][1:] == ["Thank you, I have written it down."]


def test_a_key_of_the_menu_transfers_the_caller(calls: Calls) -> None:
    call = calls.seen["transferred"]
    call.assert_went_well(ended_by="pool")
    assert call.report["refer_target"] == "sip:desk@pbx.example"
    assert (call.record.reason, call.record.transfer) == (CallEnd.TRANSFERRED, "desk")
    assert call.told == [], "the model is not asked"


def test_a_key_of_the_menu_ends_the_call_with_the_agents_goodbye(calls: Calls) -> None:
    call = calls.seen["hung up"]
    call.assert_went_well(ended_by="pool")
    assert call.record.reason == CallEnd.AGENT_HANGUP
    assert call.session["said"][-1] == "Goodbye, and call again."
    said = call.record.transcript[-1]
    assert (said.text, said.heard_ms) == ("Goodbye, and call again.", None)
    assert call.heard_ms[-1] > said.audio_ms - 400, "the silence around it is not heard as speech"


def test_a_key_of_the_menu_is_answered_in_the_agents_own_words(calls: Calls) -> None:
    call = calls.seen["told"]
    call.assert_went_well()
    assert call.session["said"][-1] == "We are open from nine to five."
    said = call.record.transcript[-1]
    assert call.heard_ms[-1] > said.audio_ms - 400
    assert [typed.digits for typed in call.record.dtmf] == ["3"]


def test_secret_digits_reach_a_tool_and_the_model_only_gets_a_name_for_them(calls: Calls) -> None:
    call = calls.seen["card"]
    call.assert_went_well()
    assert [json.loads(body) for _, _, body in calls.service.asked] == [{"card": CARD}]
    assert json.loads(call.outputs["collect_digits"][0]) == {"digits": CARD_NAME, "count": 16}
    assert json.loads(call.outputs["pay"][0]) == {"status": "paid", "with": CARD_NAME}, "nor what a tool says of them"
    assert CARD not in json.dumps(call.session)
    assert call.session["said"][-1] == "Thank you, the marmalade is paid."


def test_secret_digits_are_not_in_the_record(calls: Calls) -> None:
    record = calls.seen["card"].record
    assert CARD not in json.dumps(asdict(record))
    assert [typed.digits for typed in record.dtmf] == ["*" * 16]
    assert [tool.name for tool in record.tools] == ["collect_digits", "pay"]
    assert record.call_id in calls.records
    assert CARD not in calls.records


def test_no_process_logs_numbers_words_or_digits(calls: Calls) -> None:
    assert any("call.ended" in line for line in calls.logs), "the test itself: there have to be logs"
    for secret in (CARD, NUMBER, CALLER, CALLER.removeprefix("+"), "marmalade", "sip:desk@pbx.example"):
        assert not [line for line in calls.logs if secret in line], secret


def test_a_caller_who_types_nothing_is_waited_for_in_silence_and_the_model_is_told(calls: Calls) -> None:
    call = calls.seen["nothing"]
    call.assert_went_well()
    assert "typed nothing" in call.outputs["collect_digits"][0]
    assert len(call.heard_ms) == 2, "the greeting and the answer: nobody but the caller is waited for"
    assert call.heard_ms[1] <= call.record.transcript[-1].audio_ms
