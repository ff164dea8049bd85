"""Runs the tools of all calls of a worker: HTTP requests and Python functions, with a bound on time, number and answer.

It does not check arguments against the tool's schema (`catalogue.py` has done so), does not run what the call itself
does (hanging up, transferring, digits), and tries nothing twice.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import structlog
from pydantic_core import PydanticSerializationError, to_jsonable_python

from shared.agents.model import Agent, HttpTool, PythonTool
from worker.tools.context import ToolContext, ToolError
from worker.tools.functions import PythonFunction
from worker.tools.http import RequestFailed, fetch, open_session
from worker.tools.placeholders import concealed, filled
from worker.tools.threads import Threads

log = structlog.get_logger()

MAX_RUNNING = 200
"""Tools running at once in a worker: two for each call of a full one."""

MAX_THREADS = 32
"""Python functions that are not async, running at once in a worker."""

MAX_OUTPUT_BYTES = 16 * 1024
"""What the model gets of an answer, in UTF-8: some 4,000 tokens, which it reads again with every turn that follows."""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What the model is told."""

    output: str
    """JSON, or the text of a tool that answers with text."""
    failed: bool = False


class ToolRunner:
    """One per worker, between `start` and `stop`."""

    def __init__(self, functions: Mapping[str, PythonFunction]) -> None:
        self._functions = functions
        self._threads = Threads(MAX_THREADS)
        self._http: aiohttp.ClientSession | None = None
        self._running = 0

    async def start(self) -> None:
        """Makes it ready to run tools."""
        self._http = open_session(MAX_RUNNING)

    async def stop(self) -> None:
        """Closes its connections. What still runs, whoever started it has cancelled."""
        if self._http is not None:
            await self._http.close()
            self._http = None

    async def run(self, agent: Agent, name: str, arguments: dict[str, Any], context: ToolContext) -> ToolResult:
        """Runs a tool with checked arguments, filling in sensitive digits.

        Whatever the tool does, it returns; only a cancellation gets out.
        """
        tool = next((tool for tool in agent.tools if tool.name == name), None)
        if not isinstance(tool, HttpTool | PythonTool):
            return self._failed(name, context, "unknown", {"error": f"there is no tool {name}"})
        if self._running >= MAX_RUNNING:
            return self._failed(name, context, "busy", {"error": "busy: too many tools are running; try again later"})
        self._running += 1
        try:
            return await self._bounded(tool, arguments, context)
        finally:
            self._running -= 1

    async def _bounded(
        self, tool: HttpTool | PythonTool, arguments: dict[str, Any], context: ToolContext
    ) -> ToolResult:
        seen = {digits: placeholder for placeholder, digits in context.digits.items()}
        limit = asyncio.timeout(tool.timeout_s)
        try:
            async with limit:
                result = await self._started(tool, filled(arguments, context.digits), context)
            return ToolResult(output(concealed(result, seen)))
        except ToolError as error:
            reason, answer = "refused", {"error": str(error)}
        except RequestFailed as failure:
            reason, answer = failure.reason, failure.answer
        except TimeoutError as error:
            if not limit.expired():
                return self._broken(tool.name, context, error)
            late = f"no answer within {tool.timeout_s:g} s; what was asked for may have happened all the same"
            reason, answer = "timeout", {"error": late}
        except asyncio.CancelledError as error:
            if (task := asyncio.current_task()) and task.cancelling():
                raise
            return self._broken(tool.name, context, error)
        except (Exception, SystemExit) as error:  # a tool is a stranger's code: it may raise anything
            return self._broken(tool.name, context, error)
        return self._failed(tool.name, context, reason, concealed(answer, seen))

    async def _started(self, tool: HttpTool | PythonTool, arguments: dict[str, Any], context: ToolContext) -> Any:
        """Returns the tool's result, as JSON has it."""
        if isinstance(tool, HttpTool):
            assert self._http is not None, "start() has not been called"
            return await fetch(self._http, tool, arguments)
        function = self._functions[tool.name]
        call = function.bind(arguments, context)
        if function.is_async:
            return _jsonable(await call())
        # The result is read in the thread as well: it may be large.
        return await self._threads.call(lambda: _jsonable(call()), f"tool {tool.name}")

    def _broken(self, name: str, context: ToolContext, error: BaseException) -> ToolResult:
        # What the exception says is for the tool's author alone: it may quote the caller.
        _of(context).debug("tool.traceback", tool=name, exc_info=error)
        return self._failed(name, context, type(error).__name__, {"error": "the tool failed"})

    def _failed(self, name: str, context: ToolContext, reason: str, answer: dict[str, Any]) -> ToolResult:
        _of(context).warning("tool.failed", tool=name, reason=reason)
        return ToolResult(output(answer), failed=True)


def _of(context: ToolContext) -> Any:
    return log.bind(call_id=context.call_id, trace_id=context.trace_id)


def output(result: Any) -> str:
    """Returns a result as the model gets it: text as it is, all else as JSON; of what is too long, the beginning."""
    text = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False, separators=(",", ":"))
    # A lone surrogate is JSON, but no text that could be sent.
    text = text.encode(errors="replace").decode()
    start, cut = text, text
    while len(cut.encode()) > MAX_OUTPUT_BYTES:
        # In JSON a character may take six bytes, so how much fits shows only when it is written.
        start = start[: min(MAX_OUTPUT_BYTES, len(start) * 9 // 10)]
        cut = json.dumps(
            {"note": f"cut: the first {len(start)} of {len(text)} characters", "start": start}, ensure_ascii=False
        )
    return cut


def _jsonable(result: Any) -> Any:
    try:
        return to_jsonable_python(result, inf_nan_mode="null")
    except PydanticSerializationError:
        raise TypeError("the result cannot be written as JSON") from None
