"""The worker table between two readings: who is missing in the second one, and what that says."""

from dispatcher.sip.actions import Address
from dispatcher.table import Table
from shared.control.keys import HEARTBEAT_TTL_S, ms
from shared.control.workers import WorkerRow
from shared.ids import WorkerId
from shared.messages import WorkerHealth, WorkerRecord
from shared.states import WorkerState

WATCHED_S = 2 * HEARTBEAT_TTL_S
SILENT_MS = ms(HEARTBEAT_TTL_S) + 1


def row(name: str, age_ms: int = 0) -> WorkerRow:
    """Returns a worker that was last heard of so long ago; its name ends with its port."""
    record = WorkerRecord(
        worker_id=WorkerId(name),
        pod="pod",
        pid=1,
        sip_host="10.0.1.1",
        sip_port=int(name[1:]),
        capacity=1,
        state=WorkerState.READY,
        started_at_ms=0,
    )
    return WorkerRow(record, 0, age_ms, WorkerHealth())


class Source:
    """Says what it is told to."""

    def __init__(self) -> None:
        self.rows: list[WorkerRow] = []
        self.watched_for_s = WATCHED_S

    async def watched_table(self) -> tuple[float, list[WorkerRow]]:
        return self.watched_for_s, self.rows


async def reading(source: Source, *rows: WorkerRow) -> Table:
    """Returns a table that has these workers."""
    table = Table(source, lambda: 0.0)
    source.rows = list(rows)
    await table.refresh()
    return table


def at(port: int) -> Address:
    return Address("udp", "10.0.1.1", port)


async def test_a_silent_worker_is_told_for_as_long_as_it_is_in_the_table() -> None:
    table = await reading(Source(), row("w1"), row("w2", SILENT_MS))
    assert table.take_silent() == table.take_silent() == {at(2)}


async def test_a_worker_that_was_reaped_before_it_was_seen_to_be_silent_is_told_once() -> None:
    source = Source()
    table = await reading(source, row("w1"), row("w2"))
    source.rows = [row("w1")]
    await table.refresh()
    await table.refresh()
    assert table.take_silent() == {at(2)}
    assert table.take_silent() == set()


async def test_silence_from_before_anybody_watched_says_nothing() -> None:
    source = Source()
    table = await reading(source, row("w1"))
    source.watched_for_s, source.rows = 0.0, [row("w1", SILENT_MS)]
    await table.refresh()
    assert table.ready() == 1
    assert table.take_silent() == set()
    source.watched_for_s = WATCHED_S
    await table.refresh()
    assert table.ready() == 0
    assert table.take_silent() == {at(1)}


async def test_a_forgotten_worker_that_does_not_come_back_is_told_once() -> None:
    source = Source()
    table = await reading(source, row("w1"))
    source.watched_for_s, source.rows = 0.0, []
    await table.refresh()
    assert (table.ready(), table.take_silent()) == (1, set())
    source.watched_for_s = WATCHED_S
    await table.refresh()
    assert (table.ready(), table.take_silent()) == (0, {at(1)})
