"""The Lua files beside this module, each as something to call.

It knows nothing of what they do: `workers.py`, `leases.py` and `reaper.py` have one method for each.
"""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis

from shared.control import keys
from shared.control.connection import answering
from shared.messages import Lease

Argument = str | bytes | int


@cache
def source(name: str) -> str:
    """Returns the text that Redis runs for script `name`: `slots.lua`, which all of them share, and its own file."""
    folder = files("shared.control")
    return "".join(folder.joinpath(f"{part}.lua").read_text("utf-8") for part in ("slots", name))


class Script:
    """One script, run by its hash; Redis gets the text only when it does not know it, as after a restart."""

    def __init__(self, redis: Redis, name: str) -> None:
        self._redis = redis
        self._run = redis.register_script(source(name))

    async def __call__(self, script_keys: Sequence[str], args: Sequence[Argument]) -> Any:
        """Returns the answer that the script's header states, with bytes for strings; raises ControlUnavailable."""
        async with answering(self._redis):
            return await self._run(script_keys, args)


def leases_to_keep(leases: Sequence[Lease]) -> tuple[list[str], list[Argument]]:
    """Returns the keys and arguments that `keep_slots` of `slots.lua` takes for the leases of running calls."""
    script_keys: list[str] = []
    args: list[Argument] = []
    for lease in leases:
        script_keys += keys.of_lease(lease.call_id, lease.lease_id)
        args += [lease.lease_id, lease.call_id, lease.pack(), lease.offered_at_ms]
    return script_keys, args
