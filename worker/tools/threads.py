"""Runs plain functions beside the event loop, in threads that nobody waits for at the end.

It stops none: Python cannot. A thread of `concurrent.futures` would hold up the end of the process as long as its
function runs; these are daemons.
"""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from functools import partial
from typing import Any


class Threads:
    """At most `most` threads; further calls wait for one to be free."""

    def __init__(self, most: int) -> None:
        self._free = asyncio.Semaphore(most)

    async def call(self, function: Callable[[], Any], name: str) -> Any:
        """Returns or raises what the function does. Cancelled, it leaves the function to run on, unheard."""
        await self._free.acquire()
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Callable[[], Any]] = loop.create_future()
        context = contextvars.copy_context()

        def finish(outcome: Callable[[], Any]) -> None:
            self._free.release()
            if not done.done():
                done.set_result(outcome)

        def work() -> None:
            outcome = _outcome(lambda: context.run(function))
            try:
                loop.call_soon_threadsafe(finish, outcome)
            except RuntimeError:
                pass  # the loop has been closed: nobody is there to hear of it

        try:
            threading.Thread(target=work, name=name, daemon=True).start()
        except RuntimeError:
            self._free.release()
            raise
        return (await done)()


def _outcome(function: Callable[[], Any]) -> Callable[[], Any]:
    """Returns what returns or raises what the function did."""
    try:
        result = function()
    except Exception as error:
        return partial(_raise, error)
    except BaseException as error:  # SystemExit and the like would end the loop, not only this thread
        return partial(_raise, RuntimeError(type(error).__name__))
    return lambda: result


def _raise(error: Exception) -> None:
    raise error
