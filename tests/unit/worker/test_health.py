"""How a worker measures itself."""

import asyncio
import time

from worker.health import INTERVAL_S, Health


async def test_a_loop_that_was_blocked_shows_it_once() -> None:
    health = Health()
    health.start()
    await asyncio.sleep(0)
    blocked_s = 3 * INTERVAL_S
    time.sleep(blocked_s)  # noqa: ASYNC251 (this is what must not happen in a worker)
    for _ in range(2):
        await asyncio.sleep(0)  # the overdue tick comes in
    first, second = health.take(), health.take()
    health.stop()
    assert first.loop_lag_ms >= 1000 * (blocked_s - INTERVAL_S) - 1
    assert second.loop_lag_ms < first.loop_lag_ms


async def test_cpu_time_is_that_of_the_process() -> None:
    health = Health()
    begin = time.process_time()
    while time.process_time() - begin < 0.05:
        pass
    assert health.take().cpu_percent > 0
