"""What a worker does with commands, over a real Redis, and what it answers."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from shared.control.commands import Commands
from shared.control.connection import connect
from shared.errors import CommandFailed
from shared.ids import CallId, WorkerId, new_command_id
from shared.messages import Command, CommandReply, CommandState
from worker.commands import CommandLoop

WORKER = WorkerId("w1")
CALL = CallId("c1")
PATIENCE_S = 10.0


class Call:
    """A call that notes what is asked of it."""

    def __init__(self, asked: list[str]) -> None:
        self._asked = asked
        self.begun = asyncio.Event()
        self.rings = asyncio.Event()
        self.outcome = ""

    def hang_up(self) -> None:
        self._asked.append("hang up")

    def say(self, text: str) -> None:
        if text == "broken":
            raise ValueError("a mistake of ours")
        self._asked.append(f"say {text}")

    def destination(self, where: str) -> tuple[str, str]:
        if where == "nowhere":
            raise CommandFailed("neither a transfer nor a URI")
        return where, f"sip:{where}@h"

    async def transfer(self, name: str, uri: str) -> None:
        self._asked.append(f"transfer {name} {uri}")
        self.begun.set()
        await self.rings.wait()
        if self.outcome:
            raise CommandFailed(self.outcome)


class Stage:
    """A worker with one call, and an operator's view of it."""

    def __init__(self, commands: Commands) -> None:
        self.asked: list[str] = []
        self.only = Call(self.asked)
        self.stopping = False
        self.commands = commands

    def drain(self) -> None:
        self.asked.append("drain")

    def undrain(self) -> None:
        if self.stopping:
            raise CommandFailed("the worker has been told to stop")
        self.asked.append("undrain")

    def call(self, call_id: CallId) -> Call | None:
        return self.only if call_id == CALL else None

    async def run(self, name: str, argument: str = "", call_id: CallId | None = CALL) -> CommandReply:
        command = Command(command_id=new_command_id(), name=name, call_id=call_id, argument=argument)
        return await self.commands.run(WORKER, command)


@pytest.fixture
async def stage(redis_url: str) -> AsyncIterator[Stage]:
    async with connect(redis_url) as redis:
        stage = Stage(Commands(redis))
        running = asyncio.create_task(CommandLoop(stage, WORKER, stage.commands).run())
        async with asyncio.timeout(PATIENCE_S):
            yield stage
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


async def test_a_worker_is_drained_and_undrained(stage: Stage) -> None:
    for name in ("drain", "undrain"):
        assert (await stage.run(name, call_id=None)).state == CommandState.DONE
    assert stage.asked == ["drain", "undrain"]


async def test_a_worker_that_has_to_go_is_not_undrained(stage: Stage) -> None:
    stage.stopping = True
    with pytest.raises(CommandFailed, match="told to stop"):
        await stage.run("undrain", call_id=None)


async def test_a_call_is_hung_up_and_spoken_to(stage: Stage) -> None:
    await stage.run("hangup")
    await stage.run("say", "We close now.")
    assert stage.asked == ["hang up", "say We close now."]


async def test_a_transfer_is_answered_twice_and_others_are_carried_out_meanwhile(stage: Stage) -> None:
    moving = asyncio.create_task(stage.run("transfer", "support"))
    await stage.only.begun.wait()
    await stage.run("say", "One moment.")
    assert not moving.done()
    stage.only.rings.set()
    assert (await moving).state == CommandState.DONE
    assert stage.asked == ["transfer support sip:support@h", "say One moment."]


async def test_a_transfer_that_fails_says_why(stage: Stage) -> None:
    stage.only.outcome = "busy"
    stage.only.rings.set()
    with pytest.raises(CommandFailed, match="busy"):
        await stage.run("transfer", "support")


@pytest.mark.parametrize(
    ("name", "argument", "call_id", "reason"),
    [
        ("transfer", "nowhere", CALL, "neither a transfer nor a URI"),
        ("say", "  ", CALL, "nothing to say"),
        ("hangup", "", CallId("c9"), "no such call"),
        ("hangup", "", None, "no such call"),
        ("dance", "", CALL, "does not know"),
        ("say", "broken", CALL, "internal error"),
    ],
)
async def test_what_cannot_be_done_fails_with_a_reason_and_the_worker_goes_on(
    stage: Stage, name: str, argument: str, call_id: CallId | None, reason: str
) -> None:
    with pytest.raises(CommandFailed, match=reason):
        await stage.run(name, argument, call_id)
    assert (await stage.run("drain")).state == CommandState.DONE


async def test_commands_are_heard_once_although_redis_closes_the_connection(stage: Stage, redis_url: str) -> None:
    await stage.run("say", "once")
    async with connect(redis_url) as operator:
        await operator.client_kill_filter(_type="normal", skipme=True)
        assert (await stage.run("drain")).state == CommandState.DONE
    assert stage.asked == ["say once", "drain"]


async def test_texts_and_numbers_are_not_logged(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    stage.only.rings.set()
    await stage.run("say", "a secret text")
    await stage.run("transfer", "+4930123456")
    printed = capsys.readouterr()
    assert "command.answered" in printed.out + printed.err
    assert "secret" not in printed.out + printed.err
    assert "4930123456" not in printed.out + printed.err
