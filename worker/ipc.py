"""What a supervisor and its children tell each other over their pipe.

It carries no audio and no calls: those are the children's own business.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import chain
from multiprocessing.connection import Connection
from select import POLLOUT, poll
from typing import Any

import msgpack

from shared.states import WorkerState
from shared.telemetry.recorder import Batch, Point
from shared.telemetry.trace import Span, TraceContext

PIECE_BYTES = 12_000
"""Size of a `Measured`, about. A message of less than 16 kB is written in one go: a child that is frozen while it
writes does not leave its supervisor waiting for the other half."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Child to supervisor: registered and taking calls."""

    worker_id: str


@dataclass(frozen=True, slots=True)
class Beat:
    """Child to supervisor: a tick has gone event loop -> pjsip -> event loop."""

    calls: int
    state: str = WorkerState.READY
    """A WorkerState."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Child to supervisor: a piece of what it has measured, each item packed by itself."""

    gauges: list[bytes] | None = None
    points: list[bytes] = field(default_factory=list)
    spans: list[bytes] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Drain:
    """Supervisor to child: take no new calls, finish the ones there are, exit."""


Message = Ready | Beat | Measured | Drain

_KINDS: dict[str, type[Message]] = {kind.__name__: kind for kind in (Ready, Beat, Measured, Drain)}


def send(pipe: Connection, message: Message) -> None:
    """Writes one message; raises OSError when the other side is gone."""
    pipe.send_bytes(msgpack.packb([type(message).__name__, asdict(message)]))


def receive(pipe: Connection) -> Message:
    """Returns the next message, waiting for it; raises EOFError when the other side is gone."""
    raw: Any = msgpack.unpackb(pipe.recv_bytes())
    kind, fields = raw
    return _KINDS[kind](**fields)


def writable(pipe: Connection) -> bool:
    """Whether a message fits in, so that writing it does not wait for the other side."""
    # A stream socket says so while less than a quarter of its buffer is in use (unix(7), SO_SNDBUF).
    poller = poll()
    poller.register(pipe, POLLOUT)
    return bool(poller.poll(0))


def pieces(batch: Batch) -> Iterator[Measured]:
    """Yields the batch in messages of about PIECE_BYTES; its gauges, which are few, are all in the first."""
    piece = Measured([_packed_point(point) for point in batch.gauges or ()] if batch.gauges is not None else None)
    size = sum(len(item) for item in piece.gauges or ())
    points = ((item, "points") for item in map(_packed_point, batch.points))
    for item, kind in chain(points, ((item, "spans") for item in map(_packed_span, batch.spans))):
        if size + len(item) > PIECE_BYTES:
            yield piece
            piece, size = Measured(), 0
        getattr(piece, kind).append(item)
        size += len(item)
    yield piece


def batch_in(piece: Measured) -> Batch:
    """Returns what is in a piece."""
    gauges = None if piece.gauges is None else [_point(item) for item in piece.gauges]
    return Batch(gauges, [_point(item) for item in piece.points], [_span(item) for item in piece.spans])


def _packed_point(point: Point) -> bytes:
    packed: bytes = msgpack.packb((point.name, point.attributes, point.values))
    return packed


def _point(item: bytes) -> Point:
    name, attributes, values = msgpack.unpackb(item, use_list=False)
    return Point(name, attributes, values)


def _packed_span(span: Span) -> bytes:
    where = (str(span.context), span.parent_id)
    what = (span.name, span.start_ns, span.end_ns, span.attributes, span.failed, span.kind)
    packed: bytes = msgpack.packb((*where, *what))
    return packed


def _span(item: bytes) -> Span:
    traceparent, *fields = msgpack.unpackb(item)
    context = TraceContext.parse(traceparent)
    assert context is not None, "it was one when it was packed"
    return Span(context, *fields)
