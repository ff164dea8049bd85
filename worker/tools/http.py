"""Makes the requests of HTTP tools, and says what of the answer the model gets.

It retries nothing and follows no redirect. It does not bound the time; the runner does.
"""

import json
from collections.abc import Mapping
from typing import Any

import aiohttp
from pydantic import SecretStr

from shared.agents.model import HttpTool
from worker.tools.placeholders import concealed
from worker.tools.request import build

MAX_ERROR_BYTES = 2000
"""Bytes of a 4xx or 5xx answer that the model gets: enough for the reason, too little for a page of HTML."""


class RequestFailed(Exception):
    """The request brought nothing of use: `answer` is for the model, `reason` (from a closed list) for the log."""

    def __init__(self, reason: str, answer: dict[str, Any]) -> None:
        super().__init__(reason)
        self.reason = reason
        self.answer = answer


def open_session(connections: int) -> aiohttp.ClientSession:
    """Returns a session for `fetch` with at most so many connections. One call's cookies are nothing to another's."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
    )


async def fetch(session: aiohttp.ClientSession, tool: HttpTool, arguments: Mapping[str, Any]) -> Any:
    """Makes the request and returns the answer's JSON value or text.

    Raises ToolError for what cannot be sent, RequestFailed for everything that goes wrong on the way.
    """
    request = build(tool, arguments)
    secrets = {value.get_secret_value(): "***" for value in tool.headers.values() if isinstance(value, SecretStr)}
    try:
        async with session.request(
            request.method, request.url, headers=request.headers, data=request.body, allow_redirects=False
        ) as response:
            return concealed(await _answer(response, tool.max_bytes), secrets)
    except RequestFailed as failure:
        raise RequestFailed(failure.reason, concealed(failure.answer, secrets)) from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        # A timeout of the runner's is a cancellation here, not a TimeoutError.
        raise RequestFailed(type(error).__name__, {"error": "the service cannot be reached"}) from error


async def _answer(response: aiohttp.ClientResponse, max_bytes: int) -> Any:
    status = response.status
    if 300 <= status < 400:
        raise RequestFailed(f"HTTP {status}", {"error": f"HTTP {status}: a redirect, which is not followed"})
    if status >= 400:
        answer = {"error": f"HTTP {status}"}
        body, _ = await _read(response, MAX_ERROR_BYTES)
        if text := _text(response, body).strip():
            answer["body"] = text
        raise RequestFailed(f"HTTP {status}", answer)
    body, complete = await _read(response, max_bytes)
    if not complete:
        raise RequestFailed("answer too large", {"error": f"the answer is larger than {max_bytes} bytes"})
    if not body:
        return {"status": status}
    if _is_compressed(response):
        raise RequestFailed("compressed answer", {"error": "the answer is compressed"})
    if _is_json(response):
        try:
            return json.loads(body, parse_constant=lambda _: None)
        except (ValueError, RecursionError):
            raise RequestFailed("bad JSON", {"error": "the answer is not valid JSON"}) from None
    if response.content_type.startswith("text/"):
        return _text(response, body)
    raise RequestFailed("unknown content type", {"error": "the answer is neither JSON nor text"})


async def _read(response: aiohttp.ClientResponse, limit: int) -> tuple[bytes, bool]:
    """Returns up to `limit` bytes of the body, and whether that is all of it."""
    body = bytearray()
    while len(body) <= limit:
        chunk = await response.content.read(limit + 1 - len(body))
        if not chunk:
            return bytes(body), True
        body += chunk
    return bytes(body[:limit]), False


def _text(response: aiohttp.ClientResponse, body: bytes) -> str:
    """Returns the body as text; nothing of what is no text."""
    if _is_compressed(response) or not (_is_json(response) or response.content_type.startswith("text/")):
        return ""
    try:
        return body.decode(response.charset or "utf-8", errors="replace")
    except LookupError:
        return body.decode(errors="replace")


def _is_json(response: aiohttp.ClientResponse) -> bool:
    return response.content_type == "application/json" or response.content_type.endswith("+json")


def _is_compressed(response: aiohttp.ClientResponse) -> bool:
    return response.headers.get("Content-Encoding", "identity").lower() != "identity"
