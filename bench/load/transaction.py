"""Client transactions: a request that is sent again until it is answered, fails, or is let go (RFC 3261 section 17.1).

    Calling/Trying  sent again at T1, 2 T1, 4 T1 ... (timers A, E)      after `silence_s`: failed (timers B, F)
    Proceeding      a provisional response came: an INVITE is quiet, others go on every T2
    Completed       a final response came: heard again for as long as the owner keeps the transaction (timers D, K)

What comes of a failure is the owner's business, and so is the ACK. It knows no dialogs.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from enum import StrEnum

from bench.load.wire import Endpoint, Message, UdpAddress

T1_S = 0.5
"""Estimate of the round trip: the first retransmission interval (section 17.1.1.1)."""

T2_S = 4.0
"""Longest retransmission interval of everything but an INVITE (section 17.1.2.2)."""

LIFETIME_S = 64 * T1_S
"""Timers B and F; also how long what is over is kept for copies of what the peer sent."""


class Failure(StrEnum):
    """Why there will be no answer."""

    SILENT = "silent"
    UNREACHABLE = "unreachable"


class Transaction:
    """One request on its way to one address, from its first copy on."""

    def __init__(
        self,
        endpoint: Endpoint,
        method: str,
        branch: str,
        data: bytes,
        target: UdpAddress,
        answered: Callable[[Message, int], None],
        failed: Callable[[Failure], None],
        silence_s: float = LIFETIME_S,
    ) -> None:
        """Sends it. `answered` is given each response and its time, `failed` is called once the transaction is over.

        It goes on after an ICMP error unless its owner ends it then: the server may come back in time.
        """
        self.target = target
        self.retransmissions = 0
        self._endpoint = endpoint
        self._key = branch, method
        self._data = data
        self._answered = answered
        self._failed = failed
        self._interval_s = T1_S
        self._longest_s = LIFETIME_S if method == "INVITE" else T2_S
        endpoint.pending[self._key] = self
        self._again_timer = endpoint.loop.call_later(T1_S, self._again)
        self._silence_timer = endpoint.loop.call_later(silence_s, self._silent)
        self.sent_ns = time.time_ns()
        endpoint.send_request(data, target)

    def answered(self, message: Message, received_ns: int) -> None:
        """Called with each response."""
        if message.status >= 200 or message.method == "INVITE":
            self.quiet()
        else:
            self._interval_s = T2_S
        self._answered(message, received_ns)

    def unreachable(self) -> None:
        """Called when ICMP says that nobody listens there."""
        self._failed(Failure.UNREACHABLE)

    def quiet(self) -> None:
        """Stops sending and failing; answers are still heard."""
        self._again_timer.cancel()
        self._silence_timer.cancel()

    def end(self) -> None:
        """Stops sending and listening."""
        self.quiet()
        self._endpoint.pending.pop(self._key, None)

    def _again(self) -> None:
        self.retransmissions += 1
        self._interval_s = min(2 * self._interval_s, self._longest_s)
        self._again_timer = self._endpoint.loop.call_later(self._interval_s, self._again)
        self._endpoint.send_request(self._data, self.target)

    def _silent(self) -> None:
        self.quiet()
        self._failed(Failure.SILENT)


async def ask(
    endpoint: Endpoint,
    method: str,
    write: Callable[[str], bytes],
    targets: Sequence[UdpAddress],
    timeout_s: float,
    silence_s: float = LIFETIME_S,
) -> Message | None:
    """Sends a request other than INVITE, and returns its final response; None when none comes in time.

    The first target that does not answer within `silence_s`, is unreachable, or answers 503 is followed by the next
    (RFC 3263 section 4.3). `write` is given the branch.
    """
    answer = None
    try:
        async with asyncio.timeout(timeout_s):
            for left, target in zip(range(len(targets) - 1, -1, -1), targets, strict=True):
                answer = await _ask_one(endpoint, method, write, target, silence_s, last=not left)
                if answer and answer.status != 503:
                    break
    except TimeoutError:
        return None
    return answer


async def _ask_one(
    endpoint: Endpoint, method: str, write: Callable[[str], bytes], target: UdpAddress, silence_s: float, *, last: bool
) -> Message | None:
    """Returns the final response of one target, None when it fails; the last one is not given up at an ICMP error."""
    final: asyncio.Future[Message | None] = endpoint.loop.create_future()

    def answered(message: Message, _: int) -> None:
        if message.status >= 200 and not final.done():
            final.set_result(message)

    def failed(failure: Failure) -> None:
        if not final.done() and not (last and failure is Failure.UNREACHABLE):
            final.set_result(None)

    branch = endpoint.branch()
    transaction = Transaction(endpoint, method, branch, write(branch), target, answered, failed, silence_s)
    try:
        return await final
    finally:
        transaction.end()
