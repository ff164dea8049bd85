"""The lease token: what it proves and what it refuses."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import TokenInvalid
from shared.ids import CallId, LeaseId, WorkerId
from shared.messages import Lease
from shared.token import MAX_AGE_MS, sign, verify

SECRET = "a secret of the whole pool"
LEASE = Lease(
    lease_id=LeaseId("l1"),
    call_id=CallId("c1"),
    worker_id=WorkerId("w1"),
    offered_at_ms=1_000_000,
    invite_at_ms=999_990,
)


def check(token: str, secret: str = SECRET, worker: str = "w1", call: str = "c1", now_ms: int = 1_000_100) -> Lease:
    return verify(token, secret, worker_id=WorkerId(worker), call_id=CallId(call), now_ms=now_ms)


def test_a_signed_lease_comes_back_whole() -> None:
    assert check(sign(LEASE, SECRET)) == LEASE
    assert check(sign(replace(LEASE, provisional=True), SECRET)).provisional


def test_a_token_fits_into_a_header_and_a_uri() -> None:
    token = sign(LEASE, SECRET)
    assert token.replace("-", "").replace("_", "").isalnum()


def test_another_secret_is_refused() -> None:
    with pytest.raises(TokenInvalid, match="signature"):
        check(sign(LEASE, SECRET), secret="a different secret of 20")


def test_another_worker_is_refused() -> None:
    with pytest.raises(TokenInvalid, match="another worker"):
        check(sign(LEASE, SECRET), worker="w2")


def test_another_call_is_refused() -> None:
    with pytest.raises(TokenInvalid, match="another call"):
        check(sign(LEASE, SECRET), call="c2")


def test_a_stale_token_is_refused() -> None:
    with pytest.raises(TokenInvalid, match="stale"):
        check(sign(LEASE, SECRET), now_ms=LEASE.offered_at_ms + MAX_AGE_MS + 1)


@given(st.integers(min_value=0), st.characters(codec="ascii"))
def test_a_token_changed_in_one_place_is_refused(place: int, character: str) -> None:
    token = sign(LEASE, SECRET)
    at = place % (len(token) - 1)  # the last character has bits that carry nothing
    changed = token[:at] + character + token[at + 1 :]
    if changed != token:
        with pytest.raises(TokenInvalid):
            check(changed)


@given(st.text(max_size=200))
def test_arbitrary_text_is_refused(text: str) -> None:
    with pytest.raises(TokenInvalid):
        check(text)
