"""The objects that come of the profiles: valid for Kubernetes, safe, agreeing with each other and with the settings."""

import functools
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from admin.api.settings import AdminSettings
from admin.webhooks.settings import WebhookSettings
from shared.settings import DispatcherSettings, RedisSettings, WorkerSettings, load
from shared.telemetry.catalogue import METRICS, prometheus_name
from tests.deploy.helm.chart import (
    CHART,
    GENERATED,
    GOLDEN,
    MATRIX,
    NAMESPACE,
    PROFILES,
    RELEASE,
    Object,
    environment,
    objects,
    objects_in,
    one,
    pods,
    rendered,
    values_of,
)
from tests.deploy.helm.schemas import SCHEMAS
from worker.kubernetes import TELEMETRY_PORT

OLDEST, NEWEST = "1.29", kubernetes_validate.latest_version()

READERS: dict[str, type[RedisSettings]] = {
    "dispatcher": DispatcherSettings,
    "worker": WorkerSettings,
    "admin": AdminSettings,
    "webhooks": WebhookSettings,
}
"""Who reads the environment of which part."""

OTHERS_READ = re.compile(r"OTEL_\w+|REDISCLI_AUTH")
"""Variables that are none of ours: of OpenTelemetry's SDK, and of redis-cli."""


@pytest.fixture(scope="module", autouse=True)
def schemas_read_once() -> Iterator[None]:
    """The validator would read megabytes of schema for each object."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            kubernetes_validate.utils, "schema_contents", functools.cache(kubernetes_validate.utils.schema_contents)
        )
        yield


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_takes_every_object(found: list[Object], version: str) -> None:
    for item in found:
        if item["kind"] not in SCHEMAS:
            kubernetes_validate.validate(item, version, strict=True)


def test_custom_resources_have_the_fields_that_there_are(found: list[Object]) -> None:
    for item in found:
        if "." in item["apiVersion"].partition("/")[0] and item["kind"] in SCHEMAS:
            jsonschema.validate(item, SCHEMAS[item["kind"]])


@pytest.mark.parametrize("name", PROFILES)
def test_the_profile_comes_to_what_its_golden_file_has(name: str) -> None:
    assert golden_text(name) == (GOLDEN / f"{name}.yaml").read_text(), "make helm-golden, and look at what changed"


def golden_text(name: str) -> str:
    """Returns what is kept of a profile: all objects, without what is generated and without long files."""
    return yaml.safe_dump_all([_without_chance(item) for item in objects(values_of(name))], sort_keys=False, width=120)


def _without_chance(item: Object) -> Object:
    if item["metadata"].get("annotations", {}).get(GENERATED):
        return {**item, "data": dict.fromkeys(item["data"], "(generated)")}
    if "-dashboard-" in item["metadata"]["name"]:
        return {**item, "data": dict.fromkeys(item["data"], "(a file of the chart)")}
    if item["kind"] == "PrometheusRule":
        return {**item, "spec": "(a file of the chart)"}
    return item


def test_nothing_is_there_twice(found: list[Object]) -> None:
    names = [(item["kind"], item["metadata"]["name"]) for item in found]
    assert len(names) == len(set(names))
    assert {item["metadata"]["namespace"] for item in found} == {NAMESPACE}


def test_all_containers_are_confined(found: list[Object]) -> None:
    for name, template in pods(found):
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"], name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}, name
            assert "memory" in container["resources"]["limits"], name
        assert {next(iter(volume.keys() - {"name"})) for volume in spec["volumes"]} <= {
            "emptyDir",
            "secret",
            "configMap",
        }


def test_only_workers_get_a_token_of_the_api_server(found: list[Object]) -> None:
    with_token = [name for name, template in pods(found) if template["spec"]["automountServiceAccountToken"]]
    roles = {item["subjects"][0]["name"]: item["roleRef"]["name"] for item in found if item["kind"] == "RoleBinding"}
    assert set(with_token) == roles.keys() <= {"voicepool-worker"}


def test_selectors_find_their_pods(found: list[Object]) -> None:
    labels = {name: template["metadata"]["labels"] for name, template in pods(found)}
    for item in found:
        name, kind, spec = item["metadata"]["name"], item["kind"], item.get("spec", {})
        if kind == "Deployment":
            assert spec["selector"]["matchLabels"].items() <= labels[name].items()
        elif kind == "Service":
            assert [pod for pod, own in labels.items() if spec["selector"].items() <= own.items()] == [name]
        elif kind in ("PodDisruptionBudget", "PodMonitor"):
            selected = spec["selector"]["matchLabels"].items()
            assert [pod for pod, own in labels.items() if selected <= own.items()] == [name]
        elif kind == "NetworkPolicy":
            selected = spec["podSelector"]["matchLabels"].items()
            assert [pod for pod, own in labels.items() if selected <= own.items()]


def test_what_is_referred_to_is_there(found: list[Object]) -> None:
    there = {(item["kind"], item["metadata"]["name"]) for item in found}
    for name, template in pods(found):
        spec = template["spec"]
        volumes = {volume["name"] for volume in spec["volumes"]}
        for container in spec["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} == volumes, name
        if "serviceAccountName" in spec:
            assert ("ServiceAccount", spec["serviceAccountName"]) in there
        sources = [variable.get("valueFrom", {}) for variable in spec["containers"][0].get("env", [])]
        for secret in {source["secretKeyRef"]["name"] for source in sources if "secretKeyRef" in source}:
            assert ("Secret", secret) in there or not secret.startswith("voicepool-") or secret in _made_beforehand()


def _made_beforehand() -> set[str]:
    """Returns the Secrets that profiles say exist already."""
    return set(re.findall(r"[sS]ecret(?:Name)?: ([\w-]+)", "\n".join(file.read_text() for file in PROFILES.values())))


@pytest.mark.parametrize("name", MATRIX)
def test_every_variable_is_a_setting_of_its_reader_who_starts_with_it(
    name: str, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = objects(values_of(name))
    for part in READERS.keys() & {pod.removeprefix(f"{RELEASE}-") for pod, _ in pods(found)}:
        variables = environment(one(found, "Deployment", part))
        model = READERS[part]
        known = {str(field.validation_alias.choices[0]) for field in model.model_fields.values()}  # type: ignore[union-attr]
        assert {variable for variable in variables if not OTHERS_READ.fullmatch(variable)} <= known
        with monkeypatch.context() as patch:
            for variable, value in variables.items():
                patch.setenv(variable, value.replace("/etc/voicepool/", f"{certificates}/"))
            load(model, _env_file=None)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory as pods have it, with a certificate in the place of each."""
    directory = tmp_path_factory.mktemp("voicepool")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "voicepool.example")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for secret in ("redis-ca", "redis-client", "sip-tls", "sip-client-ca"):
        (directory / secret).mkdir()
        (directory / secret / "ca.crt").write_bytes(certificate)
        (directory / secret / "tls.crt").write_bytes(certificate)
        (directory / secret / "tls.key").write_bytes(private)
    return directory


def test_port_blocks_are_the_ones_that_pods_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in environment(one(objects(values_of("production-aks")), "Deployment", "worker")).items():
        monkeypatch.setenv(variable, value)
    settings = load(WorkerSettings, _env_file=None)
    ports = [
        range(block.media_port, block.media_port + block.media_ports)
        for block in map(settings.in_block, range(settings.port_blocks))
    ]
    assert [(each.start, each.stop) for each in ports] == [(16384, 18784), (18784, 21184), (21184, 23584)]
    assert "UDP ports 16384 to 23583" in rendered(values_of("production-aks"))["NOTES.txt"]


def test_in_host_mode_pods_share_a_node() -> None:
    worker = one(objects({"network": {"mode": "host"}}), "Deployment", "worker")["spec"]["template"]["spec"]
    assert (worker["hostNetwork"], worker["dnsPolicy"]) == (True, "ClusterFirstWithHostNet")
    assert "ports" not in worker["containers"][0]  # one that is declared is taken for the whole node
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert "exec" in worker["containers"][0][probe]
    assert environment(one(objects({"network": {"mode": "host"}}), "Deployment", "worker"))["NODE_NAME"] == "node-1"


def test_workers_are_let_go_only_when_they_are_done() -> None:
    found = objects({"worker": {"drainSeconds": 7200}})
    template = one(found, "Deployment", "worker")["spec"]["template"]
    assert template["spec"]["terminationGracePeriodSeconds"] == 7260
    assert template["metadata"]["annotations"] == {
        "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
        "karpenter.sh/do-not-disrupt": "true",
    }
    assert one(found, "Role", "worker")["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["patch"]}]


def test_other_agents_replace_no_pod_and_another_key_does() -> None:
    def templates(**values: Any) -> list[Object]:
        return [template for _, template in pods(objects(values))]

    file = "agents: {a: {greeting: Hello}}"
    changed = "agents: {a: {greeting: Good day}}"
    assert templates(agents={"file": file}) == templates(agents={"file": changed})
    azure: dict[str, Any] = {"simulator": {"enabled": False}, "voiceLive": {"endpoint": "https://example.org"}}
    keys = [{**azure, "voiceLive": {**azure["voiceLive"], "apiKey": key}} for key in ("one", "two")]
    assert templates(**keys[0]) != templates(**keys[1])


def test_an_agent_file_is_installed_as_it_is() -> None:
    file = "  # A comment, and {{ caller.number }}.\n\nagents:\n  a: {greeting: '{{ .Values.image }}'}\n\n"
    found = objects({"agents": {"file": file}})
    assert one(found, "ConfigMap", "agents")["data"] == {"agents.yaml": file}


def test_settings_of_a_part_come_before_those_of_the_pool() -> None:
    values = {
        "settings": {"LOG_LEVEL": "WARNING", "VOICE_LIVE_TOKENS_PER_MINUTE": 2000000},
        "worker": {"settings": {"LOG_LEVEL": "DEBUG"}},
    }
    found = objects(values)
    assert environment(one(found, "Deployment", "worker"))["LOG_LEVEL"] == "DEBUG"
    assert environment(one(found, "Deployment", "dispatcher"))["LOG_LEVEL"] == "WARNING"
    assert environment(one(found, "Deployment", "worker"))["VOICE_LIVE_TOKENS_PER_MINUTE"] == "2000000"
    values = {"settings": {"TRACE_RATIO": 0.5}, "worker": {"settings": {"TRACE_RATIO": 0}}}
    assert environment(one(objects(values), "Deployment", "worker"))["TRACE_RATIO"] == "0"
    admin = environment(one(found, "Deployment", "admin"))
    assert admin["LOG_LEVEL"] == "WARNING" and "VOICE_LIVE_TOKENS_PER_MINUTE" not in admin


def test_autoscaling_aims_at_a_share_of_a_pods_slots() -> None:
    worker = {"processes": 3, "capacity": 50}
    keda = one(objects({"worker": worker, "autoscaling": {"type": "keda"}}), "ScaledObject", "worker")
    assert keda["spec"]["triggers"][0]["metadata"]["targetValue"] == "90"
    hpa = one(objects({"worker": worker, "autoscaling": {"type": "hpa"}}), "HorizontalPodAutoscaler", "worker")
    assert hpa["spec"]["metrics"][0]["pods"]["target"] == {"type": "AverageValue", "averageValue": "90"}
    external = {"type": "hpa", "hpa": {"metricType": "External", "metricSelector": {"pool": "a"}}}
    metric = one(objects({"autoscaling": external}), "HorizontalPodAutoscaler", "worker")["spec"]["metrics"][0]
    assert metric["external"]["metric"] == {
        "name": "voicepool_calls_active",
        "selector": {"matchLabels": {"pool": "a"}},
    }
    for kind in ("keda", "hpa"):
        deployment = one(objects({"autoscaling": {"type": kind}}), "Deployment", "worker")
        assert "replicas" not in deployment["spec"]


@pytest.mark.parametrize(("kind", "rules"), [("Pods", "custom"), ("External", "external")])
def test_the_adapter_is_told_to_serve_what_a_plain_autoscaler_asks_for(kind: str, rules: str) -> None:
    values = {"autoscaling": {"type": "hpa", "hpa": {"metricType": kind}}}
    [metric] = one(objects(values), "HorizontalPodAutoscaler", "worker")["spec"]["metrics"]
    file = yaml.safe_load((CHART / "files" / "prometheus-adapter.yaml").read_text())
    [rule] = file["rules"][rules]
    assert rule["seriesQuery"].startswith(metric[kind.lower()]["metric"]["name"] + "{")
    assert metric[kind.lower()]["metric"]["name"] in {prometheus_name(each) for each in METRICS.values()}


def test_network_policies_let_in_who_may_call() -> None:
    found = objects({"sip": {"allowedPeers": ["192.0.2.0/24"], "tls": {"enabled": True, "secretName": "tls"}}})
    rule = one(found, "NetworkPolicy", "dispatcher")["spec"]["ingress"][0]
    assert rule["from"][0] == {"ipBlock": {"cidr": "192.0.2.0/24"}}
    assert {(port["port"], port["protocol"]) for port in rule["ports"]} == {(5060, "UDP"), (5060, "TCP"), (5061, "TCP")}
    sip, rtp, _ = one(found, "NetworkPolicy", "worker")["spec"]["ingress"]
    assert sip["ports"] == [{"port": 5080, "endPort": 5081, "protocol": "UDP"}]
    assert rtp == {"ports": [{"port": 16384, "endPort": 17583, "protocol": "UDP"}]}
    redirect = one(objects({"sip": {"mode": "redirect"}}), "NetworkPolicy", "worker")["spec"]["ingress"][0]
    assert {"ipBlock": {"cidr": "10.0.0.0/8"}} in redirect["from"]
    assert all(ip_network(peer["ipBlock"]["cidr"]) for peer in redirect["from"] if "ipBlock" in peer)


def test_targets_are_found_and_named_as_pods_and_alerts_have_it() -> None:
    found = objects({"network": {"mode": "host"}, "monitoring": {"podMonitors": True}})
    endpoints = {
        part: one(found, kind, part)["spec"][field][0]
        for kind, field, part in (
            ("PodMonitor", "podMetricsEndpoints", "dispatcher"),
            ("PodMonitor", "podMetricsEndpoints", "worker"),
            ("ServiceMonitor", "endpoints", "admin"),
        )
    }
    jobs = {endpoint["relabelings"][-1]["replacement"] for endpoint in endpoints.values()}
    rules = (CHART / "files" / "alerts" / "voicepool.rules.yml").read_text()
    assert set(re.findall(r'job="(voicepool-\w+)"', rules)) == jobs
    label = re.sub(r"\W", "_", f"__meta_kubernetes_pod_annotation_{TELEMETRY_PORT}")
    assert [label in each.get("sourceLabels", []) for each in endpoints["worker"]["relabelings"]] == [True, True, False]
    [worker] = one(found, "Deployment", "worker")["spec"]["template"]["spec"]["containers"]
    keep = endpoints["worker"]["relabelings"][0]["regex"]
    assert [bool(re.fullmatch(keep, f"{name};9465")) for name in (worker["name"], "sidecar")] == [True, False]


def test_files_of_alerts_and_dashboards_are_installed_unchanged() -> None:
    files = rendered({"monitoring": {"alerts": True, "dashboards": True, "labels": {"release": "prometheus"}}})
    found = list(objects_in(files))
    (rules,) = (item for item in found if item["kind"] == "PrometheusRule")
    assert rules["spec"] == yaml.safe_load((CHART / "files" / "alerts" / "voicepool.rules.yml").read_text())
    assert rules["metadata"]["labels"]["release"] == "prometheus"
    dashboards = {name: text for item in found if item["kind"] == "ConfigMap" for name, text in item["data"].items()}
    assert dashboards == {file.name: file.read_text() for file in (CHART / "files" / "dashboards").glob("*.json")}
    assert dashboards


def test_alerts_link_to_where_the_runbook_is_read() -> None:
    page = "https://docs.example/voicepool/runbook/"
    found = objects_in(rendered({"monitoring": {"alerts": True, "runbookUrl": page}}))
    (rules,) = (item for item in found if item["kind"] == "PrometheusRule")
    alerts = [rule for group in rules["spec"]["groups"] for rule in group["rules"] if "alert" in rule]
    assert alerts
    assert all(rule["annotations"]["runbook_url"] == f"{page}#{rule['alert'].lower()}" for rule in alerts)
