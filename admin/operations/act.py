"""Has workers and dispatchers carry out what an operator wants, and says what came of it for each of them.

It carries nothing out itself and does not choose (`targets.py`).
"""

import asyncio

from redis.asyncio import Redis

from admin.operations.shapes import Outcome, Result
from admin.operations.targets import Selection, Target
from shared.control.commands import Commands
from shared.errors import CommandFailed, ControlUnavailable
from shared.ids import new_command_id
from shared.messages import Command, CommandName

AT_ONCE = 20
"""Commands under way at once: fewer than a process's stream keeps, and few enough for one process to begin in time."""


async def run(redis: Redis, name: CommandName, selection: Selection, argument: str = "") -> list[Outcome]:
    """Returns what came of a command to each target, in their order; raises nothing.

    `argument` is where to transfer to, or what to say. A process that is dead fails within two seconds.
    """
    commands, places = Commands(redis), asyncio.Semaphore(AT_ONCE)

    async def one(target: Target) -> Outcome:
        async with places:
            result, detail = await _run(commands, name, target, argument)
        return Outcome(target=target.name, result=result, detail=detail)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(target)) for target in selection.targets]
    return [task.result() for task in tasks]


async def _run(commands: Commands, name: CommandName, target: Target, argument: str) -> tuple[Result, str]:
    if target.silent_ms is not None:
        return Result.FAILED, f"{target.process_id} has been silent for {target.silent_ms / 1000:.1f} s"
    command = Command(command_id=new_command_id(), name=name, call_id=target.call_id, argument=argument)
    try:
        return Result.DONE, (await commands.run(target.process_id, command)).detail
    except CommandFailed as error:
        return Result.FAILED, str(error)
    except ControlUnavailable as error:
        return Result.UNKNOWN, f"Redis does not answer ({error}): it may have been done all the same"
