"""The command line over a real Redis: what it prints, what it has done, and how it exits."""

import asyncio
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from redis.asyncio import Redis

from admin.cli import main
from shared.control import keys
from shared.control.connection import ask
from shared.control.events import EventName, Events
from shared.ids import WorkerId
from shared.messages import CommandState
from tests.integration.admin.pool import FRONT, NUMBER, ONE, OTHER, add_call, add_worker, end_call, fill, obeying

GONE = "redis://127.0.0.1:1/0"

VOICEPOOL = str(Path(sys.executable).with_name("voicepool"))


async def run(url: str, *arguments: str, answer: str | None = None) -> Result:
    """Returns what a command has printed; Redis and who obeys go on meanwhile."""
    runner = CliRunner()
    return await asyncio.to_thread(runner.invoke, main, arguments, input=answer, env={"REDIS_URL": url})


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["ps"], [r"pod-a-0-1111 +ready +2/10 +31 % +1\.2 ms", r"pod-a-1-2222 +ready, late .* 31 ",
                  r"west, \(settings\)",
                  r"front-d-4444 +ready +192\.0\.2\.2:5060"]),
        (["calls"], [r"0a+ +talking +reception +pod-a-0-1111 +west +192\.0\.2\.9 +1:3\d +1:[23]\d", r"9b+ +offered"]),
        (["call", "0a"], [r"state +talking for 1:[23]\d", r"worker +pod-a-0-1111"]),
        (["call", "5d"], [r"ended +completed, caller_hangup", r"A secret word\."]),
        (["quota"], [r"\(settings\) +0/- +- +-", r"west +4/50 .* of 600/min .* [1-5] s"]),
        (["events"], [r"call\.answered +call_id=0a+ +worker_id=pod-a-0-1111", r"call\.refused"]),
        (["top", "--once"], [r"calls 4/30 +workers 3: 2 ready +dispatchers 1", r"resource\.throttled"]),
    ],
)  # fmt: skip
async def test_tables_for_people(redis: Redis, redis_url: str, arguments: list[str], expected: list[str]) -> None:
    await fill(redis)
    result = await run(redis_url, *arguments)
    assert result.exit_code == 0, result.output
    assert re.search(".*".join(expected), result.stdout, re.DOTALL), result.stdout


@pytest.mark.parametrize("command", ["ps", "calls", "quota", "events", "top", "records"])
async def test_no_table_has_a_number_in_it(redis: Redis, redis_url: str, command: str) -> None:
    await fill(redis)
    result = await run(redis_url, command, *(["--once"] if command == "top" else []))
    assert result.exit_code == 0
    assert NUMBER not in result.output


async def test_json_for_programs(redis: Redis, redis_url: str) -> None:
    await fill(redis)
    pool = json.loads((await run(redis_url, "ps", "--json")).stdout)
    assert pool["workers"][0]["worker_id"] == ONE
    assert pool["dispatchers"][0]["dispatcher_id"] == FRONT
    assert len(json.loads((await run(redis_url, "calls", "--json")).stdout)) == 4
    running = json.loads((await run(redis_url, "call", "0a", "--json")).stdout)
    ended = json.loads((await run(redis_url, "call", "5d", "--json")).stdout)
    assert (running["state"], ended["state"], ended["caller"]) == ("talking", "ended", NUMBER)
    assert [row["resource"] for row in json.loads((await run(redis_url, "quota", "--json")).stdout)] == ["", "west"]
    [event] = json.loads((await run(redis_url, "events", "--count", "1", "--json")).stdout)
    assert (event["event"], event["status"]) == ("call.refused", "503")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["calls"], "There are no calls."),
        (["quota"], "No dispatcher"),
        (["events"], "no events"),
        (["drain", "--all", "--yes"], "nothing to do"),
        (["hangup", "--all"], "nothing to do"),
        (["top", "--once"], "workers 0"),
    ],
)
async def test_an_empty_pool(redis_url: str, arguments: list[str], text: str) -> None:
    result = await run(redis_url, *arguments)
    assert result.exit_code == 0
    assert text in result.output


async def test_what_was_done_is_printed_and_exits_0(redis: Redis, redis_url: str) -> None:
    await fill(redis)
    async with obeying(redis, ONE, OTHER, FRONT) as pool:
        for arguments in (
            ["drain", "pod-a-0"],
            ["undrain", "pod-b", "front", "--yes"],
            ["hangup", "0a"],
            ["hangup", "--worker", "pod-b-0", "--yes"],
            ["transfer", "1a", "desk"],
            ["say", "1a", "Hello."],
        ):
            result = await run(redis_url, *arguments)
            assert result.exit_code == 0, result.output
            assert result.stdout.startswith("done"), result.stdout
    assert [(name, process_id) for name, process_id, _, _ in pool.done][:1] == [("drain", ONE)]
    assert ("undrain", FRONT, None, "") in pool.done
    assert ("hangup", OTHER, "9bbbbbbbbbbbbbbbbbbb", "") in pool.done
    assert pool.done[-2:] == [
        ("transfer", ONE, "1aaaaaaaaaaaaaaaaaaa", "desk"),
        ("say", ONE, "1aaaaaaaaaaaaaaaaaaa", "Hello."),
    ]


async def test_what_was_not_done_is_on_stderr_and_exits_1(redis: Redis, redis_url: str) -> None:
    await fill(redis)
    async with obeying(redis, ONE, OTHER, hangup=[(CommandState.FAILED, "it is being transferred")]):
        failed = await run(redis_url, "hangup", "0a")
        in_json = await run(redis_url, "hangup", "0a", "--json")
    assert (failed.exit_code, failed.stdout) == (1, "")
    assert "0aaaaaaaaaaaaaaaaaaa: it is being transferred" in failed.stderr
    assert (in_json.exit_code, json.loads(in_json.stdout)[0]["result"]) == (1, "failed")


async def test_a_dead_worker_is_told_of_and_exits_1(redis: Redis, redis_url: str) -> None:
    await fill(redis)
    await ask(redis, "ZINCRBY", keys.workers(), -keys.ms(60), ONE)
    result = await run(redis_url, "say", "0a", "Hello.")
    assert result.exit_code == 1
    assert "has been silent for 60." in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["drain"],
        ["drain", "x", "--all"],
        ["hangup"],
        ["hangup", "x", "--all"],
        ["hangup", "--worker", "x", "--all"],
        ["say", "x"],
        ["top"],
        ["events", "--since", "yesterday"],
    ],
)
async def test_wrong_usage_exits_2(redis_url: str, arguments: list[str]) -> None:
    assert (await run(redis_url, *arguments)).exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [["drain", "--all"], ["undrain", "pod-a"], ["drain", "pod-a-0", "front"], ["hangup", "--all"],
     ["hangup", "0a", "1a"], ["hangup", "--worker", ONE]],
)  # fmt: skip
async def test_more_than_one_needs_yes_where_nobody_can_be_asked(
    redis: Redis, redis_url: str, arguments: list[str]
) -> None:
    await fill(redis)
    result = await run(redis_url, *arguments)
    assert result.exit_code == 2
    assert "confirm it with --yes" in result.stderr
    assert await ask(redis, "KEYS", "{voicepool}:commands:*") == []


@pytest.mark.parametrize("arguments", [["call", "x"], ["drain", "x"], ["drain", "pod-"], ["hangup", "x"]])
async def test_nothing_or_too_much_of_that_name_exits_3(redis: Redis, redis_url: str, arguments: list[str]) -> None:
    await fill(redis)
    assert (await run(redis_url, *arguments)).exit_code == 3


@pytest.mark.parametrize(
    "arguments",
    [["ps"], ["calls"], ["call", "x"], ["quota"], ["events"], ["top", "--once"], ["drain", "x"], ["records"]],
)
async def test_no_redis_exits_4(arguments: list[str]) -> None:
    result = await run(GONE, *arguments)
    assert result.exit_code == 4
    assert "does not answer" in result.stderr


async def test_a_bad_redis_url_exits_2() -> None:
    assert (await run("http://x", "ps")).exit_code == 2


async def test_followed_events_are_lines_of_json_until_ctrl_c(redis: Redis, redis_url: str) -> None:
    events = Events(redis)
    await events.tell(EventName.WORKER_LEFT, {"worker_id": "a"})
    process = await asyncio.create_subprocess_exec(
        VOICEPOOL, "events", "--follow", "--json",
        env=os.environ | {"REDIS_URL": redis_url}, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout
    assert json.loads(await process.stdout.readline())["worker_id"] == "a"
    await events.tell(EventName.WORKER_LEFT, {"worker_id": "b"})
    assert json.loads(await process.stdout.readline())["worker_id"] == "b"
    process.send_signal(signal.SIGINT)
    assert await process.stdout.read() == b""
    assert await process.wait() == 0


async def test_a_call_moves_from_running_to_ended(redis: Redis, redis_url: str) -> None:
    await add_worker(redis, ONE)
    lease = await add_call(redis, "abc")
    assert "talking" in (await run(redis_url, "call", "abc")).stdout
    await end_call(redis, lease)
    assert "caller_hangup" in (await run(redis_url, "call", "abc")).stdout


class Terminal:
    """A command in a terminal of its own."""

    def __init__(self, url: str, *arguments: str, rows: int = 40) -> None:
        self._ours, theirs = pty.openpty()
        environment = os.environ | {"REDIS_URL": url, "TERM": "xterm", "LINES": str(rows), "COLUMNS": "140"}
        self.process = subprocess.Popen(
            [VOICEPOOL, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
        )
        os.close(theirs)
        self.seen = ""

    def await_text(self, text: str, within_s: float = 20.0) -> None:
        """Returns when it has been printed."""
        deadline = time.monotonic() + within_s
        while text not in self.seen:
            readable, _, _ = select.select([self._ours], [], [], max(0.0, deadline - time.monotonic()))
            assert readable, self.seen[-2000:]
            self.seen += os.read(self._ours, 65536).decode(errors="replace")

    def type(self, keys: str) -> None:
        """Presses keys."""
        os.write(self._ours, keys.encode())

    def ended(self) -> int:
        """Returns the exit code, while what is still printed is read."""
        try:
            while True:
                self.seen += os.read(self._ours, 65536).decode(errors="replace")
        except OSError:  # the other side is closed
            os.close(self._ours)
        return self.process.wait(timeout=20)


async def test_top_shows_what_changes_until_q(redis: Redis, redis_url: str) -> None:
    await fill(redis)
    terminal = Terminal(redis_url, "top", "--interval", "0.2")
    await asyncio.to_thread(terminal.await_text, "calls 4/30")
    await Events(redis).tell(EventName.WORKER_LEFT, {"worker_id": "pod-z"})
    await asyncio.to_thread(terminal.await_text, "worker_id=pod-z")
    terminal.type("q")
    assert await asyncio.to_thread(terminal.ended) == 0


async def test_top_ends_with_ctrl_c(redis: Redis, redis_url: str) -> None:
    await add_worker(redis, ONE)
    terminal = Terminal(redis_url, "top")
    await asyncio.to_thread(terminal.await_text, ONE)
    terminal.process.send_signal(signal.SIGINT)  # as a terminal does
    assert await asyncio.to_thread(terminal.ended) == 0


async def test_a_low_terminal_shows_what_matters_and_says_what_is_left_out(redis: Redis, redis_url: str) -> None:
    await fill(redis)
    for number in range(20):
        await add_worker(redis, WorkerId(f"pod-y-{number:02}-8888"))
    terminal = Terminal(redis_url, "top", rows=24)
    await asyncio.to_thread(terminal.await_text, "more")
    terminal.type("q")
    assert await asyncio.to_thread(terminal.ended) == 0
    assert "pod-a-1-2222" in terminal.seen  # the late one
    assert "pod-y-10-8888" not in terminal.seen  # one of many that are fine


@pytest.mark.parametrize(("typed", "code", "commands"), [("y\n", 0, 3), ("n\n", 1, 0)])
async def test_an_operator_at_a_terminal_is_asked(
    redis: Redis, redis_url: str, typed: str, code: int, commands: int
) -> None:
    await add_worker(redis, ONE)
    for call_id in ("a", "b", "c"):
        await add_call(redis, call_id)
    async with obeying(redis, ONE) as pool:
        terminal = Terminal(redis_url, "hangup", "--all")
        await asyncio.to_thread(terminal.await_text, "Do it?")
        terminal.type(typed)
        assert await asyncio.to_thread(terminal.ended) == code
    assert len(pool.done) == commands
