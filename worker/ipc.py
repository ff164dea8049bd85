"""What a supervisor and its children tell each other over their pipe.

It carries no audio and no calls: those are the children's own business.
"""

from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from typing import Any

import msgpack


@dataclass(frozen=True, slots=True)
class Ready:
    """Child to supervisor: registered and taking calls."""

    worker_id: str


@dataclass(frozen=True, slots=True)
class Beat:
    """Child to supervisor: a tick has gone event loop -> pjsip -> event loop."""

    calls: int


@dataclass(frozen=True, slots=True)
class Drain:
    """Supervisor to child: take no new calls, finish the ones there are, exit."""


Message = Ready | Beat | Drain

_KINDS: dict[str, type[Message]] = {kind.__name__: kind for kind in (Ready, Beat, Drain)}


def send(pipe: Connection, message: Message) -> None:
    """Writes one message; raises OSError when the other side is gone."""
    pipe.send_bytes(msgpack.packb([type(message).__name__, asdict(message)]))


def receive(pipe: Connection) -> Message:
    """Returns the next message, waiting for it; raises EOFError when the other side is gone."""
    raw: Any = msgpack.unpackb(pipe.recv_bytes())
    kind, fields = raw
    return _KINDS[kind](**fields)
