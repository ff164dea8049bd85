"""The control plane refuses what is wrong: without this, that it takes the chart would say nothing."""

import pytest
import yaml

from tests.deploy.cluster.kubectl import Refused
from tests.deploy.cluster.plane import Plane
from tests.deploy.cluster.release import Release

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

STRICTLY = ("apply", "--dry-run=server", "--validate=strict", "-f", "-")

ROOTED = {"containers": [{"name": "it", "image": "it"}]}
"""Of a pod: nothing says that it is not root."""


def test_a_field_that_a_kind_of_others_does_not_have_is_refused(plane: Plane) -> None:
    scaler = {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": "misspelled", "namespace": "default"},
        "spec": {"scaleTargetRef": {"name": "worker"}, "triggers": [], "minReplicasCount": 2},
    }
    with pytest.raises(Refused, match=r"unknown field \"spec\.minReplicasCount\""):
        plane.kubectl(*STRICTLY, given=yaml.safe_dump(scaler))


def test_a_pod_that_may_become_root_is_refused(restricted: Release) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "rooted"}, "spec": ROOTED}
    with pytest.raises(Refused, match=r"violates PodSecurity \"restricted"):
        restricted.kubectl(*STRICTLY, given=yaml.safe_dump(pod))


def test_a_deployment_of_such_pods_is_warned_of(restricted: Release) -> None:
    template = {"metadata": {"labels": {"app": "rooted"}}, "spec": ROOTED}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "rooted"},
        "spec": {"selector": {"matchLabels": {"app": "rooted"}}, "template": template},
    }
    [warning] = restricted.plane.kubectl.warnings(
        "-n", restricted.namespace, *STRICTLY, given=yaml.safe_dump(deployment)
    )
    assert warning.startswith("would violate PodSecurity")
