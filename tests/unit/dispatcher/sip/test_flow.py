"""Flow tokens: both ends come back, for this call only, from this pool only."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.sip.actions import Address
from dispatcher.sip.flow import Flow, FlowTokens
from dispatcher.sip.grammar import TOKEN

FLOW = Flow(Address("udp", "192.0.2.10", 5061), Address("udp", "10.0.1.1", 5070))


@pytest.mark.parametrize("caller", ["192.0.2.10", "2001:db8::10"])
def test_a_token_gives_both_ends_back(caller: str) -> None:
    flow = FLOW._replace(caller=Address("udp", caller, 65535))
    token = FlowTokens("secret").make(flow, b"call-1")
    assert FlowTokens("secret").read(token, b"call-1") == flow
    assert not token.translate(None, TOKEN)


@pytest.mark.parametrize("transport", ["tcp", "tls"])
@pytest.mark.parametrize("caller", ["192.0.2.10", "2001:db8::10"])
def test_a_token_says_over_what_the_caller_came(transport: str, caller: str) -> None:
    flow = FLOW._replace(caller=Address(transport, caller, 40_001))
    token = FlowTokens("secret").make(flow._replace(caller=flow.caller._replace(listens=5060)), b"call-1")
    assert FlowTokens("secret").read(token, b"call-1") == flow


def test_a_token_is_worth_nothing_for_another_call_or_in_another_pool() -> None:
    token = FlowTokens("secret").make(FLOW, b"call-1")
    assert FlowTokens("secret").read(token, b"call-2") is None
    assert FlowTokens("other").read(token, b"call-1") is None


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_other_user_parts_are_no_tokens(user: bytes) -> None:
    assert FlowTokens("secret").read(user, b"call-1") is None


@settings(deadline=None)
@given(st.integers(0, 37), st.sampled_from(b"ABCabc019-_"))
def test_a_changed_token_is_none(position: int, byte: int) -> None:
    token = bytearray(FlowTokens("secret").make(FLOW, b"call-1"))
    position %= len(token) - 1  # the last character has bits that mean nothing
    changed = token[position] != byte
    token[position] = byte
    assert (FlowTokens("secret").read(bytes(token), b"call-1") is None) is changed
