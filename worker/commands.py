"""What operators ask of this worker and its calls: heard, carried out, answered.

It decides nothing about a call: what is asked goes the way of what a caller's key or the model would have asked for.
Neither texts nor numbers of a command are logged or told.
"""

import asyncio
from typing import NoReturn, Protocol

import structlog

from shared.control.commands import Commands
from shared.errors import CommandFailed, ControlUnavailable
from shared.ids import CallId, WorkerId
from shared.messages import Command, CommandName, CommandReply, CommandState

log = structlog.get_logger()

SAY_MAX = 2_000
"""Longest text to be said: two minutes and a half, and not more than a playout holds (180 s)."""


class Operated(Protocol):
    """A call, as operators act on it; all of these raise CommandFailed when it cannot be done."""

    def hang_up(self) -> None: ...
    def say(self, text: str, /) -> None: ...

    def destination(self, where: str, /) -> tuple[str, str]:
        """Returns the name and the URI of a transfer of the agent's, or of a SIP or tel URI."""
        ...

    async def transfer(self, name: str, uri: str, /) -> None:
        """Returns once the caller is in other hands."""
        ...


class Worker(Protocol):
    """This worker (`worker/child.py`)."""

    def drain(self) -> None: ...

    def undrain(self) -> None:
        """Raises CommandFailed when the worker has to go."""
        ...

    def call(self, call_id: CallId, /) -> Operated | None: ...


class CommandLoop:
    """The commands of one worker; `run` for as long as they are taken.

    Each is carried out by a task of its own: a transfer rings for a minute. There is one transfer per call at most, and
    everything else is done at once, so that tasks are bounded by the calls and by what is read (COMMANDS_MAX).
    """

    def __init__(self, worker: Worker, worker_id: WorkerId, commands: Commands) -> None:
        self._worker = worker
        self._worker_id = worker_id
        self._commands = commands

    async def run(self) -> NoReturn:
        """Carries out what comes, and goes on listening whatever becomes of Redis."""
        async with asyncio.TaskGroup() as group:
            async for command in self._commands.listen(self._worker_id):
                group.create_task(self._answer(command), name=f"command-{command.command_id}")
        raise AssertionError("listening does not end")

    async def _answer(self, command: Command) -> None:
        try:
            await self._carry_out(command)
            reply = CommandState.DONE, ""
        except CommandFailed as error:
            reply = CommandState.FAILED, str(error)
        except ControlUnavailable:
            return  # not begun: nobody could have been told
        except Exception:
            log.exception("command.error", command=command.command_id)
            reply = CommandState.FAILED, "internal error"
        log.info("command.answered", command=command.command_id, call_id=command.call_id, state=reply[0])
        try:
            await self._reply(command, *reply)
        except ControlUnavailable:
            log.warning("command.unanswered", command=command.command_id)

    async def _carry_out(self, command: Command) -> None:
        match command.name:
            case CommandName.DRAIN:
                self._worker.drain()
            case CommandName.UNDRAIN:
                self._worker.undrain()
            case CommandName.HANGUP:
                self._call(command).hang_up()
            case CommandName.SAY:
                if not command.argument.strip():
                    raise CommandFailed("there is nothing to say")
                if len(command.argument) > SAY_MAX:
                    raise CommandFailed(f"that is longer than {SAY_MAX} characters")
                self._call(command).say(command.argument)
            case CommandName.TRANSFER:
                call = self._call(command)
                name, uri = call.destination(command.argument)
                await self._reply(command, CommandState.BEGUN)
                await call.transfer(name, uri)
            case _:
                raise CommandFailed("the worker does not know this command")

    def _call(self, command: Command) -> Operated:
        call = self._worker.call(command.call_id) if command.call_id else None
        if call is None:
            raise CommandFailed("the worker has no such call")
        return call

    async def _reply(self, command: Command, state: CommandState, detail: str = "") -> None:
        await self._commands.answer(CommandReply(command_id=command.command_id, state=state, detail=detail))
