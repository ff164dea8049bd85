"""What the pool needs to know of an INVITE, taken from the message pjsip hands over as text.

It does not validate SIP: pjsip has parsed the message before. Nothing here is logged, numbers stay in the message.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from shared.agents import parties
from shared.errors import PeerError
from shared.ids import CallId, call_id_for
from shared.messages import Dialog
from shared.token import HEADER, URI_PARAMETER

_FOLD = re.compile(r"[ \t]*\r\n[ \t]+")
"""A header goes on in the next line (RFC 3261 section 7.3.1)."""

_G711_BY_PAYLOAD_TYPE = {"0": "PCMU", "8": "PCMA"}
"""Static RTP payload types (RFC 3551 section 6)."""

_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')

_VALUE = re.compile(r'(?:"(?:[^"\\]|\\.)*(?:"|$)|<[^>]*(?:>|$)|[^,"<])+')
"""One of several values of a header: commas in quotes and in <> separate none (RFC 3261 section 7.3)."""

_SENT_BY = re.compile(r"SIP\s*/\s*2\.0\s*/\s*\w+\s+(?P<host>\[[^\]]*\]|[^\s:;,]+)(?:\s*:\s*(?P<port>\d{1,5}))?")
"""What follows the protocol in a Via (RFC 3261 section 20.42)."""

SIP_PORT = 5060

_COMPACT = {
    "a": "accept-contact", "b": "referred-by", "c": "content-type", "d": "request-disposition",
    "e": "content-encoding", "f": "from", "i": "call-id", "j": "reject-contact", "k": "supported",
    "l": "content-length", "m": "contact", "o": "event", "r": "refer-to", "s": "subject", "t": "to",
    "u": "allow-events", "v": "via", "x": "session-expires", "y": "identity",
}  # fmt: skip
"""Compact forms of headers (RFC 3261 section 7.3.3 and the RFCs that came later)."""


@dataclass(frozen=True, slots=True)
class Invite:
    """An incoming INVITE."""

    call_id: CallId
    lease_token: str
    """Empty when the INVITE carries none."""
    codec: str
    """PCMU or PCMA: the first one offered, which pjsip will choose. PCMU when the offer comes with the ACK."""
    caller: str = field(repr=False)
    """As `parties.caller` has it."""
    called: str = field(repr=False)
    """As `parties.called` has it."""
    headers: Mapping[str, str] = field(repr=False)
    """Name in lower case and long form -> value of its first occurrence, as `parties.kept` has them."""
    dialog: Dialog = field(repr=False)
    """What the INVITE says of the dialog that an answer will make; `local` is still empty: see `answered`."""
    dispatcher: tuple[str, int] | None
    """Own address of the dispatcher that sent the INVITE on, from its topmost Via; None in redirect mode."""

    @property
    def bye_through(self) -> tuple[str, int] | None:
        """That address, if requests of ours in the dialog go to it too; None when they go to one that others share."""
        route = next(iter(self.dialog.routes), b"").decode("utf-8", "surrogateescape")
        named = re.search(r"sips?:(?:[^@>]*@)?(\[[^\]]*\]|[^:;>]+)(?::(\d{1,5}))?", route)
        return self.dispatcher if named and _address(named[1], named[2]) == self.dispatcher else None


def encoded(text: str) -> bytes:
    """Returns the bytes of a message, or of a part of it, that pjsua2 has handed over as text."""
    return text.encode("utf-8", "surrogateescape")


def answered(dialog: Dialog, response: bytes) -> Dialog:
    """Returns the dialog that this 2xx has made: its To, with our tag, is the From of our own requests."""
    _, headers = _headers(response.partition(b"\r\n\r\n")[0].decode("utf-8", "surrogateescape"))
    return replace(dialog, local=encoded(headers["to"][0]))


def parse(message: str) -> Invite:
    """Returns what the INVITE says; raises PeerError (400, 488) for one that cannot be served."""
    head, _, body = message.partition("\r\n\r\n")
    request_line, everything = _headers(head)
    headers = {name: values[0] for name, values in everything.items()}
    if "call-id" not in headers:
        raise PeerError("no Call-ID")
    lease = headers.get(HEADER.lower(), "")
    return Invite(
        call_id=call_id_for(headers["call-id"], _tag(headers.get("from", ""))),
        lease_token=lease or _parameter(request_line, URI_PARAMETER),
        codec=offered_codec(body),
        caller=parties.caller(headers),
        called=parties.called(_target(request_line), headers),
        headers=parties.kept(headers),
        dialog=Dialog(
            call_id=encoded(headers["call-id"]),
            local=b"",
            remote=encoded(headers.get("from", "")),
            target=encoded(_contact(headers.get("contact", ""))),
            routes=[encoded(value) for value in _split(everything.get("record-route", []))],
        ),
        dispatcher=_sent_by(headers.get("via", "")) if lease else None,
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


def _target(request_line: str) -> str:
    return next(iter(request_line.split()[1:]), "")


def _headers(head: str) -> tuple[str, dict[str, list[str]]]:
    """Returns the first line and, by name in lower case and long form, the values of all headers of that name."""
    first_line, *lines = _FOLD.sub(" ", head).split("\r\n")
    headers: dict[str, list[str]] = {}
    for line in lines:
        name, _, value = line.partition(":")
        name = name.strip().lower()
        headers.setdefault(_COMPACT.get(name, name), []).append(value.strip())
    return first_line, headers


def _split(headers: list[str]) -> list[str]:
    return [value.strip() for header in headers for value in _VALUE.findall(header) if value.strip()]


def _contact(header: str) -> str:
    """Returns the URI of the first Contact."""
    value = next(iter(_split([header])), "")
    bracketed = re.search(r"<([^>]*)>", _QUOTED.sub("", value))
    return bracketed[1].strip() if bracketed else value.partition(";")[0].strip()


def _sent_by(via: str) -> tuple[str, int] | None:
    found = _SENT_BY.match(via)
    return _address(found["host"], found["port"]) if found else None


def _address(host: str, port: str | None) -> tuple[str, int]:
    return host.strip("[]"), int(port or SIP_PORT)


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
