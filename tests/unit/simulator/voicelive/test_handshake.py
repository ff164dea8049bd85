"""Who is let in."""

import pytest

from simulator.voicelive.handshake import Admission, HandshakeRefused, admit

QUERY = {"api-version": "2026-07-15", "model": "gpt-realtime"}
AGENT = {"api-version": "2026-07-15", "agent-name": "a", "agent-project-name": "p"}
KEY = {"api-key": "secret"}
BEARER = {"Authorization": "Bearer token"}


def status(query: dict[str, str], headers: dict[str, str], api_key: str | None = None) -> int:
    with pytest.raises(HandshakeRefused) as refusal:
        admit(query, headers, api_key)
    return refusal.value.status


@pytest.mark.parametrize("headers", [KEY, BEARER])
def test_a_model_is_let_in_with_a_key_or_a_token(headers: dict[str, str]) -> None:
    assert admit(QUERY, headers, "secret") == Admission(model="gpt-realtime", agent=None)


def test_credentials_may_stand_in_the_query() -> None:
    assert admit({**QUERY, **KEY}, {}, "secret").model == "gpt-realtime"
    assert admit({**QUERY, **BEARER}, {}, "secret").model == "gpt-realtime"


def test_an_agent_is_let_in_with_a_token_only() -> None:
    assert admit(AGENT, BEARER, None) == Admission(model=None, agent="a")
    assert status(AGENT, KEY) == 401


@pytest.mark.parametrize("headers", [{}, {"api-key": ""}, {"Authorization": "Bearer "}, {"Authorization": "Basic x"}])
def test_nobody_is_let_in_without_credentials(headers: dict[str, str]) -> None:
    assert status(QUERY, headers) == 401


def test_only_the_one_key_is_good_when_there_is_one() -> None:
    assert status(QUERY, {"api-key": "other"}, "secret") == 401
    assert admit(QUERY, {"api-key": "other"}, None).model == "gpt-realtime"


@pytest.mark.parametrize(
    "query",
    [
        {"model": "gpt-realtime"},
        {"api-version": "2020-01-01", "model": "gpt-realtime"},
        {"api-version": "2026-07-15"},
        {"api-version": "2026-07-15", "agent-name": "a"},
        {"api-version": "2026-07-15", "agent-project-name": "p", "model": "gpt-realtime"},
    ],
)
def test_an_incomplete_address_is_a_bad_request(query: dict[str, str]) -> None:
    assert status(query, KEY) == 400
