"""Commands of operators, and what comes of them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager

import pytest
from redis.asyncio import Redis

from bench.faults.redis import RedisServer
from shared.control import commands as module
from shared.control import keys
from shared.control.commands import Commands
from shared.control.connection import ask, connect
from shared.errors import CommandFailed, ControlUnavailable
from shared.ids import CallId, DispatcherId, WorkerId
from shared.messages import Command, CommandName, CommandReply, CommandState

ONE, FRONT = WorkerId("one"), DispatcherId("front")
SAY = Command(command_id="1", name=CommandName.SAY, call_id=CallId("a"), argument="hello")

Carry = Callable[[Commands, Command], Awaitable[None]]


@pytest.fixture
def commands(redis: Redis) -> Commands:
    """The commands."""
    return Commands(redis)


def reply(command: Command, state: CommandState, detail: str = "") -> CommandReply:
    """Returns what a process says of a command."""
    return CommandReply(command_id=command.command_id, state=state, detail=detail)


async def done(commands: Commands, command: Command) -> None:
    """Says that a command is carried out."""
    await commands.answer(reply(command, CommandState.DONE, command.argument))


@asynccontextmanager
async def process(
    redis: Redis, process_id: WorkerId | DispatcherId, carry: Carry = done
) -> AsyncIterator[list[Command]]:
    """A process that carries out its commands, and what it has seen of them."""
    seen: list[Command] = []

    async def listen() -> None:
        commands = Commands(redis)
        async for command in commands.listen(process_id):
            seen.append(command)
            await carry(commands, command)

    task = asyncio.create_task(listen())
    try:
        yield seen
    finally:
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled()


async def test_process_carries_out_a_command_and_says_so(redis: Redis, commands: Commands) -> None:
    async with process(redis, ONE) as seen:
        assert await commands.run(ONE, SAY) == reply(SAY, CommandState.DONE, "hello")
    assert seen == [SAY]


async def test_failure_is_told_with_its_reason(redis: Redis, commands: Commands) -> None:
    async def fail(process: Commands, command: Command) -> None:
        await process.answer(reply(command, CommandState.FAILED, "no such call"))

    async with process(redis, ONE, fail):
        with pytest.raises(CommandFailed, match=r"^no such call$"):
            await commands.run(ONE, SAY)


async def test_what_takes_its_time_is_waited_for_once_it_has_begun(
    redis: Redis, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_LIMIT_S", 0.5)
    begun = asyncio.Event()

    async def begin(process: Commands, command: Command) -> None:
        await process.answer(reply(command, CommandState.BEGUN))
        begun.set()

    async with process(redis, ONE, begin):
        running = asyncio.create_task(commands.run(ONE, SAY))
        await begun.wait()
        finished, _ = await asyncio.wait([running], timeout=2 * module.ANSWER_LIMIT_S)
        assert not finished
        await commands.answer(reply(SAY, CommandState.DONE, "at last"))
        assert (await running).detail == "at last"


async def test_what_has_begun_and_never_ends_fails(
    redis: Redis, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DONE_LIMIT_S", 0.2)

    async def begin(process: Commands, command: Command) -> None:
        await process.answer(reply(command, CommandState.BEGUN))

    async with process(redis, ONE, begin):
        with pytest.raises(CommandFailed, match="one has begun, but not come to an end"):
            await commands.run(ONE, SAY)


async def test_command_for_nobody_fails_within_two_seconds(commands: Commands) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(CommandFailed, match="one does not answer"):
        async with asyncio.timeout(5):
            await commands.run(ONE, SAY)
    assert loop.time() - began < 2.0


async def test_command_that_has_waited_too_long_is_not_begun(redis: Redis, commands: Commands) -> None:
    now_ms = int((await ask(redis, "TIME"))[0]) * 1000
    too_old = now_ms - keys.ms(keys.COMMAND_TTL_S) - 1000
    await ask(redis, "XADD", keys.commands(ONE), f"{too_old}-0", "command", SAY.pack())
    later = Command(command_id="2", name=CommandName.DRAIN)
    async with process(redis, ONE) as seen:
        await commands.run(ONE, later)
    assert seen == [later]


async def test_command_in_a_newer_format_is_passed_over(redis: Redis, commands: Commands) -> None:
    await ask(redis, "XADD", keys.commands(ONE), "*", "command", b"\x81\xa1v\x7f")  # {"v": 127}
    async with process(redis, ONE) as seen:
        await commands.run(ONE, SAY)
    assert seen == [SAY]


async def test_answer_in_a_newer_format_is_a_failure(redis: Redis, commands: Commands) -> None:
    await ask(redis, "RPUSH", keys.answers(SAY.command_id), b"\x81\xa1v\x7f")
    with pytest.raises(CommandFailed, match="newer format"):
        await commands.run(ONE, SAY)


async def test_each_process_gets_its_own_commands_in_order(redis: Redis, commands: Commands) -> None:
    wanted = [Command(command_id=f"w{i}", name=CommandName.HANGUP, call_id=CallId(f"{i}")) for i in range(5)]
    async with process(redis, ONE) as worker, process(redis, FRONT) as dispatcher:
        drained = commands.run(FRONT, Command(command_id="d", name=CommandName.DRAIN))
        replies = await asyncio.gather(drained, *(commands.run(ONE, command) for command in wanted))
    assert [one.command_id for one in replies] == ["d", *(command.command_id for command in wanted)]
    assert sorted(worker, key=wanted.index) == wanted
    assert [command.name for command in dispatcher] == [CommandName.DRAIN]


async def test_process_that_reads_nothing_keeps_only_the_newest_commands(redis: Redis, commands: Commands) -> None:
    fill = "for i = 1, tonumber(ARGV[1]) do redis.call('XADD', KEYS[1], '*', 'command', 'x') end"
    await ask(redis, "EVAL", fill, 1, keys.commands(ONE), 3 * keys.COMMANDS_MAX)
    async with process(redis, ONE):
        await commands.run(ONE, SAY)
    assert int(await ask(redis, "XLEN", keys.commands(ONE))) <= 2 * keys.COMMANDS_MAX
    assert 0 < int(await ask(redis, "PTTL", keys.commands(ONE))) <= keys.ms(keys.COMMAND_KEY_TTL_S)


async def test_listening_goes_on_after_an_outage_and_begins_nothing_twice(
    redis_server: RedisServer, redis_url: str, commands: Commands
) -> None:
    impatient = connect(redis_url, timeout_s=0.2)
    try:
        async with aclosing(Commands(impatient).listen(ONE)) as listening:  # type: ignore[type-var]
            first = asyncio.create_task(commands.run(ONE, SAY))
            assert await anext(listening) == SAY
            await done(commands, SAY)
            await first
            coming = asyncio.ensure_future(anext(listening))
            redis_server.pause()
            with pytest.raises(ControlUnavailable):
                await ask(impatient, "PING")
            redis_server.resume()
            second = Command(command_id="2", name=CommandName.DRAIN)
            running = asyncio.create_task(commands.run(ONE, second))
            assert await coming == second
            await done(commands, second)
            await running
    finally:
        await impatient.aclose()
