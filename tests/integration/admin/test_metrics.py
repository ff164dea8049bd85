"""The pool in metrics, scraped from the HTTP API over a real Redis."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from admin.api.tokens import Role, mint
from shared.ids import WorkerId
from shared.states import WorkerState
from shared.telemetry.catalogue import METRICS, prometheus_name
from tests.integration.admin.pool import NUMBER, ONE, OTHER, add_worker, fill
from tests.integration.admin.test_api import serving
from tests.redis_server import RedisServer

TOKEN, TOKEN_LINE = mint("prometheus", Role.READ)


class Scraped:
    """What a scrape has shown."""

    def __init__(self, text: str, content_type: str) -> None:
        self.text = text
        parse = openmetrics if "openmetrics" in content_type else text_string_to_metric_families
        samples = [sample for family in parse(text) for sample in family.samples]
        self.values = {(each.name, frozenset(each.labels.items())): each.value for each in samples}

    def of(self, name: str, **labels: str) -> float:
        """Returns the value of one series."""
        return self.values[f"voicepool_{name}", frozenset(labels.items())]

    def by_state(self, name: str) -> dict[str, float]:
        """Returns the values that are not 0, by state."""
        states = {dict(labels)["state"]: value for (each, labels), value in self.values.items() if each.endswith(name)}
        return {state: value for state, value in states.items() if value}


class Prometheus:
    """Asks as Prometheus does."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url, self._session = url, session

    async def status(self, token: str = TOKEN) -> int:
        """Returns the status of a scrape."""
        async with self._session.get(self._url, headers={"Authorization": f"Bearer {token}"}) as response:
            return response.status

    async def scrape(self, accept: str = "text/plain;version=0.0.4") -> Scraped:
        """Returns what a good scrape shows."""
        headers = {"Authorization": f"Bearer {TOKEN}", "Accept": accept}
        async with self._session.get(self._url, headers=headers) as response:
            assert response.status == 200
            return Scraped(await response.text(), response.headers["Content-Type"])


@pytest.fixture
async def prometheus(redis: Redis, redis_url: str, tmp_path: Path) -> AsyncIterator[Prometheus]:
    """An API over a pool with something of everything, and who scrapes it."""
    tokens = tmp_path / "tokens"
    tokens.write_text(f"{TOKEN_LINE}\n")
    await fill(redis)
    async with serving(redis_url, tokens=tokens) as api:
        yield Prometheus(f"{api.url}/metrics", api.session)


async def test_shows_calls_slots_and_who_is_there(prometheus: Prometheus, redis: Redis) -> None:
    await add_worker(redis, WorkerId("pod-c-0-4444"), state=WorkerState.DRAINING)
    scraped = await prometheus.scrape()
    assert scraped.of("pool_calls") == 4
    assert scraped.of("pool_slots") == 30
    assert scraped.of("pool_free_slots") == 16  # of the two that are ready and not late
    assert scraped.by_state("pool_workers") == {"ready": 2, "late": 1, "draining": 1}
    assert scraped.by_state("pool_dispatchers") == {"ready": 1}
    assert scraped.of("pool_workers", state="silent") == 0


async def test_shows_what_is_used_of_each_quota_and_limits_where_there_are_some(prometheus: Prometheus) -> None:
    scraped = await prometheus.scrape()
    assert (scraped.of("quota_used", resource="west", kind="sessions")) == 4
    assert (scraped.of("quota_limit", resource="west", kind="sessions")) == 50
    assert (scraped.of("quota_limit", resource="west", kind="connections")) == 600
    assert 0 < scraped.of("quota_used", resource="west", kind="connections") <= 600
    assert scraped.of("quota_used", resource="", kind="sessions") == 0
    assert not any(name.endswith("quota_limit") and ("resource", "") in labels for name, labels in scraped.values)


async def test_every_metric_is_in_the_catalogue_or_about_the_process_and_names_nobody(prometheus: Prometheus) -> None:
    scraped = await prometheus.scrape()
    known = {prometheus_name(metric): set(metric.attributes) for metric in METRICS.values()}
    for name, labels in scraped.values:
        assert name.startswith("process_") or {label for label, _ in labels} == known[name], name
    assert scraped.values[("process_resident_memory_bytes", frozenset())] > 0
    for private in (NUMBER, ONE, OTHER, "192.0.2.9", "aaaa"):
        assert private not in scraped.text


async def test_openmetrics_is_spoken_to_who_asks_for_it(prometheus: Prometheus) -> None:
    scraped = await prometheus.scrape("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5")
    assert scraped.text.endswith("# EOF\n")
    assert scraped.of("pool_calls") == 4


async def test_needs_a_token_of_any_role(prometheus: Prometheus) -> None:
    assert await prometheus.status("vp_wrong") == 401
    assert await prometheus.status() == 200


async def test_without_redis_there_are_no_figures(prometheus: Prometheus, redis_server: RedisServer) -> None:
    redis_server.stop()
    try:
        assert await prometheus.status() == 503
    finally:
        redis_server.restart()
