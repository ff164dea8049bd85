"""Who asks, whether they may, how often, and the audit log of it.

It decides by bearer tokens (RFC 6750) alone: an address is only counted, and a good token is never shut out by somebody
else's bad ones, who may come from the same address.
"""

import asyncio
import ipaddress
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

import structlog
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from admin.api.allowance import Allowance
from admin.api.problems import Problem
from admin.api.tokens import Role, TokenFile

REQUESTS_PER_S, REQUESTS_BURST = 20.0, 100
"""Requests of one token."""

FAILURES_PER_S, FAILURES_BURST = 1 / 6, 10
"""Requests without a good token from one address. Those beyond are not logged."""

_IPV6_NETWORK = 64
"""Bits of an IPv6 address that are counted as one: who has one of them has all of them."""

log = structlog.get_logger()

_bearer = HTTPBearer(auto_error=False, description="A token from `voicepool api token`.")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who made a request."""

    name: str
    """Of the token."""
    role: Role
    address: str
    request_id: str


ANYBODY = "loopback"
"""Name of everybody when there are no tokens."""


class Access:
    """Lets requests in. Without tokens it lets in everybody, with the right to do everything."""

    def __init__(self, tokens: TokenFile | None) -> None:
        self._tokens = tokens
        self._requests = Allowance(REQUESTS_PER_S, REQUESTS_BURST)
        self._failures = Allowance(FAILURES_PER_S, FAILURES_BURST)

    def admit(self, request: Request, presented: str | None, role: Role) -> Caller:
        """Returns who asks; raises Problem 401, 403 or 429."""
        address = request.client.host if request.client else ""
        request_id: str = request.state.request_id
        now = asyncio.get_running_loop().time()
        if self._tokens is None:
            caller = Caller(ANYBODY, Role.OPERATE, address, request_id)
        else:
            token = self._tokens.find(presented) if presented else None
            if token is None:
                raise self._refusal(address, request_id, bool(presented), now)
            caller = Caller(token.name, token.role, address, request_id)
        if wait_s := self._requests.take(caller.name, now):
            raise _too_many(wait_s)
        if role is Role.OPERATE and caller.role is not Role.OPERATE:
            audit(caller, request.scope["route"].name, request.path_params.get("call_id", ""), "denied")
            raise Problem(403, "role", "this needs a token with the role operate")
        return caller

    def _refusal(self, address: str, request_id: str, presented: bool, now: float) -> Problem:
        if wait_s := self._failures.take(_network(address), now):
            return _too_many(wait_s)
        log.warning("admin.audit", operation="authenticate", outcome="denied", address=address, request_id=request_id)
        challenge = 'Bearer error="invalid_token"' if presented else "Bearer"  # RFC 6750 section 3
        detail = "the token is not known" if presented else "send Authorization: Bearer and a token"
        return Problem(401, "token", detail, headers={"WWW-Authenticate": challenge})


def audit(caller: Caller, operation: str, target: str, outcome: str) -> None:
    """Logs who did what to what, and whether it was done."""
    log.info(
        "admin.audit",
        token=caller.name,
        operation=operation,
        target=target,
        outcome=outcome,
        address=caller.address,
        request_id=caller.request_id,
    )


def _needs(role: Role) -> Callable[..., Awaitable[Caller]]:
    async def admit(
        request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
    ) -> Caller:
        access: Access = request.app.state.access
        return access.admit(request, credentials.credentials if credentials else None, role)

    return admit


Reader = Annotated[Caller, Depends(_needs(Role.READ))]
Operator = Annotated[Caller, Depends(_needs(Role.OPERATE))]


def _too_many(wait_s: float) -> Problem:
    return Problem(429, "too-many", "wait a little", headers={"Retry-After": str(math.ceil(wait_s))})


def _network(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network((parsed, _IPV6_NETWORK), strict=False))
