"""`voicepool records` and `voicepool call`: which calls they show, and what of them."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from admin.cli import main
from admin.operations.records import Wanted, follow, moment, newest
from shared.control import keys
from shared.control.connection import connect
from shared.ids import CallId, LeaseId, WorkerId
from shared.messages import (
    CallRecord,
    KeptDigits,
    KeptToolCall,
    KeptTurn,
    KeptUsage,
    KeptUtterance,
    Tokens,
)

ANSWERED = 1_700_000_001_000

NOW_MS = 1_700_000_000_000


def record(call_id: str, **fields: Any) -> CallRecord:
    plain: dict[str, Any] = {
        "call_id": CallId(call_id),
        "lease_id": LeaseId("lease"),
        "worker_id": WorkerId("pod-0-abcd"),
        "result": "completed",
        "reason": "caller_hangup",
        "invite_at_ms": ANSWERED - 850,
        "answered_at_ms": ANSWERED,
        "ended_at_ms": ANSWERED + 62_100,
        "agent": "reception",
    }
    return CallRecord(**(plain | fields))


WHOLE = record(
    "0123456789abcdef0123",
    model="gpt-realtime",
    caller="+4930123",
    called="+4989654",
    sessions=["sess_1", "sess_2"],
    transfer="sales",
    transcript=[
        KeptUtterance(role="agent", at_ms=100, text="Hello, how can I help?", audio_ms=1500),
        KeptUtterance(role="caller", at_ms=2000, text="A table [bold]for two[/bold]."),
        KeptUtterance(role="agent", at_ms=4100, text="Your table", audio_ms=3000, heard_ms=810),
    ],
    turns=[KeptTurn(at_ms=3100, latency_ms=1000, service_ms=400, barged_in=True)],
    tools=[
        KeptToolCall(name="book", at_ms=3500, took_ms=750, arguments='{"people": 2}', output='{"ok": true}'),
        KeptToolCall(name="cancel", at_ms=65_000, failed=True),
    ],
    dtmf=[KeptDigits(at_ms=2500, digits="****")],
    usage=[KeptUsage(response_id="r", at_ms=1, input_text=1000, input_audio=2000)],
    usage_total=Tokens(input_text=1000, input_audio=2000, cached_text=400, output_text=100, output_audio=300),
    cost=0.0123,
    currency="EUR",
    note="too long to be kept whole, left out: the oldest texts",
)


def store(redis_url: str, *stored: CallRecord, at_ms: int | None = None) -> None:
    """Puts records into the stream, now or at `at_ms`."""
    with Redis.from_url(redis_url) as redis:
        for each in stored:
            redis.xadd(keys.records(), {"record": each.pack()}, id=f"{at_ms}-*" if at_ms else "*")


def run(redis_url: str, *arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, env={"REDIS_URL": redis_url})


def shown(result: Result) -> list[str]:
    """Returns the ids of the calls in a JSON array."""
    assert result.exit_code == 0, result.output
    return [each["call_id"] for each in json.loads(result.stdout)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", NOW_MS - 90_000),
        ("30m", NOW_MS - 1_800_000),
        ("1.5h", NOW_MS - 5_400_000),
        ("7d", NOW_MS - 604_800_000),
        ("99999d", 0),
        ("2023-11-14T22:00:00Z", 1_699_999_200_000),
        ("2023-11-14T23:00:00+01:00", 1_699_999_200_000),
    ],
)
def test_a_moment_is_an_age_or_a_time(text: str, expected: int) -> None:
    assert moment(text, NOW_MS) == expected


def test_a_time_without_zone_is_local() -> None:
    local = datetime.fromtimestamp(NOW_MS / 1000)
    assert moment(local.isoformat(), 0) == NOW_MS
    assert moment(datetime.fromtimestamp(NOW_MS / 1000, UTC).isoformat(), 0) == NOW_MS


@pytest.mark.parametrize("text", ["", "yesterday", "2 h", "-2h", "2w"])
def test_anything_else_is_no_moment(text: str, redis_url: str) -> None:
    with pytest.raises(ValueError, match="must be like"):
        moment(text, NOW_MS)
    if text:
        assert run(redis_url, "records", "--since", text).exit_code == 2


def test_the_newest_records_are_shown_oldest_first(redis_url: str) -> None:
    store(redis_url, *(record(f"call{number:02d}") for number in range(30)))
    assert shown(run(redis_url, "records", "--json")) == [f"call{number}" for number in range(10, 30)]
    assert shown(run(redis_url, "records", "--json", "--count", "2")) == ["call28", "call29"]


def test_a_filter_comes_before_the_count(redis_url: str) -> None:
    store(redis_url, record("a"), record("b", agent="sales"), record("c", result="failed"), record("d", agent="sales"))
    assert shown(run(redis_url, "records", "--json", "--agent", "sales", "--count", "2")) == ["b", "d"]
    assert shown(run(redis_url, "records", "--json", "--agent", "nobody")) == []
    assert shown(run(redis_url, "records", "--json", "--result", "failed", "--count", "1")) == ["c"]
    assert run(redis_url, "records", "--result", "splendid").exit_code == 2


def test_since_shows_all_of_that_time(redis_url: str) -> None:
    store(redis_url, record("old"), at_ms=NOW_MS)
    store(redis_url, *(record(f"call{number:02d}") for number in range(30)))
    assert len(shown(run(redis_url, "records", "--json", "--since", "1h"))) == 30
    assert shown(run(redis_url, "records", "--json", "--since", "2023-11-14T00:00:00Z"))[0] == "old"
    assert shown(run(redis_url, "records", "--json", "--since", "1h", "--count", "1")) == ["call29"]


def test_lines_hold_one_record_each(redis_url: str) -> None:
    store(redis_url, record("a"), WHOLE)
    lines = run(redis_url, "records", "--jsonl").stdout.splitlines()
    assert [json.loads(line)["call_id"] for line in lines] == ["a", WHOLE.call_id]
    assert json.loads(lines[1])["transcript"][2]["heard_ms"] == 810


def test_nothing_to_show_is_no_line(redis_url: str) -> None:
    assert run(redis_url, "records", "--jsonl").stdout == ""
    assert run(redis_url, "records", "--json").stdout == "[]\n"


@pytest.mark.parametrize("other", ["--jsonl", "--follow"])
def test_an_array_cannot_be_lines_and_never_ends_when_followed(redis_url: str, other: str) -> None:
    result = run(redis_url, "records", "--json", other)
    assert result.exit_code == 2
    assert "--json is one array" in result.output


def test_the_table_has_time_agent_and_cost(redis_url: str) -> None:
    store(redis_url, WHOLE, record("b", cost=None, answered_at_ms=None))
    output = run(redis_url, "records").output
    when = datetime.fromtimestamp((ANSWERED - 850) / 1000).strftime("%Y-%m-%d %H:%M:%S")
    [line] = [line for line in output.splitlines() if WHOLE.call_id in line]
    for text in (when, "reception", "850 ms", "62.1 s", "0.0123 EUR", "caller_hangup"):
        assert text in line
    assert "cost" in output.splitlines()[0]


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[AsyncRedis]:
    """A client that waits long enough for a busy machine."""
    client = connect(redis_url, timeout_s=20.0)
    yield client
    await client.aclose()


async def test_following_shows_what_fits_and_came_after_what_was_shown(redis_url: str, client: AsyncRedis) -> None:
    store(redis_url, record("a"), record("b", agent="sales"))
    wanted = Wanted(count=1, agent="reception")
    found, position = await newest(client, wanted)
    assert [each.call_id for each in found] == ["a"]
    store(redis_url, record("c", agent="sales"), record("d"), record("e"))
    new = follow(client, wanted, position)
    assert [(await anext(new)).call_id, (await anext(new)).call_id] == ["d", "e"]
    store(redis_url, record("f"))
    assert (await anext(new)).call_id == "f"
    await new.aclose()


async def test_following_an_empty_pool_begins_with_its_first_record(redis_url: str, client: AsyncRedis) -> None:
    found, position = await newest(client, Wanted(count=5))
    assert found == []
    store(redis_url, record("a"))
    new = follow(client, Wanted(count=5), position)
    assert (await anext(new)).call_id == "a"
    await new.aclose()


def following(redis_url: str, *options: str) -> subprocess.Popen[str]:
    """Returns `voicepool records --follow` at work."""
    command = [str(Path(sys.executable).with_name("voicepool")), "records", "--follow", *options]
    environment = os.environ | {"REDIS_URL": redis_url}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def test_followed_records_are_printed_as_they_come_until_ctrl_c(redis_url: str) -> None:
    store(redis_url, record("a"))
    with following(redis_url, "--jsonl") as process:
        assert process.stdout
        assert json.loads(process.stdout.readline())["call_id"] == "a"
        store(redis_url, record("b"))
        assert json.loads(process.stdout.readline())["call_id"] == "b"
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == ""
    assert process.returncode == 0


def test_followed_records_go_on_below_the_headings(redis_url: str) -> None:
    store(redis_url, record("a"))
    with following(redis_url) as process:
        assert process.stdout
        headings, first = process.stdout.readline(), process.stdout.readline()
        store(redis_url, record("b"))
        second = process.stdout.readline()
        process.send_signal(signal.SIGINT)
    assert headings.startswith("came")
    places = [line.index("reception") for line in (first, second)]
    assert places == [headings.index("agent")] * 2


def test_a_call_is_found_by_how_its_id_begins(redis_url: str) -> None:
    store(redis_url, WHOLE, record("abc1"))
    assert json.loads(run(redis_url, "call", "0123", "--json").stdout)["call_id"] == WHOLE.call_id
    assert json.loads(run(redis_url, "call", "abc1", "--json").stdout)["call_id"] == "abc1"


def test_a_call_that_is_not_there_or_not_the_only_one_is_said_so(redis_url: str) -> None:
    store(redis_url, record("abc1"), record("abc2"))
    none, two = run(redis_url, "call", "xyz"), run(redis_url, "call", "abc")
    assert (none.exit_code, two.exit_code) == (3, 3)
    assert "there is no call xyz" in none.output
    assert "2 begin with abc: abc2, abc1" in two.output


def test_of_two_records_of_one_call_the_newer_is_shown(redis_url: str) -> None:
    store(redis_url, record("abc", reason="worker_lost"), record("abc"))
    assert json.loads(run(redis_url, "call", "abc", "--json").stdout)["reason"] == "caller_hangup"


def test_a_call_is_shown_as_a_dialogue_in_the_order_of_time(redis_url: str) -> None:
    store(redis_url, WHOLE)
    output = run(redis_url, "call", "0123").output
    expected = [
        r"from +\+4930123",
        r"agent +reception \(gpt-realtime\)",
        r"completed, caller_hangup, transferred to sales",
        r"sess_1, sess_2",
        r"0:00\.1 +agent +Hello, how can I help\?",
        r"0:02\.0 +caller +A table \[bold\]for two\[/bold\]\.",
        r"0:02\.5 +typed +\*\*\*\*",
        r'0:03\.5 +tool +book \{"people": 2\} -> \{"ok": true\} +750 ms',
        r"0:04\.1 +agent +Your table +cut off, heard 0\.8 of 3\.0 s +1,000 ms",
        r"1:05\.0 +tool +cancel +not finished +failed",
        r"median 1,000 ms, longest 1,000 ms, 1 answers, 1 barge-ins",
        r"tokens in +1,000 text, 2,000 audio",
        r"of these, cached +400 text, 0 audio",
        r"cost +0\.0123 EUR",
        r"left out: the oldest texts",
    ]
    assert re.search(".*".join(expected), output, re.DOTALL), output


def test_a_call_of_which_nothing_was_kept_says_so(redis_url: str) -> None:
    store(redis_url, record("abc", agent=""))
    output = run(redis_url, "call", "abc").output
    assert "Nothing of the conversation was kept." in output
    assert "cost" not in output


def test_a_call_that_was_not_answered_says_so_instead(redis_url: str) -> None:
    store(redis_url, record("abc", answered_at_ms=None))
    output = run(redis_url, "call", "abc").output
    assert "The call was not answered." in output
    assert "Nothing of the conversation" not in output


def test_what_became_of_the_session_stands_among_what_was_said(redis_url: str) -> None:
    marks = ["session_resumed", "stuck", "connection_lost", "session_resumed", "session_resumed", "connection_lost"]
    marks += ["gave_up", "transfer_failed", "ended"]
    timed = [(name, ANSWERED + 3_000 + 1_000 * index) for index, name in enumerate(marks)]
    store(redis_url, record("abc", transcript=WHOLE.transcript, marks=timed))
    output = run(redis_url, "call", "abc").output
    expected = [
        r"0:02\.0 +caller +A table",
        r"0:03\.0 +pool +session renewed",
        r"0:04\.0 +pool +no answer came: connection to Voice Live dropped",
        r"0:04\.1 +agent +Your table",
        r"0:05\.0 +pool +connection to Voice Live lost",
        r"0:06\.0 +pool +connection to Voice Live replaced",
        r"0:07\.0 +pool +session renewed",
        r"0:08\.0 +pool +connection to Voice Live lost",
        r"0:09\.0 +pool +given up: apology",
        r"0:10\.0 +pool +transfer failed",
    ]
    assert re.search(".*".join(expected), output, re.DOTALL), output
    assert "0:11.0" not in output


def test_what_a_caller_sends_cannot_steer_the_terminal(redis_url: str) -> None:
    evil = "\x1b]0;title\x07\r\u202eABC"
    store(
        redis_url, record("abc", caller=evil, agent=evil, transcript=[KeptUtterance(role="caller", at_ms=1, text=evil)])
    )
    for arguments in (["call", "abc"], ["records"]):
        assert not {"\x1b", "\x07", "\r", "\u202e"} & set(run(redis_url, *arguments).output)


def test_the_commands_read_the_address_of_redis_from_env_files_too(redis_url: str, bare_environment: Path) -> None:
    (bare_environment / ".env").write_text(f"REDIS_URL={redis_url}\n")
    store(redis_url, record("abc"))
    assert shown(CliRunner().invoke(main, ["records", "--json"])) == ["abc"]
