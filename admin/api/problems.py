"""Errors of the HTTP API as problem details (RFC 9457), and which error of ours becomes which.

None of them shows what was sent: that may be a number, or what somebody was to be told.
"""

from collections.abc import Mapping
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from admin.operations.finding import Ambiguous, NotFound
from shared.errors import ControlUnavailable

MEDIA_TYPE = "application/problem+json"

_TITLES = {
    400: "The request is malformed",
    401: "A token is needed",
    403: "The token does not allow it",
    404: "There is no such thing",
    405: "The method is not for this",
    408: "The request took too long to arrive",
    409: "It was not done",
    413: "The request is too long",
    415: "The request is not JSON",
    422: "The request is not as it must be",
    429: "Too many requests",
    500: "An error of the server",
    503: "Not now",
    504: "It took too long",
}

log = structlog.get_logger()


class ProblemShape(BaseModel):
    """Problem details."""

    model_config = ConfigDict(extra="allow", title="Problem")

    type: str = Field(description="urn:voicepool:problem: and the kind, which does not change.")
    title: str
    status: int
    detail: str = Field(description="For people.")
    request_id: str = Field(description="As in X-Request-Id, and in the server's log.")


class Problem(Exception):
    """What ends a request with an error."""

    def __init__(
        self, status: int, kind: str, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(detail)
        self.status, self.kind, self.detail, self.headers, self.more = status, kind, detail, headers, more


def response(problem: Problem, request_id: str) -> JSONResponse:
    """Returns what the client gets."""
    content = {
        "type": f"urn:voicepool:problem:{problem.kind}",
        "title": _TITLES.get(problem.status, "An error"),
        "status": problem.status,
        "detail": problem.detail,
        "request_id": request_id,
        **problem.more,
    }
    return JSONResponse(content, problem.status, dict(problem.headers or {}), MEDIA_TYPE)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Returns OpenAPI's description of these errors."""
    content = {MEDIA_TYPE: {"schema": ProblemShape.model_json_schema()}}
    return {status: {"description": _TITLES[status], "content": content} for status in statuses}


def install(app: FastAPI) -> None:
    """Has the app answer every error in this way."""

    def answer(request: Request, error: Exception) -> JSONResponse:
        problem = _problem_of(error)
        if problem.status == 500:
            log.error("admin.request_failed", request_id=request.state.request_id, error=type(error).__name__)
        return response(problem, request.state.request_id)

    for kind in (
        Problem, NotFound, Ambiguous, ControlUnavailable, RequestValidationError, HTTPException, Exception
    ):  # fmt: skip
        app.add_exception_handler(kind, answer)


def _problem_of(error: Exception) -> Problem:
    match error:
        case Problem():
            return error
        case NotFound():
            return Problem(404, "not-found", "nothing has this id, or one that begins so")
        case Ambiguous():
            return Problem(409, "ambiguous", str(error))
        case ControlUnavailable():
            return Problem(503, "redis-unavailable", f"Redis does not answer ({error})", headers={"Retry-After": "2"})
        case RequestValidationError():
            return Problem(422, "invalid", "; ".join(map(_complaint, error.errors()[:5])))
        case HTTPException():
            kind = {404: "not-found", 413: "too-long"}.get(error.status_code, "refused")
            return Problem(error.status_code, kind, str(error.detail), headers=error.headers)
        case _:
            return Problem(500, "internal", "this is in the server's log")


def _complaint(error: Mapping[str, Any]) -> str:
    """Returns where a request is wrong, and how; never what was sent."""
    message = error["msg"]
    if error["type"] == "model_attributes_type":  # a body that was not announced as JSON comes as bytes
        message = "must be a JSON object, sent with Content-Type: application/json"
    return f"{'.'.join(map(str, error['loc']))}: {message}"
