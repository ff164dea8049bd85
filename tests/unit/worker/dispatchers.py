"""A table of dispatchers for tests: who is in it, and when each was last heard of."""

import asyncio

from shared.clock import steady_s
from shared.control.dispatchers import DispatcherRow
from shared.errors import ControlUnavailable
from shared.ids import DispatcherId
from shared.messages import DispatcherRecord
from worker.copies import SipAddress


class Table:
    """Dispatchers by their address, each with the moment (`steady_s`) of its last heartbeat."""

    def __init__(self, *alive: SipAddress) -> None:
        self.heard = {address: steady_s() for address in alive}
        self.away = False
        """Whether Redis is."""
        self.reads = 0
        self.read = asyncio.Event()

    async def table(self) -> list[DispatcherRow]:
        """Returns the rows; raises ControlUnavailable while Redis is away."""
        self.reads += 1
        self.read.set()
        if self.away:
            raise ControlUnavailable("away")
        return [
            DispatcherRow(_record(address), round(1000 * (steady_s() - heard))) for address, heard in self.heard.items()
        ]


def _record(address: SipAddress) -> DispatcherRecord:
    host, port = address
    return DispatcherRecord(
        dispatcher_id=DispatcherId(f"d-{port}"), pid=1, sip_host=host, sip_port=port, draining=False, started_at_ms=0
    )
