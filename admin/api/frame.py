"""What surrounds every HTTP request: its id, its deadline, and the checks that need no token.

It is plain ASGI and knows no endpoint.
"""

import asyncio
import re
import secrets
from collections.abc import Collection, Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from admin.api.problems import Problem, response

RESPONSE_S = 100.0
"""Longest until a response begins: a little more than the longest wait for a command's end (`Commands.run`)."""

BODY_MAX = 64 * 1024
"""Bytes of a request's body."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Frame:
    """An ASGI app around another one.

    `hosts`, when not empty, are the only names that Host may have, and an Origin must be one of them: without tokens,
    this keeps web pages in the operator's browser from using the API.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str] = ()) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request; passes on what is none."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        deadline = asyncio.timeout(RESPONSE_S)

        async def framed(message: Message) -> None:
            if message["type"] == "http.response.start":
                if not deadline.expired():
                    deadline.reschedule(None)
                MutableHeaders(scope=message).update({"X-Request-Id": request_id, "Cache-Control": "no-store"})
            await send(message)

        try:
            async with deadline:
                if refusal := self._refusal(headers):
                    await response(refusal, request_id)(scope, receive, framed)
                else:
                    await self._app(scope, receive, framed)
        except TimeoutError:
            if not deadline.expired():
                raise
            await response(Problem(504, "timeout", "it may be done all the same"), request_id)(scope, receive, framed)

    def _refusal(self, headers: Headers) -> Problem | None:
        if self._hosts and not _from_here(headers, self._hosts):
            return Problem(403, "foreign-origin", "without tokens, only this host may use the API")
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > BODY_MAX:
            return Problem(413, "too-long", f"it may have {BODY_MAX} bytes")
        return None


def _from_here(headers: Headers, hosts: Collection[str]) -> bool:
    return all(_host(value) in hosts for value in _claimed(headers))


def _claimed(headers: Headers) -> Iterable[str]:
    yield headers.get("host", "")
    if "origin" in headers:
        yield headers["origin"].partition("://")[2]


def _host(authority: str) -> str:
    """Returns the host of host:port."""
    return re.sub(r":\d+$", "", authority)
