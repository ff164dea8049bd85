"""SDP of a load's calls: one audio stream, one codec, plain RTP or SRTP (RFC 4566, RFC 4568).

It negotiates nothing, and reads of an answer only where RTP goes and with which key; IPv4 addresses only.
"""

import base64
import re
from typing import Literal, NamedTuple


class Answer(NamedTuple):
    """What an SDP answer says about where and how to send RTP."""

    host: str
    port: int
    payload_type: int
    srtp_key: bytes | None
    """The answerer's master key and salt, 30 bytes; None for plain RTP."""


_PAYLOAD_TYPES = {"PCMU": 0, "PCMA": 8}
_SUITE = "AES_CM_128_HMAC_SHA1_80"
_CRYPTO = re.compile(rf"^a=crypto:\d+ {_SUITE} inline:([A-Za-z0-9+/=]+)", re.MULTILINE)


def offer(address: str, rtp_port: int, codec: Literal["PCMU", "PCMA"] = "PCMU", srtp_key: bytes | None = None) -> str:
    """Returns an SDP offer of one codec at 20 ms; with a key and salt of 30 bytes, of SRTP (RFC 4568)."""
    number = _PAYLOAD_TYPES[codec]
    crypto = [] if srtp_key is None else [f"a=crypto:1 {_SUITE} inline:{base64.b64encode(srtp_key).decode()}"]
    lines = [
        "v=0",
        f"o=- 1 1 IN IP4 {address}",
        "s=-",
        f"c=IN IP4 {address}",
        "t=0 0",
        f"m=audio {rtp_port} {'RTP/AVP' if srtp_key is None else 'RTP/SAVP'} {number}",
        f"a=rtpmap:{number} {codec}/8000",
        "a=ptime:20",
        "a=sendrecv",
        *crypto,
    ]
    return "".join(f"{line}\r\n" for line in lines)


def parse_answer(text: str) -> Answer:
    """Returns what the first audio stream of an SDP answer says; raises ValueError when there is none."""
    session, _, media = text.partition("m=audio ")
    media = media.partition("\nm=")[0]
    host = re.search(r"^c=IN IP4 (\S+)", media, re.MULTILINE) or re.search(r"^c=IN IP4 (\S+)", session, re.MULTILINE)
    stream = re.match(r"(\d+)\S* \S+ (\d+)", media)
    if not host or not stream or stream[1] == "0":
        raise ValueError("no audio stream in the answer")
    key = _CRYPTO.search(media)
    return Answer(host[1], int(stream[1]), int(stream[2]), base64.b64decode(key[1]) if key else None)
