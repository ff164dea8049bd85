"""What the NetworkPolicies let through, held against a list of flows that was written down from what the pool does.

The policies are evaluated here as Kubernetes describes them; no network enforces them.
"""

from ipaddress import ip_address, ip_network
from typing import Any, NamedTuple

import pytest

from tests.deploy.helm.chart import NAMESPACE, RELEASE, Object, objects, pods


class Peer(NamedTuple):
    """One end of a flow: a pod of the release by its part, a pod of somebody else, or an address beyond the cluster."""

    pod: str = ""
    namespace: str = NAMESPACE
    address: str = ""


SBC, CALLER, NODE = Peer(address="192.168.7.7"), Peer(address="203.0.113.9"), Peer(address="10.1.0.4")
AZURE, API_SERVER, REDIS = Peer(address="20.50.1.2"), Peer(address="10.96.0.1"), Peer(address="100.64.0.6")
DISPATCHER, WORKER, ADMIN, WEBHOOKS = Peer("dispatcher"), Peer("worker"), Peer("admin"), Peer("webhooks")
TRIAL_REDIS, SIMULATOR, PHONE = Peer("redis"), Peer("simulator"), Peer("test-call")
PROMETHEUS, KEDA = Peer("prometheus", "monitoring"), Peer("keda-operator", "keda")
COLLECTOR, DNS, NEIGHBOUR = Peer("collector", "observability"), Peer("dns", "kube-system"), Peer("neighbour")

TRIAL: dict[str, Any] = {"worker": {"processes": 2, "capacity": 10}}
"""SIP at workers: 5080 and 5081; RTP from 16384 on: 2 processes, 10 calls, 6 ports."""
LAST_RTP = 16384 + 2 * 10 * 6 - 1
PRODUCTION: dict[str, Any] = {
    **TRIAL,
    "redis": {"trial": {"enabled": False}, "url": "rediss://redis.example:6380"},
    "voiceLive": {"endpoint": "https://example.org", "apiKey": "key"},
    "simulator": {"enabled": False},
    "sip": {"tls": {"enabled": True, "secretName": "tls"}},
    "webhooks": {"enabled": True, "url": "https://events.example", "existingSecret": "webhooks"},
    "monitoring": {"otlpEndpoint": "http://collector.observability:4318"},
}

Flow = tuple[Peer, Peer, str, int]

NEEDED: dict[str, tuple[dict[str, Any], list[Flow]]] = {
    "SIP": (TRIAL, [
        (SBC, DISPATCHER, "UDP", 5060), (SBC, DISPATCHER, "TCP", 5060), (DISPATCHER, SBC, "UDP", 5060),
        (DISPATCHER, SBC, "TCP", 40123), (DISPATCHER, WORKER, "UDP", 5080), (DISPATCHER, WORKER, "UDP", 5081),
        (WORKER, DISPATCHER, "UDP", 5060), (PHONE, DISPATCHER, "UDP", 5060),
    ]),
    "SIP by TLS": (PRODUCTION, [(SBC, DISPATCHER, "TCP", 5061)]),
    "SIP by redirect": ({**TRIAL, "sip": {"mode": "redirect"}}, [(SBC, WORKER, "UDP", 5080)]),
    "SIP from and to nodes": ({**TRIAL, "dispatcher": {"hostNetwork": True}}, [
        (NODE, WORKER, "UDP", 5080), (WORKER, NODE, "UDP", 5060), (NODE, TRIAL_REDIS, "TCP", 6379),
    ]),
    "workers on nodes": ({**TRIAL, "network": {"mode": "host"}}, [
        (NODE, DISPATCHER, "UDP", 5060), (DISPATCHER, NODE, "UDP", 5080), (NODE, TRIAL_REDIS, "TCP", 6379),
        (NODE, SIMULATOR, "TCP", 8765), (NODE, PHONE, "UDP", 20000), (PHONE, NODE, "UDP", 16384),
    ]),
    "RTP": (TRIAL, [
        (CALLER, WORKER, "UDP", 16384), (CALLER, WORKER, "UDP", LAST_RTP), (WORKER, CALLER, "UDP", 1024),
        (WORKER, CALLER, "UDP", 65535), (PHONE, WORKER, "UDP", 16390), (WORKER, PHONE, "UDP", 30000),
    ]),
    "a trial's Redis and Voice Live": (TRIAL, [
        *((each, TRIAL_REDIS, "TCP", 6379) for each in (DISPATCHER, WORKER, ADMIN)), (WORKER, SIMULATOR, "TCP", 8765),
    ]),
    "what is beyond the cluster": (PRODUCTION, [
        *((each, REDIS, "TCP", 6380) for each in (DISPATCHER, WORKER, ADMIN, WEBHOOKS)), (WORKER, AZURE, "TCP", 443),
        (WORKER, API_SERVER, "TCP", 443), (WEBHOOKS, AZURE, "TCP", 443),
    ]),
    "names": (PRODUCTION, [
        (each, DNS, protocol, 53) for each in (DISPATCHER, WORKER, ADMIN, WEBHOOKS) for protocol in ("UDP", "TCP")
    ]),
    "figures": (PRODUCTION, [
        (PROMETHEUS, DISPATCHER, "TCP", 9464), (PROMETHEUS, WORKER, "TCP", 9464), (PROMETHEUS, ADMIN, "TCP", 8080),
        (KEDA, ADMIN, "TCP", 8080), (DISPATCHER, COLLECTOR, "TCP", 4318), (WORKER, COLLECTOR, "TCP", 4318),
    ]),
}  # fmt: skip

REFUSED: list[tuple[dict[str, Any], Flow]] = [
    (TRIAL, (CALLER, DISPATCHER, "UDP", 5060)),  # not one of sip.allowedPeers
    *((TRIAL, (SBC, WORKER, "UDP", port)) for port in (5080, 16383, LAST_RTP + 1, 9464)),
    *((TRIAL, (SBC, each, "TCP", port)) for each, port in ((ADMIN, 8080), (WORKER, 9464), (TRIAL_REDIS, 6379))),
    *((TRIAL, (NEIGHBOUR, each, "TCP", port)) for each, port in ((TRIAL_REDIS, 6379), (SIMULATOR, 8765))),
    (TRIAL, (NEIGHBOUR, WORKER, "UDP", 5080)),
    *((PRODUCTION, (each, AZURE, "TCP", 443)) for each in (DISPATCHER, ADMIN)),
    *((TRIAL, (each, AZURE, "TCP", 443)) for each in (TRIAL_REDIS, SIMULATOR, PHONE)),
    (PRODUCTION, (WORKER, AZURE, "TCP", 25)),
    (PRODUCTION, (PROMETHEUS, WEBHOOKS, "TCP", 8080)),
    (TRIAL, (ADMIN, WORKER, "UDP", 5080)),
]


@pytest.mark.parametrize(("values", "flows"), NEEDED.values(), ids=NEEDED)
def test_what_the_pool_needs_gets_through(values: dict[str, Any], flows: list[Flow]) -> None:
    network = Network(values)
    assert [flow for flow in flows if not network.passes(flow)] == []


@pytest.mark.parametrize(("values", "flow"), REFUSED, ids=[str(flow) for _, flow in REFUSED])
def test_what_nobody_needs_does_not(values: dict[str, Any], flow: Flow) -> None:
    assert not Network(values).passes(flow)


class Network:
    """What a release's policies come to."""

    def __init__(self, values: dict[str, Any]) -> None:
        found = objects(values)
        self._policies: list[Object] = [item["spec"] for item in found if item["kind"] == "NetworkPolicy"]
        self._pods = {Peer(name.removeprefix(f"{RELEASE}-")): template for name, template in pods(found)}

    def passes(self, flow: Flow) -> bool:
        """Whether both ends let it through: what it comes from, and what it goes to."""
        source, target, *_ = flow
        return self._end("Egress", "to", source, target, flow) and self._end("Ingress", "from", target, source, flow)

    def _end(self, direction: str, side: str, own: Peer, other: Peer, flow: Flow) -> bool:
        mine = [spec for spec in self._policies if own in self._pods and self._selects(spec["podSelector"], own)]
        mine = [spec for spec in mine if direction in spec["policyTypes"]]
        rules = [rule for spec in mine for rule in spec.get(direction.lower()) or []]
        return not mine or any(
            any(self._is(peer, other) for peer in rule.get(side, [{}]))
            and any(self._covers(port, flow) for port in rule.get("ports", [{}]))
            for rule in rules
        )

    def _selects(self, selector: Object, peer: Peer) -> bool:
        labels = self._pods[peer]["metadata"]["labels"] if peer in self._pods else {}
        return bool(selector.get("matchLabels", {}).items() <= labels.items())

    def _is(self, rule: Object, peer: Peer) -> bool:
        if "ipBlock" in rule:  # networks differ in whether a pod's address counts here, so it does not
            return bool(peer.address) and ip_address(peer.address) in ip_network(rule["ipBlock"]["cidr"])
        if rule and (peer.address or not ("namespaceSelector" in rule or peer.namespace == NAMESPACE)):
            return False
        return self._selects(rule.get("podSelector", {}), peer)

    def _covers(self, rule: Object, flow: Flow) -> bool:
        _, target, protocol, port = flow
        first: Any = rule.get("port", port)
        if isinstance(first, str):  # the name of a port of the target's container
            declared = self._pods[target]["spec"]["containers"][0]["ports"] if target in self._pods else []
            first = next((each["containerPort"] for each in declared if each["name"] == first), 0)
        last: Any = rule.get("endPort", first)
        return not rule or (rule.get("protocol", "TCP") == protocol and bool(first <= port <= last))
