"""What of the agent file concerns the whole pool: who answers which call, and what agents ask for.

Dispatchers read this much (`shared/agents/demands.py`); the rest is in `shared/agents/model.py`.
"""

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from shared.agents.labels import InheritedLabels
from shared.agents.parts import Name, OneOrMany, Part
from shared.agents.routes import Route


def _different(names: tuple[str, ...]) -> tuple[str, ...]:
    if len({*names}) < len(names):
        raise ValueError("has a name twice")
    return names


Limit = Annotated[int, Field(ge=1)]


class Quota(Part):
    """How much of a Voice Live resource the pool may use, all workers together. What is not given has no limit."""

    connections_per_minute: Limit | None = None
    """New sessions in any minute."""
    sessions: Limit | None = None
    """Sessions at once."""
    tokens_per_minute: Limit | None = None
    """Tokens in any minute, input and output."""


class Asks(Part):
    """What an agent asks of the pool."""

    resource: Annotated[
        tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{0,64}$")], ...], OneOrMany(), AfterValidator(_different)
    ] = ("",)
    """Which of `resources` its sessions are opened at, the preferred one first; empty is the one of
    AZURE_VOICELIVE_ENDPOINT."""
    labels: InheritedLabels = Field(default_factory=dict)
    """What a worker must have all of (WORKER_LABELS) to get its calls."""
    priority: int = Field(default=5, ge=0, le=9)
    """When callers wait for a resource, 9 is served first."""


class Outline(Part):
    """The agent file, as far as it says who answers."""

    agents: dict[Name, dict[str, Any]] = Field(min_length=1)
    """Who answers, by name."""
    routes: tuple[Route, ...] = ()
    """Who answers which call; the first that fits."""
    default: Name | None = None
    """Who answers calls that no route fits; needed unless there is one agent only."""
    defaults: dict[str, Any] = Field(default_factory=dict)
    """What all agents have in common, unless they say otherwise; the keys are those of an agent."""
