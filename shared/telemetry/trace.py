"""Traces as plain values: the W3C trace context that travels with a call, and a finished span.

A worker may import it at no cost; it exports nothing (`shared/telemetry/export.py` does) and reads no clock.
"""

import re
import secrets
from dataclasses import dataclass, field
from typing import Self

Value = str | int | float | bool

HEADER = "Traceparent"
"""Name of the SIP header that carries the context; in HTTP it is `traceparent`."""

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_SAMPLED = 0x01


@dataclass(frozen=True, slots=True)
class TraceContext:
    """Where a span belongs: its trace, and its own id, which is the parent of what it causes.

    W3C Trace Context section 3.2 (https://www.w3.org/TR/trace-context/#traceparent-header).
    """

    trace_id: str
    """32 hex digits."""
    span_id: str
    """16 hex digits."""
    sampled: bool
    """Whether its spans are to be kept."""

    @classmethod
    def parse(cls, value: str) -> Self | None:
        """Returns the context that a traceparent says; None when it is not valid, and then a new trace is begun."""
        match = _TRACEPARENT.fullmatch(value.strip())
        if match is None:
            return None
        version, trace_id, span_id, flags, more = match.groups()
        # A later version may have more fields behind these four; version 00 has not, and ff is forbidden.
        if version == "ff" or (version == "00" and more) or not int(trace_id, 16) or not int(span_id, 16):
            return None
        return cls(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))

    def child(self) -> Self:
        """Returns the context of a new span in the same trace, of which this one is the parent."""
        return type(self)(self.trace_id, _new_span_id(), self.sampled)

    def __str__(self) -> str:
        """The traceparent, as it stands in a header."""
        return f"00-{self.trace_id}-{self.span_id}-{_SAMPLED if self.sampled else 0:02x}"


@dataclass(frozen=True, slots=True)
class Span:
    """One thing that was done, once it is over. Attributes have no numbers, URIs or texts of a call in them."""

    context: TraceContext
    parent_id: str
    """Span id of the parent; empty for the first of a trace."""
    name: str
    start_ns: int
    """Unix time in ns; likewise the end."""
    end_ns: int
    attributes: dict[str, Value] = field(default_factory=dict)
    failed: bool = False
    kind: str = "internal"
    """`server` for the one that a request from outside began, `client` for one that waits for somebody else."""


def _new_span_id() -> str:
    return f"{secrets.randbits(64) or 1:016x}"  # all 0 is no id
