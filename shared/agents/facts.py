"""What is known of a call when it comes in: an agent is chosen by it, and its texts may name it.

It parses no SIP: `dispatcher/sip/` and `worker/pjsip/` do, and `shared/agents/parties.py` says who is who.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class CallFacts:
    """One INVITE, as far as agents are concerned. All of it but `trunk` and `at` is what the caller's side claims."""

    caller: str
    """User part of P-Asserted-Identity or From; empty when unknown."""
    called: str
    """User part of the Request-URI or To; empty when unknown."""
    headers: Mapping[str, str]
    """Header fields by lower-case name, the first of each."""
    trunk: str
    """IP address the INVITE came from; empty when unknown."""
    at: datetime
    """When it came, with its time zone."""
