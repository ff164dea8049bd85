"""What a new call asks of the pool: the agent file as a dispatcher reads it, applied to an INVITE.

It reads no secret and nothing of how an agent talks (`shared/agents/demands.py`), and places no call.
"""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from dispatcher.sip.message import Request
from shared.agents import demands, parties
from shared.agents.book import Book
from shared.agents.demands import Demands, Roster
from shared.agents.facts import CallFacts
from shared.settings import PoolSettings


class AgentDirectory(Book[Roster]):
    """Which agent answers a call and what it asks for, as the worker will choose it from the same file."""

    def __init__(self, settings: PoolSettings) -> None:
        super().__init__(settings)
        self._quota = demands.quota_in(settings)

    def demands(self, request: Request, source: str) -> Demands:
        """Returns what the call of this INVITE asks for; `source` is the IP address it came from."""
        roster = self.current
        always = roster.routing.always
        return roster.choose(facts_of(request, source)) if always is None else roster.agents[always]

    async def _without_file(self) -> Roster:
        return demands.from_settings(self._quota)

    async def _from_file(self, content: bytes, path: Path) -> Roster:
        return await asyncio.to_thread(demands.parse, content, path, self._quota)


def facts_of(request: Request, source: str) -> CallFacts:
    """Returns what is known of the call of an INVITE that came from the IP address `source`."""
    headers = {_text(name): _text(value).strip() for name, value in request.first.items()}
    return CallFacts(
        caller=parties.caller(headers),
        called=parties.called(_text(request.target), headers),
        headers=parties.kept(headers),
        trunk=source,
        at=datetime.now(UTC),
    )


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")  # as pjsua2 has it, so that globs fit the same on both sides
