"""Reads the pool's events with a consumer group: an example to start from, which needs redis-py and nothing else.

    REDIS_URL=redis://127.0.0.1:6379/0 python events_consumer.py GROUP READER

Start it as often as you like: the events of a group are shared among its readers, those of a dead reader go to the
others, and another group gets all of them again. READER is a name of its own for each process; started under the same
name again, it goes on where it was. Here an event is printed as one line of JSON; do your own work in `handle`.
"""

import json
import os
import socket
import sys
import time
from typing import Any

from redis import Redis
from redis.exceptions import ConnectionError, ResponseError, TimeoutError

STREAM = "{voicepool}:events"

BLOCK_MS = 2000
"""How long Redis waits for a new event before it answers that there is none."""

SILENT_MS = 60_000
"""Events that a reader has had for so long are given to another one: longer than `handle` ever takes."""

Entries = list[tuple[str, dict[str, str]]]


def handle(event: dict[str, str]) -> None:
    """Does what is to be done about one event. It may come twice: remember its `id`, or do what can be done twice."""
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def open_group(redis: Redis, group: str) -> None:
    """Makes the group if there is none. "0" begins with the oldest event there is, "$" would with the next one."""
    try:
        redis.xgroup_create(STREAM, group, id="0", mkstream=True)
    except ResponseError as error:
        if "BUSYGROUP" not in str(error):  # somebody else has made it
            raise


def work(redis: Redis, group: str, entries: Entries) -> None:
    """Handles events, and says of each that it is done."""
    for entry_id, fields in entries:
        if fields:  # trimmed away in the meantime otherwise
            handle({"id": entry_id, **fields})
        redis.xack(STREAM, group, entry_id)


def read(redis: Redis, group: str, reader: str) -> None:
    """Goes on for ever: first what this reader had been given before, then new events and those of dead readers."""
    open_group(redis, group)
    while begun := entries_in(redis.xreadgroup(group, reader, {STREAM: "0"}, count=100)):
        work(redis, group, begun)
    while True:
        taken: Any = redis.xautoclaim(STREAM, group, reader, SILENT_MS, count=100)
        work(redis, group, taken[1])
        work(redis, group, entries_in(redis.xreadgroup(group, reader, {STREAM: ">"}, count=100, block=BLOCK_MS)))


def entries_in(answer: Any) -> Entries:
    """Returns the entries of the one stream that was read."""
    return answer[0][1] if answer else []


def main(group: str, reader: str) -> None:
    """Reads, and begins anew when Redis was away, or has forgotten the group."""
    url = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
    redis = Redis.from_url(url, decode_responses=True, socket_timeout=BLOCK_MS / 1000 + 5, protocol=2)
    while True:
        try:
            read(redis, group, reader)
        except (ConnectionError, TimeoutError):
            time.sleep(1.0)
        except ResponseError as error:
            if not str(error).startswith(("NOGROUP", "UNBLOCKED")):  # the second one when it was waiting just then
                raise


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["example", socket.gethostname()]))
