"""Branches and tags: alike on every replica, recognised by each, and made by nobody else."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.sip.actions import Address
from dispatcher.sip.grammar import TOKEN
from dispatcher.sip.message import Request, parse
from dispatcher.sip.seal import Seal
from tests.unit.dispatcher.ladder import invite, request


def parsed(data: bytes) -> Request:
    message = parse(data)
    assert isinstance(message, Request)
    return message


INVITE = parsed(invite())


def test_a_branch_is_the_same_everywhere_in_the_pool_and_recognised() -> None:
    branch = Seal("secret").branch(INVITE, b"lease")
    assert branch == Seal("secret").branch(parsed(invite()), b"lease")
    assert branch.startswith(b"z9hG4bK") and not branch.translate(None, TOKEN)
    assert Seal("secret").holds(branch, b"call-1")


def test_a_branch_is_another_one_for_each_lease_and_pool() -> None:
    seal = Seal("secret")
    assert len({seal.branch(INVITE), seal.branch(INVITE, b"a"), seal.branch(INVITE, b"b")}) == 3
    assert seal.branch(INVITE) != Seal("other").branch(INVITE)


def test_a_branch_is_worth_nothing_for_another_call_or_in_another_pool() -> None:
    branch = Seal("secret").branch(INVITE)
    assert not Seal("secret").holds(branch, b"call-2")
    assert not Seal("other").holds(branch, b"call-1")


def test_cancel_has_the_branch_of_its_invite_and_other_methods_their_own() -> None:
    seal = Seal("secret")
    branches = {method: seal.branch(parsed(request(method))) for method in ("INVITE", "CANCEL", "ACK", "BYE", "INFO")}
    assert branches["CANCEL"] == branches["INVITE"]
    assert len(set(branches.values())) == 4


def test_what_arrival_writes_into_a_via_does_not_change_the_branch() -> None:
    arrived = parsed(invite())
    arrived.arrived_from(Address("udp", "192.0.2.99", 41000))
    assert arrived.via != INVITE.via
    assert Seal("secret").branch(arrived) == Seal("secret").branch(INVITE)


def test_a_peer_without_branches_has_its_requests_told_apart() -> None:
    old = [parsed(invite(cseq=cseq).replace(b"branch=z9hG4bKcaller1;", b"")) for cseq in (1, 2)]
    assert Seal("secret").branch(old[0]) != Seal("secret").branch(old[1])


@settings(deadline=None)
@given(st.binary(max_size=60), st.booleans())
def test_other_branches_are_not_the_pools(noise: bytes, disguised: bool) -> None:
    assert not Seal("secret").holds(b"z9hG4bK" + noise.hex().encode() if disguised else noise, b"call-1")


@settings(deadline=None)
@given(st.integers(0, 42), st.sampled_from(b"0123456789abcdef"))
def test_a_changed_branch_is_not_the_pools(position: int, byte: int) -> None:
    branch = bytearray(Seal("secret").branch(INVITE))
    changed = branch[position] != byte
    branch[position] = byte
    assert Seal("secret").holds(bytes(branch), b"call-1") is not changed


@pytest.mark.parametrize("method", ["CANCEL", "OPTIONS"])
def test_a_tag_is_the_same_for_all_requests_of_a_caller(method: str) -> None:
    assert Seal("secret").tag(parsed(request(method))) == Seal("secret").tag(INVITE)
    assert Seal("other").tag(INVITE) != Seal("secret").tag(INVITE)
