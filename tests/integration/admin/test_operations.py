"""What operators see and have done, with a real Redis and processes that obey."""

import asyncio
import time

import pytest
from redis.asyncio import Redis

from admin.operations import act, look, targets
from admin.operations.finding import Ambiguous, NotFound
from admin.operations.shapes import EndedCall, Result, RunningCall, RunningState
from shared.control import keys
from shared.control.connection import ask
from shared.control.events import EventName, Events
from shared.ids import WorkerId
from shared.messages import CallRecord, CommandName, CommandState
from tests.integration.admin.pool import (
    FRONT,
    NUMBER,
    ONE,
    OTHER,
    TWO,
    add_call,
    add_dispatcher,
    add_worker,
    end_call,
    fill,
    obeying,
)
from tests.redis_server import RedisServer

DEAD_S = 2.0
"""A command for a dead process has to have failed by then."""


async def test_the_pool_is_seen_as_it_is(redis: Redis) -> None:
    await fill(redis)
    totals = await look.totals(redis)
    assert (totals.workers, totals.ready, totals.dispatchers) == (3, 2, 1)
    assert (totals.calls, totals.capacity) == (4, 30)
    one, two, other = await look.workers(redis)
    assert (one.worker_id, one.leased, one.capacity, one.labels) == (ONE, 2, 10, {"region": "west"})
    assert (two.late, two.late_ticks) == (True, 31)
    assert other.cut_off == ["west", ""]
    settings, west = await look.quotas(redis)
    assert (settings.resource, settings.sessions_limit, settings.tokens_left) == ("", None, None)
    assert (west.resource, west.sessions, west.sessions_limit) == ("west", 4, 50)
    assert west.blocked_s > 0


async def test_calls_of_silent_workers_count_and_their_slots_do_not(redis: Redis) -> None:
    await fill(redis)
    await ask(redis, "ZINCRBY", keys.workers(), -keys.ms(60), ONE)
    totals = await look.totals(redis)
    assert (totals.workers, totals.silent, totals.calls, totals.capacity) == (2, 1, 4, 20)


async def test_running_calls_say_how_far_they_are_and_no_number(redis: Redis) -> None:
    await fill(redis)
    await add_worker(redis, WorkerId("pod-c-0-5"))
    calls = await look.calls(redis)
    assert [call.state for call in calls] == [RunningState.TALKING] * 3 + [RunningState.OFFERED]
    assert not any(NUMBER in call.model_dump_json() for call in calls)


async def test_a_call_that_rings_is_connecting(redis: Redis) -> None:
    await add_worker(redis, ONE)
    await add_call(redis, "abc", answered=False)
    [call] = await look.calls(redis)
    assert (call.state, call.answered_at_ms) == (RunningState.CONNECTING, None)


async def test_a_call_is_found_while_it_runs_and_when_it_has_ended(redis: Redis) -> None:
    await add_worker(redis, ONE)
    lease = await add_call(redis, "abc1")
    assert isinstance(await look.call(redis, "ab"), RunningCall)
    await end_call(redis, lease)
    ended = await look.call(redis, "ab")
    assert isinstance(ended, CallRecord)
    assert NUMBER not in EndedCall.of(ended).model_dump_json()
    await add_call(redis, "abc2")
    with pytest.raises(Ambiguous, match="2 begin with ab: abc1, abc2"):
        await look.call(redis, "ab")
    with pytest.raises(NotFound):
        await look.call(redis, "b")


async def test_a_whole_id_is_not_mistaken_for_the_beginning_of_another(redis: Redis) -> None:
    await add_worker(redis, ONE)
    await add_call(redis, "abc")
    await add_call(redis, "abcd")
    call = await look.call(redis, "abc")
    assert call.call_id == "abc"
    selection = await targets.calls(redis, ["abc"])
    assert [target.name for target in selection.targets] == ["abc"]


async def test_events_are_found_by_number_and_by_time(redis: Redis) -> None:
    events = Events(redis)
    for number in range(3):
        await events.tell(EventName.WORKER_LEFT, {"worker_id": number})
    newest = await look.events(redis, 2)
    assert [event.about["worker_id"] for event in newest] == ["1", "2"]
    assert len(await look.events(redis, None, since_ms=newest[0].at_ms - 60_000)) == 3
    assert len(await look.events(redis, 1, since_ms=newest[0].at_ms - 60_000)) == 1
    assert await look.events(redis, None, since_ms=newest[1].at_ms + 60_000) == []


async def test_more_events_than_a_page_are_all_found(redis: Redis) -> None:
    count = look.EVENTS_PAGE + 3
    async with redis.pipeline(transaction=False) as pipe:
        for number in range(count):
            pipe.xadd(keys.events(), {"event": "test", "at_ms": 1, "number": number})
        await pipe.execute()
    found = await look.events(redis, None, since_ms=0)
    assert [int(event.about["number"]) for event in found] == list(range(count))


async def test_followed_events_come_in_order_after_a_position(redis: Redis) -> None:
    events = Events(redis)
    await events.tell(EventName.WORKER_LEFT, {"worker_id": "before"})
    following = look.follow(redis, await look.now(redis))
    await events.tell(EventName.WORKER_LEFT, {"worker_id": "a"})
    await events.tell(EventName.WORKER_LEFT, {"worker_id": "b"})
    assert [(await anext(following)).about["worker_id"] for _ in range(2)] == ["a", "b"]
    await following.aclose()


async def test_targets_are_ids_beginnings_of_ids_and_pods(redis: Redis) -> None:
    await fill(redis)

    async def chosen(*wanted: str) -> tuple[list[str], bool]:
        selection = await targets.processes(redis, wanted)
        return [target.name for target in selection.targets], selection.bulk

    assert await chosen(ONE) == ([ONE], False)
    assert await chosen("pod-a-1") == ([TWO], False)
    assert await chosen("front") == ([FRONT], False)
    assert await chosen("pod-a") == ([ONE, TWO], True)
    assert await chosen("pod-b") == ([OTHER], True)
    assert await chosen("pod-b-0", "front") == ([OTHER, FRONT], True)
    with pytest.raises(Ambiguous):
        await chosen("pod-")
    with pytest.raises(NotFound):
        await chosen("pod-x")


async def test_everything_is_all_that_lives(redis: Redis) -> None:
    await fill(redis)
    await ask(redis, "ZINCRBY", keys.workers(), -keys.ms(60), TWO)
    selection = await targets.processes(redis, [], everything=True)
    assert [target.name for target in selection.targets] == [ONE, OTHER, FRONT]
    assert selection.bulk


async def test_commands_reach_their_processes_and_come_back_with_what_came_of_them(redis: Redis) -> None:
    await fill(redis)
    begun = [(CommandState.BEGUN, ""), (CommandState.DONE, "transferred")]
    async with obeying(redis, ONE, OTHER, FRONT, transfer=begun, say=[(CommandState.FAILED, "not now")]) as pool:
        drained = await act.run(redis, CommandName.DRAIN, await targets.processes(redis, ["front", "pod-b"]))
        moved = await act.run(redis, CommandName.TRANSFER, await targets.calls(redis, ["0a"]), "desk")
        said = await act.run(redis, CommandName.SAY, await targets.calls(redis, ["2a"]), "Hello.")
    assert [(outcome.target, outcome.result) for outcome in drained] == [(FRONT, Result.DONE), (OTHER, Result.DONE)]
    assert (moved[0].result, moved[0].detail) == (Result.DONE, "transferred")
    assert (said[0].result, said[0].reason) == (Result.FAILED, "2aaaaaaaaaaaaaaaaaaa: not now")
    assert sorted(pool.done, key=str) == sorted(
        [
            ("drain", FRONT, None, ""),
            ("drain", OTHER, None, ""),
            ("transfer", ONE, "0aaaaaaaaaaaaaaaaaaa", "desk"),
            ("say", OTHER, "2aaaaaaaaaaaaaaaaaaa", "Hello."),
        ],
        key=str,
    )


async def test_all_calls_of_a_worker_are_hung_up_and_no_others(redis: Redis) -> None:
    await fill(redis)
    async with obeying(redis, ONE, OTHER) as pool:
        selection = await targets.calls(redis, [], worker="pod-a-0")
        outcomes = await act.run(redis, CommandName.HANGUP, selection)
    assert [outcome.result for outcome in outcomes] == [Result.DONE, Result.DONE]
    assert {(process_id, call_id) for _, process_id, call_id, _ in pool.done} == {
        (ONE, "0aaaaaaaaaaaaaaaaaaa"),
        (ONE, "1aaaaaaaaaaaaaaaaaaa"),
    }


async def test_more_commands_than_a_stream_keeps_all_arrive(redis: Redis) -> None:
    count = keys.COMMANDS_MAX + 20
    await add_worker(redis, ONE)
    selection = targets.Selection([targets.Target(ONE, None, None) for _ in range(count)], bulk=True)
    async with obeying(redis, ONE) as pool:
        outcomes = await act.run(redis, CommandName.DRAIN, selection)
    assert {outcome.result for outcome in outcomes} == {Result.DONE}
    assert len(pool.done) == count


async def test_a_worker_that_is_known_to_be_silent_fails_without_being_asked(redis: Redis) -> None:
    await add_worker(redis, ONE)
    await ask(redis, "ZINCRBY", keys.workers(), -keys.ms(60), ONE)
    selection = await targets.processes(redis, [ONE])
    [outcome] = await act.run(redis, CommandName.DRAIN, selection)
    assert outcome.result is Result.FAILED
    assert outcome.reason.startswith(f"{ONE} has been silent for 60.")
    assert await ask(redis, "EXISTS", keys.commands(ONE)) == 0


async def test_a_worker_that_has_just_died_fails_within_two_seconds(redis: Redis) -> None:
    await add_worker(redis, ONE)
    selection = await targets.processes(redis, [ONE])
    began = time.monotonic()
    [outcome] = await act.run(redis, CommandName.DRAIN, selection)
    assert (outcome.result, outcome.reason) == (Result.FAILED, f"{ONE} does not answer")
    assert time.monotonic() - began < DEAD_S


async def test_without_redis_nobody_knows_what_came_of_a_command(redis: Redis, redis_server: RedisServer) -> None:
    await add_dispatcher(redis)
    selection = await targets.processes(redis, [FRONT])
    redis_server.stop()
    try:
        [outcome] = await act.run(redis, CommandName.DRAIN, selection)
    finally:
        redis_server.restart()
    assert outcome.result is Result.UNKNOWN
    assert "Redis does not answer" in outcome.detail


async def test_no_answer_is_left_behind_by_a_command_that_was_cancelled(redis: Redis) -> None:
    await add_dispatcher(redis)
    selection = await targets.processes(redis, [FRONT])
    running = asyncio.create_task(act.run(redis, CommandName.DRAIN, selection))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    for key in await ask(redis, "KEYS", "{voicepool}:commands:*"):
        assert await ask(redis, "PTTL", key) > 0
