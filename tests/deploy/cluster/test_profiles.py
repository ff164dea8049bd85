"""The examples in helm/profiles, to the last field, before an API server that knows all kinds they use."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.cluster.plane import Plane
from tests.deploy.cluster.release import CHART, NAME, Release

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

PROFILES = sorted((CHART.parent / "profiles").glob("*.yaml"))

NODE_NETWORK = ("host namespaces", "hostPort")
"""What alone a pod with its node's network may be warned of, in a namespace for pods without."""


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.stem)
def test_the_api_server_takes_every_object_of_a_profile(profile: Path, plane: Plane, restricted: Release) -> None:
    space = ("--namespace", restricted.namespace)
    rendered = plane.helm("template", NAME, CHART, *space, "--values", profile, "--validate")
    strictly = ("apply", "--dry-run=server", "--validate=strict", *space, "-f", "-")
    warnings = plane.kubectl.warnings(*strictly, given=rendered)
    assert [warning for warning in warnings if not _is_of_the_node_network(warning)] == []
    if not any(_has_node_network(each) for each in yaml.safe_load_all(rendered)):
        assert warnings == []


def test_there_are_profiles() -> None:
    assert PROFILES


def _is_of_the_node_network(warning: str) -> bool:
    """Whether Pod Security complains of nothing else: 'would violate ...: name (detail), name (detail)'."""
    if not warning.startswith("would violate PodSecurity"):
        return False
    complaints = [part.split(" (")[0] for part in warning.split(": ", 1)[1].split("), ")]
    return all(complaint in NODE_NETWORK for complaint in complaints)


def _has_node_network(each: Any) -> bool:
    return bool(each) and each["kind"] == "Deployment" and bool(each["spec"]["template"]["spec"].get("hostNetwork"))
