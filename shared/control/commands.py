"""Commands of operators to one worker or dispatcher, and what it answers.

It carries nothing out. A process that is not there, or does not begin in time, is a CommandFailed within two seconds.
"""

import asyncio
from collections.abc import AsyncIterator

from redis.asyncio import Redis

from shared.control import keys
from shared.control.connection import answering, ask
from shared.errors import CommandFailed, ControlUnavailable
from shared.ids import DispatcherId, WorkerId
from shared.messages import Command, CommandReply, CommandState, MessageError

ProcessId = WorkerId | DispatcherId

ANSWER_LIMIT_S = 1.9
"""Longest wait for the first answer: a little more than COMMAND_TTL_S, so that what was begun is heard of."""

DONE_LIMIT_S = 90.0
"""Longest wait for the end of what has begun: a transfer rings for as long as its tool says, 60 s at most."""

POLL_S = 0.05
"""How often an answer is looked for. A blocking read would hold one of the process's few connections."""

READ_S = 0.2
"""How often a process looks for commands, likewise."""


class Commands:
    """The commands of the pool behind `redis`. Every method raises ControlUnavailable when Redis does not answer."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def run(self, process_id: ProcessId, command: Command) -> CommandReply:
        """Has a process carry out a command and returns its last reply, which is `done`.

        Raises CommandFailed with the reason when it fails, and when the process does not begin in time.
        """
        await self._send(process_id, command)
        reply = await self._reply(command, ANSWER_LIMIT_S)
        if reply is None:
            raise CommandFailed(f"{process_id} does not answer")
        if reply.state == CommandState.BEGUN:
            reply = await self._reply(command, DONE_LIMIT_S)
        if reply is None:
            raise CommandFailed(f"{process_id} has begun, but not come to an end within {DONE_LIMIT_S:.0f} s")
        if reply.state != CommandState.DONE:
            raise CommandFailed(reply.detail or "failed")
        return reply

    async def listen(self, process_id: ProcessId) -> AsyncIterator[Command]:
        """Yields the commands for a process as they come, for as long as it runs, but none too old to be begun.

        Commands that cannot be read are left out as well: whoever sent them gets no answer. While Redis is away there
        are none; it goes on where it was, so that no command comes twice.
        """
        position = "0"
        while True:
            try:
                found = await self._next(process_id, position)
            except ControlUnavailable:
                found = None
            if found is None:
                await asyncio.sleep(READ_S)
                continue
            position, age_ms, packed = found
            if age_ms > keys.ms(keys.COMMAND_TTL_S):
                continue
            try:
                command = Command.unpack(packed)
            except MessageError:
                continue
            yield command

    async def answer(self, reply: CommandReply) -> None:
        """Says how far a command has come."""
        key = keys.answers(reply.command_id)
        async with answering(self._redis, "command_answer"), self._redis.pipeline(transaction=True) as pipe:
            pipe.rpush(key, reply.pack())
            pipe.pexpire(key, keys.ms(keys.COMMAND_KEY_TTL_S))
            await pipe.execute()

    async def _next(self, process_id: ProcessId, position: str) -> tuple[str, int, bytes] | None:
        """Returns the first command after `position`: its own position, its age in ms, and itself."""
        entries: list[tuple[bytes, dict[bytes, bytes]]] = await ask(
            self._redis, "XRANGE", keys.commands(process_id), f"({position}", "+", "COUNT", 1
        )
        if not entries:
            return None
        [(entry_id, fields)] = entries
        seconds, micros = await ask(self._redis, "TIME")
        now_ms = int(seconds) * 1000 + int(micros) // 1000
        return entry_id.decode(), now_ms - int(entry_id.partition(b"-")[0]), fields[b"command"]

    async def _send(self, process_id: ProcessId, command: Command) -> None:
        key = keys.commands(process_id)
        async with answering(self._redis, "command_send"), self._redis.pipeline(transaction=True) as pipe:
            pipe.xadd(key, {"command": command.pack()}, maxlen=keys.COMMANDS_MAX)
            pipe.pexpire(key, keys.ms(keys.COMMAND_KEY_TTL_S))
            await pipe.execute()

    async def _reply(self, command: Command, limit_s: float) -> CommandReply | None:
        try:
            async with asyncio.timeout(limit_s):
                while True:
                    packed: bytes | None = await ask(self._redis, "LPOP", keys.answers(command.command_id))
                    if packed is not None:
                        return _unpacked(packed)
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            return None


def _unpacked(packed: bytes) -> CommandReply:
    try:
        return CommandReply.unpack(packed)
    except MessageError:
        raise CommandFailed("the answer has a newer format") from None
