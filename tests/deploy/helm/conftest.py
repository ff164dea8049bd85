"""Fixtures of the chart's tests."""

import pytest

from tests.deploy.helm.chart import MATRIX, Object, objects, values_of


@pytest.fixture(params=MATRIX, scope="session")
def found(request: pytest.FixtureRequest) -> list[Object]:
    """The objects of all values in turn."""
    return objects(values_of(request.param))
