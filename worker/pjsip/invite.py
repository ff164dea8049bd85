"""What the pool needs to know of an INVITE, taken from the message pjsip hands over as text.

It does not validate SIP: pjsip has parsed the message before. Nothing here is logged, numbers stay in the message.
"""

import re
from dataclasses import dataclass

from shared.errors import PeerError
from shared.ids import CallId, call_id_for
from shared.token import HEADER, URI_PARAMETER

_G711_BY_PAYLOAD_TYPE = {"0": "PCMU", "8": "PCMA"}
"""Static RTP payload types (RFC 3551 section 6)."""

_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')

_COMPACT = {"i": "call-id", "f": "from"}
"""Compact forms of the headers read here (RFC 3261 section 7.3.3)."""


@dataclass(frozen=True, slots=True)
class Invite:
    """An incoming INVITE."""

    call_id: CallId
    lease_token: str
    """Empty when the INVITE carries none."""
    codec: str
    """PCMU or PCMA: the first one offered, which pjsip will choose. PCMU when the offer comes with the ACK."""


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
