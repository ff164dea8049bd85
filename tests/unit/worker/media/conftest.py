"""A bridge whose clock is the test, for the media path's tests."""

from collections.abc import Iterator

import pytest

from tests.unit.worker.pjsip.bridge import Bridge, running_bridge


@pytest.fixture(scope="module")
def open_bridge() -> Iterator[Bridge]:
    """One endpoint for a module's tests."""
    with running_bridge(8000) as bridge:
        yield bridge


@pytest.fixture
def bridge(open_bridge: Bridge) -> Iterator[Bridge]:
    """A bridge without ports."""
    yield open_bridge
    open_bridge.clear()
