"""Python tools in a worker: whatever they do, the model gets a bounded answer and the worker goes on."""

import asyncio
import contextvars
import json
import sys
import threading
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest
from structlog.testing import capture_logs

from shared.agents.facts import CallFacts
from shared.agents.model import Agent, PythonTool
from worker.tools import runner as module
from worker.tools.context import ToolContext, ToolError
from worker.tools.functions import read
from worker.tools.runner import MAX_OUTPUT_BYTES, ToolResult, ToolRunner, output

CARD = "4111222233334444"
FACTS = CallFacts("1", "2", {}, "", datetime(2026, 1, 1, tzinfo=UTC))
CONTEXT = ToolContext("call-1", FACTS, {"<digits-1>": CARD})
FAILED = ToolResult('{"error":"the tool failed"}', failed=True)
HERE = contextvars.ContextVar("HERE", default="nowhere")


async def run(function: Callable[..., Any], timeout_s: float = 30.0, **arguments: Any) -> ToolResult:
    """Runs the function as the only tool of a worker."""
    result: ToolResult = await prepared(function, timeout_s)(**arguments)
    return result


def prepared(function: Callable[..., Any], timeout_s: float = 30.0) -> Callable[..., Any]:
    function.__doc__ = "A tool."
    runner = ToolRunner({"tool": read("tool", function)})
    tool = PythonTool(type="python", name="tool", timeout_s=timeout_s)
    agent = Agent(name="reception", model="gpt-4.1-mini", tools=(tool, "hang_up"))  # type: ignore[arg-type]

    async def call(name: str = "tool", **arguments: Any) -> ToolResult:
        return await runner.run(agent, name, arguments, CONTEXT)

    return call


async def test_text_goes_to_the_model_as_it_is() -> None:
    async def tool(day: date) -> str:
        return f"open on {day}"

    assert await run(tool, day="2026-05-01") == ToolResult("open on 2026-05-01")


async def test_everything_else_goes_to_the_model_as_json() -> None:
    def tool() -> dict[str, Any]:
        return {"day": date(2026, 5, 1), "city": "Köln", "odd": float("nan"), "pair": (1, None)}

    assert await run(tool) == ToolResult('{"day":"2026-05-01","city":"Köln","odd":null,"pair":[1,null]}')


async def test_a_plain_function_runs_in_a_thread_with_the_callers_context_variables() -> None:
    def tool() -> list[Any]:
        return [threading.current_thread() is threading.main_thread(), HERE.get()]

    HERE.set("call-1")
    assert await run(tool) == ToolResult('[false,"call-1"]')


async def test_digits_are_filled_in_for_the_tool_and_concealed_in_its_result() -> None:
    seen = []

    def tool(card: str, context: ToolContext | None = None) -> dict[str, Any]:
        seen.append(card)
        return {"card": card, "as_number": int(card), "text": f"no account for {card}!"}

    result = await run(tool, card="<digits-1>")
    assert seen == [CARD]
    assert json.loads(result.output) == {
        "card": "<digits-1>",
        "as_number": "<digits-1>",
        "text": "no account for <digits-1>!",
    }


async def test_digits_are_concealed_in_what_a_tool_refuses() -> None:
    def tool(card: str) -> None:
        raise ToolError(f"there is no card {card}")

    assert await run(tool, card="<digits-1>") == ToolResult('{"error":"there is no card <digits-1>"}', failed=True)


async def test_arguments_the_schema_allows_and_the_type_does_not_are_explained() -> None:
    def tool(day: date) -> str:
        return str(day)

    result = await run(tool, day="tomorrow")
    assert result.failed
    assert json.loads(result.output)["error"].startswith("day: ")


@pytest.mark.parametrize(
    "error",
    [
        ValueError(CARD),
        StopIteration(),
        SystemExit(CARD),
        KeyboardInterrupt(),
        asyncio.CancelledError(),
        TimeoutError(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_a_plain_function_raises_is_told_to_nobody(error: BaseException) -> None:
    def tool() -> None:
        raise error

    with capture_logs() as logs:
        assert await run(tool) == FAILED
    assert CARD not in str([line for line in logs if line["log_level"] != "debug"])


@pytest.mark.parametrize(
    "error",
    [ValueError(CARD), StopAsyncIteration(), SystemExit(CARD), asyncio.CancelledError(), TimeoutError(CARD)],
    ids=lambda error: type(error).__name__,
)
async def test_what_an_async_function_raises_is_told_to_nobody(error: BaseException) -> None:
    async def tool() -> None:
        raise error

    with capture_logs() as logs:
        assert await run(tool) == FAILED
    assert {"event": "tool.failed", "log_level": "warning", "tool": "tool", "call_id": "call-1"}.items() <= logs[
        -1
    ].items()
    assert logs[-1]["reason"] == type(error).__name__
    assert CARD not in str([line for line in logs if line["log_level"] != "debug"])


async def test_a_result_that_is_no_json_counts_as_a_failure() -> None:
    def tool() -> object:
        return threading.Lock()

    assert await run(tool) == FAILED


async def test_an_async_function_that_takes_too_long_is_cancelled() -> None:
    cancelled = asyncio.Event()

    async def tool() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    result = await run(tool, timeout_s=0.01)
    assert result.failed
    assert json.loads(result.output)["error"].startswith("no answer within 0.01 s")
    assert cancelled.is_set()


async def test_a_plain_function_that_takes_too_long_is_left_behind() -> None:
    gate = threading.Event()
    result = await run(_waiting(gate), timeout_s=0.01)
    gate.set()
    assert json.loads(result.output)["error"].startswith("no answer within 0.01 s")


async def test_when_the_call_ends_its_tools_are_cancelled() -> None:
    started = asyncio.Event()

    async def tool() -> None:
        started.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(run(tool))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_worker_runs_so_many_tools_at_once_and_is_busy_beyond(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_RUNNING", 2)
    both_run, gate = asyncio.Barrier(3), asyncio.Event()

    async def tool() -> str:
        if not gate.is_set():
            await both_run.wait()
        await gate.wait()
        return "done"

    call = prepared(tool)
    tasks = [asyncio.create_task(call()) for _ in range(2)]
    await both_run.wait()
    refused = await call()
    assert refused.failed
    assert "busy" in refused.output
    gate.set()
    assert await asyncio.gather(*tasks) == [ToolResult("done")] * 2
    assert await call() == ToolResult("done")


async def test_a_plain_function_waits_for_a_thread_to_be_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_THREADS", 1)
    gate = threading.Event()
    call = prepared(_waiting(gate))
    first = asyncio.create_task(call())
    second = asyncio.create_task(call())
    await asyncio.sleep(0)  # both begin: the second waits for the thread, which its end must not cost
    second.cancel()
    third = asyncio.create_task(call())
    gate.set()
    assert await first == await third == ToolResult("done")


async def test_what_the_call_itself_does_is_not_for_the_runner() -> None:
    async def tool() -> None: ...

    assert (await prepared(tool)("hang_up")).failed
    assert (await prepared(tool)("nothing")).failed


async def test_a_plain_function_still_running_does_not_hold_up_the_process() -> None:
    code = (
        "import asyncio, threading\n"
        "from worker.tools.threads import Threads\n"
        "async def main():\n"
        "    started = asyncio.Event(); loop = asyncio.get_running_loop()\n"
        "    def work():\n"
        "        loop.call_soon_threadsafe(started.set); threading.Event().wait()\n"
        "    task = asyncio.create_task(Threads(1).call(work, 'tool'))\n"
        "    await started.wait()\n"
        "    task.cancel()\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    async with asyncio.timeout(30):
        assert await process.wait() == 0


@pytest.mark.parametrize("text", ["x" * 50_000, '"' * 20_000, "\x00" * 17_000, "ß" * 10_000, "\U0001f600" * 5_000])
def test_what_is_too_long_is_cut_with_a_note(text: str) -> None:
    cut = output({"text": text})
    assert MAX_OUTPUT_BYTES // 3 < len(cut.encode()) <= MAX_OUTPUT_BYTES
    parts = json.loads(cut)
    assert parts["note"].startswith("cut: the first ")
    assert json.dumps({"text": text}, ensure_ascii=False, separators=(",", ":")).startswith(parts["start"])


def test_what_is_not_too_long_is_whole() -> None:
    text = "x" * MAX_OUTPUT_BYTES
    assert output(text) == text


def test_half_of_a_character_does_not_get_out() -> None:
    assert output({"a": "\ud800"}) == '{"a":"?"}'


def _waiting(gate: threading.Event) -> Callable[[], str]:
    def tool() -> str:
        gate.wait(60)
        return "done"

    return tool
