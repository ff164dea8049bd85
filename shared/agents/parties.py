"""Who calls whom, and what else an INVITE says, taken from its Request-URI and headers.

Dispatcher and worker ask the same questions here, so that both choose the same agent. It splits no message: headers
come in by their long names in lower case, the first value of each, unfolded. Nothing is logged.
"""

import re
from collections.abc import Mapping
from itertools import islice
from types import MappingProxyType
from urllib.parse import unquote

from shared.token import HEADER

MAX_HEADERS = 64
MAX_HEADER_CHARS = 1024
MAX_USER_CHARS = 128
"""What of an INVITE is kept for the length of its call."""

_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')

_HIDDEN = frozenset(("id", "user", "header"))
"""Privacy values that ask for the caller not to be named (RFC 3323 section 4.2, RFC 3325 section 9.3)."""

_LEASE = HEADER.lower()


def caller(headers: Mapping[str, str]) -> str:
    """Returns the user part of P-Asserted-Identity (RFC 3325), which the SBC vouches for, else of From.

    Empty when it is not known or not to be known: anonymous, or with a Privacy that says so.
    """
    privacy = {value.strip().lower() for value in headers.get("privacy", "").split(";")}
    if privacy & _HIDDEN:
        return ""
    name = user_part(headers.get("p-asserted-identity", "")) or user_part(headers.get("from", ""))
    return "" if name.lower() == "anonymous" else name


def called(target: str, headers: Mapping[str, str]) -> str:
    """Returns the user part of the Request-URI `target`, of which a dispatcher changes the host only; else of To.

    To alone would be what was dialled before any diversion.
    """
    return user_part(target) or user_part(headers.get("to", ""))


def kept(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Returns the headers without the lease: MAX_HEADERS of them, values cut after MAX_HEADER_CHARS."""
    bounded = ((name, value[:MAX_HEADER_CHARS]) for name, value in headers.items() if name != _LEASE)
    return MappingProxyType(dict(islice(bounded, MAX_HEADERS)))


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
