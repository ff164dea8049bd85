"""One running pool that most acceptance tests share; tests that break theirs start their own."""

from collections.abc import Iterator

import pytest

from tests.acceptance.pool import Pool, running_pool


@pytest.fixture(scope="session")
def shared_pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """Two workers of twenty calls, G.711 to the model, SIP from one address only."""
    with running_pool(tmp_path_factory.mktemp("pool"), workers=2, SIP_ALLOWED_PEERS="127.0.0.1/32") as pool:
        yield pool


@pytest.fixture
def pool(shared_pool: Pool) -> Iterator[Pool]:
    """The shared pool; a test that leaves a lease behind fails."""
    yield shared_pool
    shared_pool.forget_faults()
    shared_pool.wait_until_idle()
