"""What remains of a call: its record in Redis, in the file and for the operator, and nothing of it in any log."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from shared.messages import CallRecord
from tests.acceptance.agents import KEY, Seen, agent_file, resources, ring_each, voice_lives
from tests.acceptance.pool import Pool, running_pool
from tests.acceptance.process import ROOT
from tests.acceptance.web_service import WebService, serving

GREETING = "Hello there."
STORY = "Your order left our house last Tuesday, and since then it has been on its way through the whole country."
ANSWER = "Order forty seven arrives tomorrow."

CALLER = "+4915550199"
NUMBERS = {"open": "+49305550101", "discreet": "+49305550102"}
"""The number that each agent answers."""

HEADER = "Platinum-4711"

DIGITS = "8642097531"
"""So many that no time and no id in a log contains them by chance."""

HEARD = ["Where is my order?", "No, the other order please."]
"""What the service makes of what the caller says."""

NOTED, RESULT, MASKED = "I have written that down.", "seventeen-apples", "wrong order"

NUMBER_DIGITS = [number.removeprefix("+") for number in (CALLER, *NUMBERS.values())]

SECRETS = [GREETING, NOTED, STORY, ANSWER, *HEARD, *NUMBER_DIGITS, HEADER, DIGITS, RESULT, MASKED]
"""What callers said, typed and heard, who they are, and what tools were told: not for any log."""

PRICES = {
    "input_text": 1.0,
    "input_audio": 20.0,
    "cached_text": 0.5,
    "cached_audio": 3.0,
    "output_text": 4.0,
    "output_audio": 50.0,
}

STEPS: list[dict[str, Any]] = [
    {"say": NOTED},
    {"say": {"text": STORY, "heard": HEARD[0]}},
    {"call": {"name": "order_status", "arguments": {"number": 47, "remark": MASKED}, "heard": HEARD[1]}},
    {"expect_output": {"name": "order_status", "contains": RESULT}},
    {"say": ANSWER},
]

PHONE = [
    *("--say", "where is my order", "--say", "no the other order please", "--talk-over-after", "1.5"),
    *("--dtmf", f"{DIGITS}#"),
    *("--from-user", CALLER, "--header", f"X-Customer: {HEADER}"),
]


@dataclass(frozen=True)
class Found:
    """The pool, its record file, and what was seen of both calls."""

    pool: Pool
    file: Path
    calls: dict[str, Seen]

    def voicepool(self, *arguments: str) -> str:
        """Returns what the operator's command prints."""
        return subprocess.run(
            [sys.executable, "-c", "from admin.cli import main; main()", *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT), "REDIS_URL": self.pool.redis_server.url},
            cwd=self.pool.directory,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Found]:
    """Returns what is left of two calls that went the same way, with an agent that keeps everything and one that does
    not."""
    directory = tmp_path_factory.mktemp("records")
    file = directory / "records.jsonl"
    service = WebService({"/orders": {"status": RESULT}})
    with serving(service) as url, voice_lives(directory, dict.fromkeys(NUMBERS, STEPS)) as services:
        status = {
            "type": "http_request",
            "name": "order_status",
            "description": "Looks up an order.",
            "method": "POST",
            "url": f"{url}/orders",
            "parameters": {
                "type": "object",
                "properties": {"number": {"type": "integer"}, "remark": {"type": "string"}},
            },
            "mask": ["remark"],
        }
        nothing = {"transcript": False, "tools": False, "dtmf": False, "numbers": False}
        own: dict[str, dict[str, Any]] = {"open": {}, "discreet": {"keep": nothing}}
        instructions = {"instructions": "The caller is {{ caller }}, customer {{ headers['X-Customer'] }}."}
        path = agent_file(
            directory,
            {name: {"resource": name, "tools": [status], **instructions, **agent} for name, agent in own.items()},
            resources=resources(services),
            routes=[{"called": number, "agent": name} for name, number in NUMBERS.items()],
            default="open",
            prices={"*": PRICES},
            currency="EUR",
        )
        settings = {
            "AGENTS_FILE": str(path),
            "CALL_RECORD_FILE": str(file),
            "VOICE_LIVE_PROACTIVE_GREETING": GREETING,
            **KEY,
        }
        with running_pool(directory, workers=1, **settings) as pool:
            callers = {name: (number, PHONE) for name, number in NUMBERS.items()}
            yield Found(pool, file, ring_each(pool, callers, services))


def test_the_transcript_has_both_sides_in_order(found: Found) -> None:
    call = found.calls["open"]
    call.assert_went_well()
    said = call.record.transcript
    cut = said[3].text
    assert [(each.role, each.text) for each in said] == [
        ("agent", GREETING),
        ("agent", NOTED),
        ("caller", HEARD[0]),
        ("agent", cut),
        ("caller", HEARD[1]),
        ("agent", ANSWER),
    ]
    assert all(earlier.at_ms < later.at_ms for earlier, later in pairwise(said)), said
    assert said[-1].heard_ms is None


def test_of_an_answer_that_was_talked_over_the_record_has_what_was_heard(found: Found) -> None:
    call = found.calls["open"]
    [cut] = [said for said in call.record.transcript if said.heard_ms is not None]
    assert STORY.startswith(cut.text)
    assert 0 < len(cut.text) < len(STORY)
    assert cut.heard_ms is not None
    assert 1000 < cut.heard_ms < cut.audio_ms
    assert [turn.barged_in for turn in call.record.turns] == [True, False]
    [truncated] = [mark["audio_ms"] for mark in call.session["marks"] if mark["kind"] == "truncated"]
    assert cut.heard_ms == truncated, "the record and the model know the same"


def test_turns_are_kept_with_what_the_caller_waited(found: Found) -> None:
    call = found.calls["open"]
    _keys, *times = call.report["turns"]
    assert len(call.record.turns) == len(times) == 2
    answered = call.record.answered_at_ms or 0
    for turn, heard in zip(call.record.turns, times, strict=True):
        assert turn.service_ms is not None
        assert turn.latency_ms is not None
        assert turn.latency_ms > turn.service_ms, "the end of speech is noticed after it"
        # The clocks are the same; jitter buffers and the threshold of speech lie between the two.
        assert abs(answered + turn.at_ms - heard["speech_end"]) < 400


def test_what_the_tokens_cost_is_kept(found: Found) -> None:
    record = found.calls["open"].record
    total = asdict(record.usage_total)
    assert total == {name: sum(getattr(each, name) for each in record.usage) for name in total}
    assert total["input_text"] > 0
    assert total["output_audio"] > 0
    assert len({each.response_id for each in record.usage}) == len(record.usage) >= 3
    cost = sum(
        (total[f"input_{kind}"] - total[f"cached_{kind}"]) * PRICES[f"input_{kind}"]
        + total[f"cached_{kind}"] * PRICES[f"cached_{kind}"]
        + total[f"output_{kind}"] * PRICES[f"output_{kind}"]
        for kind in ("text", "audio")
    )
    assert record.cost == pytest.approx(cost / 1e6, abs=1e-6)
    assert record.currency == "EUR"


def test_tools_digits_and_numbers_are_kept(found: Found) -> None:
    record = found.calls["open"].record
    [tool] = record.tools
    assert (tool.name, tool.failed) == ("order_status", False)
    assert json.loads(tool.arguments)["number"] == 47
    assert MASKED not in tool.arguments, "the agent masks it"
    assert RESULT in tool.output
    assert tool.took_ms is not None
    assert [typed.digits for typed in record.dtmf] == [DIGITS]
    assert (record.caller, record.called) == (CALLER, NUMBERS["open"])
    assert (record.agent, record.model) == ("open", "gpt-4.1-mini")


def test_an_agent_that_keeps_nothing_leaves_figures_only(found: Found) -> None:
    call = found.calls["discreet"]
    call.assert_went_well()
    record = call.record
    assert (record.transcript, record.dtmf, record.caller, record.called) == ([], [], "", "")
    [tool] = record.tools
    assert (tool.name, tool.arguments, tool.output) == ("order_status", "", "")
    assert len(record.turns) == 2
    assert record.usage_total.output_audio > 0
    packed = json.dumps(asdict(record))
    assert not [secret for secret in SECRETS if secret in packed]


def test_the_file_has_the_same_records_as_redis(found: Found) -> None:
    lines = [json.loads(line) for line in found.file.read_text().splitlines()]
    by_id = {line["call_id"]: line for line in lines}
    assert len(lines) == len(by_id) == 2
    for call in found.calls.values():
        assert by_id[call.record.call_id] == as_json(call.record)


def test_the_operator_sees_the_records(found: Found) -> None:
    record = found.calls["open"].record
    assert json.loads(found.voicepool("call", record.call_id, "--json")) == {"state": "ended", **as_json(record)}
    listed = json.loads(found.voicepool("records", "--json", "--agent", "discreet"))
    assert listed == [as_json(found.calls["discreet"].record)]
    shown = found.voicepool("call", record.call_id)
    assert ANSWER in shown
    assert CALLER in shown


def test_nothing_of_a_conversation_is_in_a_log(found: Found) -> None:
    lines = found.pool.logs()
    assert [line for line in lines if found.calls["open"].record.call_id in line], "the test itself: nothing was logged"
    assert not [line for line in lines for secret in SECRETS if secret in line]


def as_json(record: CallRecord) -> Any:
    """Returns the record as JSON has it: without tuples."""
    return json.loads(json.dumps(asdict(record)))
