"""The worker table between two readings: who is missing in the second one, and what that says."""

from collections.abc import Callable
from dataclasses import replace

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
        self.meanwhile: Callable[[], None] = lambda: None
        """What happens between question and answer."""

    async def watched_table(self) -> tuple[float, list[WorkerRow]]:
        self.meanwhile()
        return self.watched_for_s, self.rows


async def reading(source: Source, *rows: WorkerRow) -> Table:
    """Returns a table that has these workers."""
    table = Table(source, lambda: 0.0)
    source.rows = list(rows)
    await table.refresh()
    return table


def silent(table: Table) -> list[str]:
    """Takes those who are told to be silent."""
    return [row.record.worker_id for row in table.take_silent()]


def at(port: int) -> Address:
    return Address("udp", "10.0.1.1", port)


async def test_a_slot_that_is_given_back_while_the_table_is_read_is_free_in_it() -> None:
    source = Source()
    table = await reading(source, replace(row("w1"), leased=1), row("w2"))
    table.taken[WorkerId("w2")] += 1
    assert table.room() == 0

    def meanwhile() -> None:
        table.taken[WorkerId("w1")] -= 1
        table.taken[WorkerId("w2")] += 1

    source.meanwhile = meanwhile
    await table.refresh()
    assert table.room() == 2, "what was taken meanwhile is not counted: Redis has the last word"


async def test_a_silent_worker_is_told_for_as_long_as_it_is_in_the_table() -> None:
    table = await reading(Source(), row("w1"), row("w2", SILENT_MS))
    assert silent(table) == silent(table) == ["w2"]


async def test_a_worker_that_was_reaped_before_it_was_seen_to_be_silent_is_told_once() -> None:
    source = Source()
    table = await reading(source, row("w1"), row("w2"))
    source.rows = [row("w1")]
    await table.refresh()
    await table.refresh()
    assert silent(table) == ["w2"]
    assert silent(table) == []


async def test_silence_from_before_anybody_watched_says_nothing() -> None:
    source = Source()
    table = await reading(source, row("w1"))
    source.watched_for_s, source.rows = 0.0, [row("w1", SILENT_MS)]
    await table.refresh()
    assert table.ready() == 1
    assert silent(table) == []
    source.watched_for_s = WATCHED_S
    await table.refresh()
    assert table.ready() == 0
    assert silent(table) == ["w1"]


async def test_a_forgotten_worker_that_does_not_come_back_is_told_once() -> None:
    source = Source()
    table = await reading(source, row("w1"))
    source.watched_for_s, source.rows = 0.0, []
    await table.refresh()
    assert (table.ready(), silent(table)) == (1, [])
    source.watched_for_s = WATCHED_S
    await table.refresh()
    assert (table.ready(), silent(table)) == (0, ["w1"])


async def test_a_forgotten_worker_whose_address_another_one_has_is_not_waited_for() -> None:
    source = Source()
    table = await reading(source, row("w1"), row("w2"))
    source.watched_for_s, source.rows = 0.0, [row("x1")]
    await table.refresh()
    assert [each.record.worker_id for each in table.forgotten] == ["w2"]
    assert silent(table) == ["w1"]


async def test_the_address_of_a_dead_worker_is_served_once_a_living_one_has_it() -> None:
    source = Source()
    table = await reading(source, row("w1", SILENT_MS), row("w2"))
    assert (silent(table), table.is_served(at(1)), table.is_served(at(2))) == (["w1"], False, True)
    source.rows = [row("w1", SILENT_MS), row("x1"), row("w2")]
    await table.refresh()
    assert (silent(table), table.is_served(at(1))) == (["w1"], True)
