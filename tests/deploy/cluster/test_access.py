"""What the pods of a release may do at the API server, with the tokens that they have."""

import json
from typing import Any

import pytest

from tests.deploy.cluster.kubectl import Command, Refused
from tests.deploy.cluster.pods import own_pod
from tests.deploy.cluster.release import NAME, Release
from worker.kubernetes import DELETION_COST, TELEMETRY_PORT

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

GROUP = "authorization.k8s.io/v1"

PATCH_PODS = {"verbs": ["patch"], "apiGroups": [""], "resources": ["pods"]}


def test_a_worker_pod_annotates_itself_and_may_do_nothing_else(restricted: Release) -> None:
    restricted.apply({})
    name, neighbour = restricted.pods("worker")
    own = own_pod(restricted, name)
    assert own.annotate({DELETION_COST: "7", TELEMETRY_PORT: "9464"}) == ""
    annotations = restricted.get("pod", name)["metadata"]["annotations"]
    assert annotations[DELETION_COST] == "7" and annotations[TELEMETRY_PORT] == "9464"

    pod = restricted.plane.as_token((own.service_account / "token").read_text())
    assert _rights(pod, restricted.namespace) == [PATCH_PODS]
    assert _rights(pod, "default") == []
    for attempt in (
        ["get", "secrets"], ["get", "pods"], ["delete", "pod", neighbour], ["get", "configmaps"],
        ["scale", f"deployment/{NAME}-worker", "--replicas=0"], ["create", "token", "default"],
    ):  # fmt: skip
        with pytest.raises(Refused, match=r"(?i)forbidden"):
            pod("-n", restricted.namespace, *attempt)


def test_without_deletion_costs_a_worker_pod_may_do_nothing(restricted: Release) -> None:
    restricted.apply({"worker": {"podDeletionCost": False}})
    [name, _] = restricted.pods("worker")
    own = own_pod(restricted, name)
    assert own.annotate({DELETION_COST: "7"}).startswith("status 403")
    assert _rights(restricted.plane.as_token((own.service_account / "token").read_text()), restricted.namespace) == []


def test_no_other_pod_has_a_token(restricted: Release) -> None:
    restricted.apply({})
    for component in ("dispatcher", "admin", "redis", "simulator"):
        for pod in restricted.pods(component).values():
            projections = [volume.get("projected", {}) for volume in pod["spec"]["volumes"]]
            sources = [source for projection in projections for source in projection.get("sources", [])]
            assert not any("serviceAccountToken" in source for source in sources)


def _rights(who: Command, namespace: str) -> list[dict[str, Any]]:
    """What `who` may do in a namespace, beside what anyone may: asking what they may do."""
    review = {"kind": "SelfSubjectRulesReview", "apiVersion": GROUP, "spec": {"namespace": namespace}}
    answer = who("create", "--raw", f"/apis/{GROUP}/selfsubjectrulesreviews", "-f", "-", given=json.dumps(review))
    rules = json.loads(answer)["status"]["resourceRules"]
    own = ({"authorization.k8s.io"}, {"authentication.k8s.io"})
    return [rule for rule in rules if set(rule["apiGroups"]) not in own]
