"""The endpoints that have something done: drain, undrain, hang up, transfer, say. All of them are in the audit log."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Self

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from redis.asyncio import Redis

from admin.api import problems
from admin.api.access import Caller, Operator, audit
from admin.api.problems import Problem
from admin.api.reading import AnId, TheRedis
from admin.operations import act, targets
from admin.operations.shapes import Outcome, Result
from admin.operations.targets import Selection
from shared.messages import CommandName

TARGETS_MAX = 1000
"""Ids in one request."""

TEXT_MAX = 2000
"""Characters to be said: about two minutes of speech."""

DESTINATION_MAX = 2000
"""Characters of where a call is transferred to: as in the agent file."""

router = APIRouter(prefix="/v1", responses=problems.documented(401, 403, 404, 409, 422, 429, 503, 504))

Id = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Ids = Annotated[list[Id], Field(max_length=TARGETS_MAX)]

Confirm = Annotated[bool, Field(description="Must be true when more than one thing may be meant.")]


class Wanted(BaseModel):
    """What is asked for; a field that is not known is an error."""

    model_config = ConfigDict(extra="forbid")


class Processes(Wanted):
    """Workers and dispatchers."""

    targets: Ids = Field([], description="Ids, or how they begin, or names of pods.", examples=[["pod-a-0-3f9ac1d2"]])
    all: bool = Field(False, description="Every worker and dispatcher that is alive.")
    confirm: Confirm = False

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if bool(self.targets) == self.all:
            raise ValueError("name either targets or all")
        return self


class Calls(Wanted):
    """Running calls."""

    calls: Ids = Field([], description="Ids, or how they begin.", examples=[["3f9ac1d20b8e4f5a6c7d"]])
    worker: Id | None = Field(None, description="All calls of this worker.")
    all: bool = Field(False, description="All calls of the pool.")
    confirm: Confirm = False

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if sum((bool(self.calls), self.worker is not None, self.all)) != 1:
            raise ValueError("name one of calls, worker and all")
        return self


class Transfer(Wanted):
    """Where to."""

    target: Annotated[str, StringConstraints(min_length=1, max_length=DESTINATION_MAX)] = Field(
        description="The name of one of the agent's transfers, or a sip:, sips: or tel: URI.", examples=["desk"]
    )


class Say(Wanted):
    """What."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=TEXT_MAX, strip_whitespace=True)] = Field(
        description="Spoken word for word.", examples=["One moment, please."]
    )


@router.post("/drain", tags=["processes"])
async def drain(redis: TheRedis, caller: Operator, wanted: Processes) -> list[Outcome]:
    """Let workers or dispatchers take no new calls until they are undrained; running ones go on."""
    return await _processes(redis, caller, CommandName.DRAIN, wanted)


@router.post("/undrain", tags=["processes"])
async def undrain(redis: TheRedis, caller: Operator, wanted: Processes) -> list[Outcome]:
    """Let workers or dispatchers take new calls again, unless they have been told to stop for good."""
    return await _processes(redis, caller, CommandName.UNDRAIN, wanted)


@router.post("/hangup", tags=["calls"])
async def hangup(redis: TheRedis, caller: Operator, wanted: Calls) -> list[Outcome]:
    """Hang up running calls."""
    selection = await targets.calls(redis, wanted.calls, worker=wanted.worker, everything=wanted.all)
    return await _carry_out(redis, caller, CommandName.HANGUP, selection, confirmed=wanted.confirm)


@router.post("/calls/{call_id}/hangup", tags=["calls"])
async def hangup_call(redis: TheRedis, caller: Operator, call_id: AnId) -> Outcome:
    """Hang up a running call."""
    return await _one_call(redis, caller, CommandName.HANGUP, call_id)


@router.post("/calls/{call_id}/transfer", tags=["calls"])
async def transfer(redis: TheRedis, caller: Operator, call_id: AnId, wanted: Transfer) -> Outcome:
    """Transfer a running call; answered when it has been, or has failed: up to 90 s later."""
    return await _one_call(redis, caller, CommandName.TRANSFER, call_id, wanted.target)


@router.post("/calls/{call_id}/say", tags=["calls"])
async def say(redis: TheRedis, caller: Operator, call_id: AnId, wanted: Say) -> Outcome:
    """Have the agent of a running call say something; answered when the agent has been told."""
    return await _one_call(redis, caller, CommandName.SAY, call_id, wanted.text)


async def _processes(redis: Redis, caller: Caller, name: CommandName, wanted: Processes) -> list[Outcome]:
    selection = await targets.processes(redis, wanted.targets, everything=wanted.all)
    return await _carry_out(redis, caller, name, selection, confirmed=wanted.confirm)


async def _one_call(redis: Redis, caller: Caller, name: CommandName, call_id: str, argument: str = "") -> Outcome:
    selection = await targets.calls(redis, [call_id])
    [outcome] = await _carry_out(redis, caller, name, selection, argument)
    return outcome


async def _carry_out(
    redis: Redis,
    caller: Caller,
    name: CommandName,
    selection: Selection,
    argument: str = "",
    *,
    confirmed: bool = False,
) -> list[Outcome]:
    """Returns what came of it when everything was done; raises Problem with all outcomes when not."""
    if selection.bulk and not confirmed:
        names = [target.name for target in selection.targets]
        raise Problem(409, "confirmation", "this is for more than one; send confirm: true", targets=names)
    try:
        outcomes = await act.run(redis, name, selection, argument)
    except asyncio.CancelledError:  # the client went away, or its time was over
        for target in selection.targets:
            audit(caller, name, target.name, Result.UNKNOWN)
        raise
    for outcome in outcomes:
        audit(caller, name, outcome.target, outcome.result)
    wrong = [outcome for outcome in outcomes if outcome.result is not Result.DONE]
    if wrong:
        raise _failure(wrong, outcomes)
    return outcomes


def _failure(wrong: Sequence[Outcome], outcomes: Sequence[Outcome]) -> Problem:
    plain = [outcome.model_dump(mode="json") for outcome in outcomes]
    detail = wrong[0].reason + (f", and {len(wrong) - 1} more" if len(wrong) > 1 else "")
    if any(outcome.result is Result.UNKNOWN for outcome in wrong):
        return Problem(503, "redis-unavailable", detail, outcomes=plain)
    return Problem(409, "failed", detail, outcomes=plain)
