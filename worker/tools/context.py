"""What a tool is told about the call it runs for, and the error by which it says to the model what went wrong.

It runs nothing. Python tools of other packages import it: `from worker.tools.context import ToolContext, ToolError`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.agents.facts import CallFacts


@dataclass(frozen=True, slots=True)
class ToolContext:
    """The call a tool runs for."""

    call_id: str
    facts: CallFacts
    """Who called whom, with the INVITE's headers."""
    digits: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Sensitive digits the caller typed, by the placeholder the model knows. A tool's arguments have them already."""
    trace_id: str = ""
    """Trace that the call belongs to, 32 hex digits, for log lines; empty without one."""


class ToolError(Exception):
    """Something the model can do something about: the message is for it, and says what."""
