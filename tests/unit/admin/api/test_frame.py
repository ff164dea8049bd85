"""What surrounds a request: its id and its deadline."""

import asyncio
import json
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from admin.api import frame
from admin.api.frame import Frame

SCOPE: dict[str, Any] = {"type": "http", "method": "GET", "path": "/", "headers": [(b"x-request-id", b"mine")]}


async def served(app: Frame, sent: list[Message]) -> None:
    """Serves one request without a body; what is answered is in `sent`, also when it does not come to an end."""

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(dict(SCOPE), receive, send)


async def test_a_response_that_does_not_begin_in_time_is_504(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(frame, "RESPONSE_S", 0.01)
    sent: list[Message] = []
    await served(Frame(never), sent)
    start, body = sent
    assert start["status"] == 504
    assert (b"x-request-id", b"mine") in start["headers"]
    assert json.loads(body["body"])["request_id"] == "mine"


async def test_a_response_that_has_begun_may_take_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    over = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        asyncio.get_running_loop().call_later(0.05, over.set)
        await over.wait()
        await send({"type": "http.response.body", "body": b"done"})

    monkeypatch.setattr(frame, "RESPONSE_S", 0.01)
    sent: list[Message] = []
    await served(Frame(slow), sent)
    assert [message.get("body") for message in sent] == [None, b"done"]


async def test_a_timeout_of_the_app_itself_is_its_own() -> None:
    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        await served(Frame(failing), [])
