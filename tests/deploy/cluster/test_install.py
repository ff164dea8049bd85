"""The chart on a real API server: installed, tested, upgraded, removed. What the pods would do is not shown here."""

from typing import Any

import pytest

from tests.deploy.cluster.plane import NODES
from tests.deploy.cluster.release import NAME, Release

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

AGENTS = 'agents: {reception: {greeting: "Good day."}}\ndefault: reception\n'
OTHER_AGENTS = 'agents: {reception: {greeting: "Good evening."}}\ndefault: reception\n'

LONG_CALL_S = 3600


def test_the_defaults_install_and_pass_their_test_in_a_restricted_namespace(restricted: Release) -> None:
    restricted.apply({})
    running = {part: len(restricted.pods(part)) for part in ("dispatcher", "worker", "admin", "redis", "simulator")}
    assert running == {"dispatcher": 2, "worker": 2, "admin": 1, "redis": 1, "simulator": 1}
    assert "Phase:          Succeeded" in restricted.test()
    assert restricted.warnings().strip() == ""


def test_new_agents_restart_nobody_and_new_settings_only_those_they_are_for(restricted: Release) -> None:
    restricted.apply({"agents": {"file": AGENTS}})
    before, secrets = _uids(restricted), _secrets(restricted)

    restricted.apply({"agents": {"file": OTHER_AGENTS}})
    assert _uids(restricted) == before
    maps = [each["data"] for each in restricted.get("configmap")["items"]]
    assert OTHER_AGENTS in [text for data in maps for text in data.values()]

    restricted.apply({"agents": {"file": OTHER_AGENTS}, "worker": {"settings": {"VOICE_LIVE_MODEL": "gpt-4.1"}}})
    after = _uids(restricted)
    assert not after["worker"] & before["worker"] and len(after["worker"]) == 2
    assert after["dispatcher"] == before["dispatcher"] and after["admin"] == before["admin"]
    assert _secrets(restricted) == secrets  # calls that began before the upgrade have leases signed with it


def test_a_removed_release_leaves_nothing_behind(restricted: Release) -> None:
    restricted.apply({"agents": {"file": AGENTS}})
    restricted.uninstall()
    kinds = "deployment,pod,service,configmap,secret,role,rolebinding,serviceaccount,networkpolicy,pdb,hpa"
    left = [each["metadata"]["name"] for each in restricted.get(kinds)["items"]]
    assert [name for name in left if name not in ("kube-root-ca.crt", "default")] == []


def test_the_parts_are_spread_over_nodes_and_taken_from_them_one_at_a_time(restricted: Release) -> None:
    restricted.apply({"worker": {"replicas": len(NODES)}})
    assert len(_nodes(restricted, "worker")) == len(NODES)
    assert len(_nodes(restricted, "dispatcher")) == 2
    budgets = {each["metadata"]["name"]: each["status"] for each in restricted.get("pdb")["items"]}
    assert {name: status["disruptionsAllowed"] for name, status in budgets.items()} == {
        f"{NAME}-dispatcher": 1,
        f"{NAME}-worker": 1,
    }


def test_turning_autoscaling_on_takes_no_pod_away(restricted: Release) -> None:
    restricted.apply({"worker": {"replicas": 4}})
    before = _uids(restricted)["worker"]
    restricted.apply({"autoscaling": {"type": "hpa", "minReplicas": 4}})
    assert _uids(restricted)["worker"] == before


def test_a_worker_has_time_for_its_longest_call_and_is_not_moved_for_economy(restricted: Release) -> None:
    restricted.apply({"worker": {"drainSeconds": LONG_CALL_S}})
    for pod in restricted.pods("worker").values():
        assert pod["spec"]["terminationGracePeriodSeconds"] >= LONG_CALL_S
        assert pod["metadata"]["annotations"]["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"


def test_in_host_mode_pods_share_a_node(privileged: Release) -> None:
    privileged.apply({"network": {"mode": "host"}, "worker": {"replicas": len(NODES) + 1}})
    pods = privileged.pods("worker")
    assert len(pods) == len(NODES) + 1
    assert all(pod["spec"]["hostNetwork"] for pod in pods.values())
    assert len(_nodes(privileged, "worker")) == len(NODES)


def _uids(release: Release) -> dict[str, set[str]]:
    parts = ("dispatcher", "worker", "admin")
    return {part: {pod["metadata"]["uid"] for pod in release.pods(part).values()} for part in parts}


def _secrets(release: Release) -> dict[str, Any]:
    """What the chart's own Secrets hold; Helm's record of the release is another type."""
    found = release.get("secret", "--field-selector=type=Opaque")["items"]
    assert found
    return {each["metadata"]["name"]: each["data"] for each in found}


def _nodes(release: Release, component: str) -> set[str]:
    return {pod["spec"]["nodeName"] for pod in release.pods(component).values()}
