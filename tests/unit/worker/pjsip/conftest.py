"""Fixtures of the native audio port's tests."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.worker.pjsip.bridge import Bridge, running_bridge

# build.py and its modules are scripts beside each other, no package.
sys.path.append(str(Path(__file__).parents[4] / "worker/pjsip/native"))


@pytest.fixture(scope="module")
def open_bridge(request: pytest.FixtureRequest) -> Iterator[Bridge]:
    """One endpoint for a module's tests, at 8000 Hz or as parametrized; gone before the next module's."""
    with running_bridge(getattr(request, "param", 8000)) as bridge:
        yield bridge


@pytest.fixture
def bridge(open_bridge: Bridge) -> Iterator[Bridge]:
    """A bridge without ports."""
    yield open_bridge
    open_bridge.clear()


@pytest.fixture
def eager_threads() -> Iterator[None]:
    """Python's threads take turns every 20 us instead of 5 ms: a clock in another thread starts and ends at once."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(2e-5)
    yield
    sys.setswitchinterval(usual)
