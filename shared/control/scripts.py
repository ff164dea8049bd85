"""The Lua files beside this module, each as something to call.

It knows nothing of what they do: the modules beside it have one method for each.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis

from shared.control import keys
from shared.control.connection import answering
from shared.messages import Lease

Argument = str | bytes | int

SHARED = ("slots", "budgets")
"""Lua files that are no scripts of their own: the first stands in front of every script, the second of some."""

WITH_BUDGETS = ("lease_acquire", "quota_spend", "quota_table", "quota_throttled")
"""Scripts that deal with quotas. The others go without `budgets.lua`: its functions would be made anew at every run."""

CONSTANTS = {
    "BLOCKED_MAX_MS": keys.ms(keys.BLOCKED_MAX_S),
    "BUDGET_TTL_MS": keys.ms(keys.BUDGET_TTL_S),
    "EVENTS_MAX": keys.EVENTS_MAX,
    "HEARTBEAT_TTL_MS": keys.ms(keys.HEARTBEAT_TTL_S),
    "LEASE_TTL_MS": keys.ms(keys.LEASE_TTL_S),
    "OFFER_TTL_MS": keys.ms(keys.OFFER_TTL_S),
    "ORPHAN_RETRY_MS": keys.ms(keys.ORPHAN_RETRY_S),
    "ORPHAN_TTL_MS": keys.ms(keys.ORPHAN_TTL_S),
    "OVER_TTL_MS": keys.ms(keys.OVER_TTL_S),
    "PORT_BLOCK_MEMORY_MS": keys.ms(keys.PORT_BLOCK_MEMORY_S),
    "PORT_BLOCK_TTL_MS": keys.ms(keys.PORT_BLOCK_TTL_S),
    "RECORDS_MAX": keys.RECORDS_MAX,
    "RELEASED_TTL_MS": keys.ms(keys.RELEASED_TTL_S),
    "SESSION_WAIT_MS": keys.ms(keys.SESSION_WAIT_S),
    "WAITING_MAX": keys.WAITING_MAX,
    "WAITING_TTL_MS": keys.ms(keys.WAITING_TTL_S),
    "WATCH_TTL_MS": keys.ms(keys.WATCH_TTL_S),
}
"""What the scripts call by these names: lifetimes and limits have one place, which is `keys.py`."""


@cache
def source(name: str) -> str:
    """Returns the text that Redis runs for script `name`: the constants, what it shares, and its own file."""
    folder = files("shared.control")
    constants = "".join(f"local {constant} = {value}\n" for constant, value in CONSTANTS.items())
    shared = SHARED if name in WITH_BUDGETS else SHARED[:1]
    return constants + "".join(folder.joinpath(f"{part}.lua").read_text("utf-8") for part in (*shared, name))


class Script:
    """One script, run by its hash; Redis gets the text only when it does not know it, as after a restart."""

    def __init__(self, redis: Redis, name: str) -> None:
        self._redis = redis
        self._name = name
        self._run = redis.register_script(source(name))

    async def __call__(self, script_keys: Sequence[str], args: Sequence[Argument]) -> Any:
        """Returns the answer that the script's header states, with bytes for strings; raises ControlUnavailable."""
        async with answering(self._redis, self._name):
            return await self._run(script_keys, args)


def held_lease(packed: bytes, offered_at_ms: bytes | int, resource: bytes | None) -> Lease:
    """Returns the lease behind these fields of a call's key; raises MessageError when it is in a newer format."""
    return replace(Lease.unpack(packed), offered_at_ms=int(offered_at_ms), resource=(resource or b"").decode())


def leases_to_keep(leases: Sequence[Lease]) -> tuple[list[str], list[Argument]]:
    """Returns the keys and arguments that `keep_slots` of `slots.lua` takes for the leases of running calls."""
    script_keys: list[str] = []
    args: list[Argument] = []
    for lease in leases:
        script_keys += keys.of_lease(lease.call_id, lease.lease_id)
        args += [lease.lease_id, lease.call_id, lease.pack(), lease.offered_at_ms]
    return script_keys, args
