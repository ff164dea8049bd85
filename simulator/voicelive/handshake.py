"""Decides whether a handshake is let in, from its query and headers alone. Does not answer it."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

API_VERSIONS = (
    "2025-05-01-preview",
    "2025-10-01",
    "2026-01-01-preview",
    "2026-04-10",
    "2026-06-01-preview",
    "2026-07-15",
)


# What an Azure AI resource writes in the body of a refusal: code and message by HTTP status.
REFUSALS: Mapping[int, tuple[str, str]] = MappingProxyType(
    {
        400: ("BadRequest", "The request is not valid."),
        401: (
            "401",
            "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for "
            "an active subscription and use a correct regional API endpoint for your resource.",
        ),
        403: ("AuthenticationTypeDisabled", "Key based authentication is disabled for this resource."),
        404: ("404", "Resource not found"),
        429: ("429", "Requests to this operation have exceeded the rate limit of your current pricing tier."),
        500: ("InternalServerError", "The server had an error while processing your request."),
        503: ("ServiceUnavailable", "The service is temporarily unable to process your request."),
    }
)


class HandshakeRefused(Exception):
    """The handshake gets this HTTP status and an error body instead of an upgrade."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Admission:
    """Whom the session talks to: a model, or a Foundry agent."""

    model: str | None
    agent: str | None


def admit(query: Mapping[str, str], headers: Mapping[str, str], api_key: str | None) -> Admission:
    """Check api-version, target and credentials; raises HandshakeRefused.

    With `api_key` None any key is good. A bearer token is good as long as it is there; agents take nothing else.
    """
    if query.get("api-version") not in API_VERSIONS:
        known = ", ".join(API_VERSIONS)
        raise HandshakeRefused(400, "BadRequest", f"Missing or unsupported api-version. Supported: {known}.")
    agent, project, model = query.get("agent-name"), query.get("agent-project-name"), query.get("model")
    if bool(agent) != bool(project):
        raise HandshakeRefused(400, "BadRequest", "agent-name and agent-project-name belong together.")
    if not model and not agent:
        raise HandshakeRefused(400, "BadRequest", "Missing query parameter: model.")
    if not _has_bearer(query, headers) and (agent or not _has_key(query, headers, api_key)):
        raise HandshakeRefused(401, *REFUSALS[401])
    return Admission(model or None, agent or None)


def _has_key(query: Mapping[str, str], headers: Mapping[str, str], api_key: str | None) -> bool:
    given = headers.get("api-key") or query.get("api-key") or ""
    return bool(given) and (api_key is None or hmac.compare_digest(given.encode(), api_key.encode()))


def _has_bearer(query: Mapping[str, str], headers: Mapping[str, str]) -> bool:
    given = headers.get("Authorization") or query.get("Authorization") or ""
    scheme, _, token = given.partition(" ")
    return scheme.lower() == "bearer" and bool(token.strip())
