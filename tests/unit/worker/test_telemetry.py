"""How a worker hands over what it has measured: in small pieces, and without ever waiting for its supervisor."""

from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection

import pytest

from shared.messages import WorkerHealth
from shared.telemetry import catalogue
from shared.telemetry.catalogue import CALLS_ACTIVE, TURN_LATENCY
from shared.telemetry.recorder import Batch, Point
from shared.telemetry.trace import Span, TraceContext
from worker import ipc
from worker.telemetry import Telemetry

CONTEXT = TraceContext("a" * 32, "b" * 16, True)
SPAN = Span(CONTEXT, "c" * 16, "turn", 1, 2, {"latency_ms": 400, "barged_in": True}, failed=True, kind="internal")


@pytest.fixture
def pipe() -> Iterator[tuple[Connection, Connection]]:
    ours, theirs = Pipe()
    with ours, theirs:
        yield ours, theirs


def heard(pipe: Connection) -> list[ipc.Message]:
    messages = []
    while pipe.poll(0):
        messages.append(ipc.receive(pipe))
    return messages


def measured(pipe: Connection) -> list[Batch]:
    return [ipc.batch_in(piece) for piece in heard(pipe) if isinstance(piece, ipc.Measured)]


def test_a_batch_arrives_as_it_was(pipe: tuple[Connection, Connection]) -> None:
    batch = Batch(
        [Point("voicepool.slots", (), (20.0,))],
        [Point("voicepool.leases", (("outcome", "claimed"),), (2.0,)), Point("voicepool.cost", (), (0.1, 0.2))],
        [SPAN],
    )
    for piece in ipc.pieces(batch):
        ipc.send(pipe[0], piece)
    assert measured(pipe[1]) == [batch]


def test_a_long_batch_comes_in_pieces_that_are_written_in_one_go(pipe: tuple[Connection, Connection]) -> None:
    batch = Batch([Point("voicepool.slots", (), (20.0,))], [], [SPAN] * 200)
    pieces = list(ipc.pieces(batch))
    assert len(pieces) > 1
    assert all(sum(map(len, piece.spans)) < 16_000 for piece in pieces)
    assert [piece.gauges is not None for piece in pieces] == [True] + [False] * (len(pieces) - 1)
    assert [span for piece in pieces for span in ipc.batch_in(piece).spans] == [SPAN] * 200


def test_what_is_not_wanted_is_not_sent(pipe: tuple[Connection, Connection]) -> None:
    telemetry = Telemetry(pipe[0], wanted=False)
    telemetry.load(3, 20)
    telemetry.flush()
    assert heard(pipe[1]) == []


def test_a_supervisor_that_does_not_listen_is_not_waited_for(pipe: tuple[Connection, Connection]) -> None:
    telemetry = Telemetry(pipe[0], wanted=True)
    for _ in range(100):  # 20 MB of spans, had they all been taken
        for _ in range(1_000):
            telemetry.recorder.span(SPAN)
        telemetry.flush()
    taken = sum(len(batch.spans) for batch in measured(pipe[1]))
    assert 100 < taken < 2_000
    telemetry.flush()
    assert measured(pipe[1]), "what had waited comes as soon as it is listened to"


def test_a_supervisor_that_is_gone_is_no_error(pipe: tuple[Connection, Connection]) -> None:
    telemetry = Telemetry(pipe[0], wanted=True)
    telemetry.recorder.note(TURN_LATENCY, 0.5, agent="a")
    pipe[1].close()
    telemetry.flush()
    telemetry.flush()
    assert telemetry.recorder.take().points == []


def test_a_worker_says_how_it_is(pipe: tuple[Connection, Connection]) -> None:
    telemetry = Telemetry(pipe[0], wanted=True)
    telemetry.load(3, 20)
    telemetry.health(WorkerHealth(loop_lag_ms=8.0, loop_lag_p99_ms=2.0, cpu_percent=40.0, late_ticks=3, late=True))
    telemetry.redis(True)
    telemetry.circuits({"west": True, "east": False})
    telemetry.circuits({"east": False})
    telemetry.flush()
    [batch] = measured(pipe[1])
    gauges = {(point.name, *point.attributes): point.values[0] for point in batch.gauges or []}
    assert gauges == {
        (CALLS_ACTIVE.name,): 3,
        (catalogue.SLOTS.name,): 20,
        (catalogue.WORKER_LATE.name,): 1,
        (catalogue.CPU_SHARE.name,): 0.4,
        (catalogue.LOOP_LAG.name, ("quantile", "p99")): 0.002,
        (catalogue.LOOP_LAG.name, ("quantile", "max")): 0.008,
        (catalogue.REDIS_AVAILABLE.name,): 1,
        (catalogue.VOICELIVE_CIRCUIT.name, ("resource", "east")): 0,
    }
    assert Point(catalogue.AUDIO_LATE_TICKS.name, (), (3.0,)) in batch.points
