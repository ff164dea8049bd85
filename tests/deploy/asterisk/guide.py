"""The configuration in docs/asterisk.md, with a test's addresses in place of the guide's: nothing else is changed."""

import re
from collections.abc import Sequence

from tests.acceptance.process import ROOT

GUIDE = ROOT / "docs/asterisk.md"

ADDRESSES = ("192.0.2.10", "192.0.2.11", "192.0.2.5")
"""Two dispatchers and Asterisk, as the guide has them."""

KEYS = "/etc/asterisk/keys/"
"""Where the guide has certificates."""

_BLOCK = re.compile(r"^```ini\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def block(section: str, addresses: Sequence[str]) -> str:
    """Returns the one file of the guide that has this section, for these addresses, in the order of ADDRESSES."""
    [found] = [text for text in _BLOCK.findall(GUIDE.read_text()) if f"[{section}]" in text.splitlines()]
    places = dict(zip(ADDRESSES, addresses, strict=True))
    return re.sub(r"192\.0\.2\.\d+", lambda place: places[place[0]], found)


def over_tls(trunk: str, transport: str, keys: str) -> str:
    """Returns the trunk as the guide's table changes it for TLS and SRTP; `keys` is the directory of certificates."""
    trunk = trunk.replace(":5060\n", ":5061\\;transport=tls\n").replace("= transport-udp\n", "= transport-tls\n")
    trunk = trunk.replace("direct_media = no\n", "direct_media = no\nmedia_encryption = sdes\n")
    assert trunk.count("tls") == 3 and "sdes" in trunk, trunk
    return trunk + transport.replace(KEYS, keys)
