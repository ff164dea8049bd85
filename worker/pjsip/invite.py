"""What the pool needs to know of an INVITE, taken from the message pjsip hands over as text.

It does not validate SIP: pjsip has parsed the message before. Nothing here is logged, numbers stay in the message.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from types import MappingProxyType
from urllib.parse import unquote

from shared.errors import PeerError
from shared.ids import CallId, call_id_for
from shared.token import HEADER, URI_PARAMETER

_G711_BY_PAYLOAD_TYPE = {"0": "PCMU", "8": "PCMA"}
"""Static RTP payload types (RFC 3551 section 6)."""

_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')

_COMPACT = {
    "a": "accept-contact", "b": "referred-by", "c": "content-type", "e": "content-encoding", "f": "from",
    "i": "call-id", "k": "supported", "l": "content-length", "m": "contact", "o": "event", "r": "refer-to",
    "s": "subject", "t": "to", "u": "allow-events", "v": "via", "x": "session-expires", "y": "identity",
}  # fmt: skip
"""Compact forms of headers (RFC 3261 section 7.3.3 and the RFCs that came later)."""

MAX_HEADERS = 64
MAX_HEADER_CHARS = 1024
MAX_USER_CHARS = 128
"""What of an INVITE is kept for the length of its call."""

_HIDDEN = frozenset(("id", "user", "header"))
"""Privacy values that ask for the caller not to be named (RFC 3323 section 4.2, RFC 3325 section 9.3)."""


@dataclass(frozen=True, slots=True)
class Invite:
    """An incoming INVITE."""

    call_id: CallId
    lease_token: str
    """Empty when the INVITE carries none."""
    codec: str
    """PCMU or PCMA: the first one offered, which pjsip will choose. PCMU when the offer comes with the ACK."""
    caller: str = field(repr=False)
    """User part of P-Asserted-Identity (RFC 3325), which the SBC vouches for, else of From. Empty when it is not known
    or not to be known: anonymous, or with a Privacy that says so."""
    called: str = field(repr=False)
    """User part of the Request-URI: a dispatcher changes its host only (in redirect mode too). That of To when it has
    none. To alone would be what was dialled before any diversion."""
    headers: Mapping[str, str] = field(repr=False)
    """Name in lower case and long form -> value of its first occurrence, without the lease; MAX_HEADERS of them at
    most, values cut after MAX_HEADER_CHARS."""


def parse(message: str) -> Invite:
    """Returns what the INVITE says; raises PeerError (400, 488) for one that cannot be served."""
    head, _, body = message.partition("\r\n\r\n")
    request_line, headers = _headers(head)
    if "call-id" not in headers:
        raise PeerError("no Call-ID")
    return Invite(
        call_id=call_id_for(headers["call-id"], _tag(headers.get("from", ""))),
        lease_token=headers.get(HEADER.lower(), "") or _parameter(request_line, URI_PARAMETER),
        codec=offered_codec(body),
        caller=_caller(headers),
        called=user_part(_target(request_line)) or user_part(headers.get("to", "")),
        headers=_kept(headers),
    )


def offered_codec(sdp: str) -> str:
    """Returns the name of the first G.711 variant on the offer's audio line (RFC 4566 section 5.14)."""
    if not sdp.strip():
        return "PCMU"
    for line in sdp.splitlines():
        if line.startswith("m=audio "):
            for payload_type in line.split()[3:]:
                if payload_type in _G711_BY_PAYLOAD_TYPE:
                    return _G711_BY_PAYLOAD_TYPE[payload_type]
    raise PeerError("no PCMU or PCMA in the offer", sip_status=488)


def user_part(address: str) -> str:
    """Returns whom the first address of a header, or a bare URI, names: user part or telephone number, else empty.

    Escapes are decoded; a password, and parameters such as those of `+4930123;ext=1` (RFC 3966), are left out.
    """
    before, bracket, after = _QUOTED.sub("", address).partition("<")
    bare = not bracket or "," in before
    uri = before.partition(",")[0].strip() if bare else after.partition(">")[0]
    scheme, _, rest = uri.partition(":")
    match scheme.strip().lower():
        case "sip" | "sips":
            user, at, _ = rest.partition("@")
            number = user.partition(";")[0].partition(":")[0] if at else ""
        case "tel":
            number = rest.partition(";")[0]
        case _:
            number = ""
    # Decoded last: an escaped semicolon belongs to the name. A line break in it would be one in somebody's header.
    return "".join(filter(str.isprintable, unquote(number).strip()))[:MAX_USER_CHARS]


def _caller(headers: Mapping[str, str]) -> str:
    privacy = {value.strip().lower() for value in headers.get("privacy", "").split(";")}
    if privacy & _HIDDEN:
        return ""
    caller = user_part(headers.get("p-asserted-identity", "")) or user_part(headers.get("from", ""))
    return "" if caller.lower() == "anonymous" else caller


def _target(request_line: str) -> str:
    return next(iter(request_line.split()[1:]), "")


def _kept(headers: Mapping[str, str]) -> Mapping[str, str]:
    kept = ((name, value[:MAX_HEADER_CHARS]) for name, value in headers.items() if name != HEADER.lower())
    return MappingProxyType(dict(islice(kept, MAX_HEADERS)))


def _headers(head: str) -> tuple[str, dict[str, str]]:
    unfolded = head.replace("\r\n ", " ").replace("\r\n\t", " ")
    request_line, *lines = unfolded.split("\r\n")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        name = name.strip().lower()
        headers.setdefault(_COMPACT.get(name, name), value.strip())
    return request_line, headers


def _tag(address: str) -> str:
    """Returns the tag behind an address; what stands in a quoted display name or inside <> is none."""
    unquoted = _QUOTED.sub("", address)
    return _parameter(unquoted.rpartition(">")[2] if ">" in unquoted else unquoted, "tag")


def _parameter(text: str, name: str) -> str:
    for part in text.split(";")[1:]:
        key, _, value = part.partition("=")
        if key.strip().lower() == name:
            return value.split(">")[0].split()[0].strip('"') if value.strip() else ""
    return ""
