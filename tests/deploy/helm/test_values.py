"""Values: what is refused and with which words, and that everything said of them is up to date."""

import runpy
import tomllib
from typing import Any

import helm_python as helm
import pytest
import yaml

from shared.agents.conduct import Limits
from shared.settings import PORTS_PER_CALL, RedisSettings
from tests.deploy.helm.chart import CHART, MATRIX, ROOT, chart, environment, objects, one, rendered, values_of

SCRIPT = runpy.run_path(str(ROOT / "scripts" / "helm_values.py"))

AZURE: dict[str, Any] = {
    "voiceLive": {"endpoint": "https://example.org", "apiKey": "key"},
    "simulator": {"enabled": False},
}
HOST = {"network": {"mode": "host"}}

BAD: list[tuple[dict[str, Any], str]] = [
    # What the schema says.
    ({"dispatchers": {}}, "additional properties 'dispatchers' not allowed"),
    ({"worker": {"replica": 3}}, "additional properties 'replica' not allowed"),
    ({"worker": {"settings": {"VOICE_LIVE_MODLE": "x"}}}, "additional properties 'VOICE_LIVE_MODLE' not allowed"),
    ({"dispatcher": {"settings": {"SIP_PORT": 5070}}}, "additional properties 'SIP_PORT' not allowed"),
    ({"worker": {"settings": {"AZURE_VOICELIVE_API_KEY": "x"}}}, "'AZURE_VOICELIVE_API_KEY' not allowed"),
    ({"settings": {"LOG_LEVEL": ["DEBUG"]}}, "at '/settings/LOG_LEVEL': got array, want boolean or number or string"),
    ({"worker": {"replicas": -1}}, "at '/worker/replicas': minimum: got -1, want 0"),
    ({"worker": {"capacity": 501}}, "at '/worker/capacity': maximum: got 501, want 500"),
    ({"worker": {"processes": 0}}, "at '/worker/processes': minimum: got 0, want 1"),
    ({"worker": {"resources": {"requests": None}}}, "at '/worker/resources': missing property 'requests'"),
    ({"network": {"mode": "nat"}}, "at '/network/mode': value must be one of 'pod', 'host'"),
    ({"sip": {"allowedPeers": ["sbc.example"]}}, "at '/sip/allowedPeers/0': 'sbc.example' does not match pattern"),
    ({"sip": {"allowedPeers": []}}, "at '/sip/allowedPeers': minItems"),
    ({"sip": {"sharedAddress": "sip.example"}}, "at '/sip/sharedAddress': 'sip.example' does not match pattern"),
    ({"sip": {"port": "5060"}}, "at '/sip/port': got string, want integer"),
    ({"webhooks": {"url": "http://events.example"}}, "at '/webhooks/url': 'http://events.example' does not match"),
    ({"autoscaling": {"type": "yes"}}, "at '/autoscaling/type': value must be one of 'none', 'keda', 'hpa'"),
    ({"image": {"digest": "latest"}}, "at '/image/digest': 'latest' does not match pattern"),
    ({"dispatcher": {"service": {"type": "ExternalName"}}}, "at '/dispatcher/service/type': value must be one of"),
    # What does not go together.
    ({"redis": {"url": "redis://redis.example"}}, "redis: url, existingSecret and sentinels go without"),
    ({"redis": {"trial": {"enabled": False}}}, "redis: set url or existingSecret"),
    (
        {"redis": {"trial": {"enabled": False}, "url": "redis://redis.example", "existingSecret": "urls"}},
        "redis: url and existingSecret exclude each other",
    ),
    ({"voiceLive": {"endpoint": "https://example.org"}}, "voiceLive.endpoint goes without simulator.enabled"),
    ({"simulator": {"enabled": False}}, "voiceLive.endpoint: set it"),
    ({**AZURE, "voiceLive": {"endpoint": "https://example.org"}}, "voiceLive: set existingSecret, apiKey or"),
    ({**AZURE, "voiceLive": {**AZURE["voiceLive"], "existingSecret": "key"}}, "workloadIdentity exclude each other"),
    ({"voiceLive": {"workloadIdentity": {"enabled": True}}}, "voiceLive.workloadIdentity.clientId is missing"),
    ({"agents": {"file": "agents: {}", "existingConfigMap": "agents"}}, "file and existingConfigMap exclude"),
    ({"agents": {"file": "[]"}}, "agents.file is no YAML mapping"),
    ({"agents": {"file": "agents: {a: {"}}, "agents.file is no YAML mapping"),
    ({"agents": {"file": "routes: []"}}, "agents.file has no agents"),
    ({"worker": {"drainSeconds": 600}}, "worker.drainSeconds: 600 is shorter than the longest call, 3540 s"),
    ({"sip": {"tls": {"enabled": True}}}, "sip.tls.secretName is missing"),
    ({"sip": {"tls": {"enabled": True, "secretName": "a", "port": 5060}}}, "sip.tls.port is the same as sip.port"),
    ({"worker": {"mediaPort": 65000}}, "1 blocks of RTP ports (six for each call) from 65000 on end at 66199"),
    ({**HOST, "worker": {"processes": 50, "capacity": 50}}, "4 blocks of RTP ports (six for each call) from 16384"),
    ({"worker": {"sipPort": 17000}}, "the SIP ports 17000 to 17001 and the RTP ports 16384 to 17583 overlap"),
    ({**HOST, "dispatcher": {"hostNetwork": True}}, "dispatcher.telemetryPort is one of the workers'"),
    (
        {**HOST, "dispatcher": {"hostNetwork": True, "telemetryPort": 9463}, "sip": {"port": 5081}},
        "sip.port is one of the workers' SIP ports",
    ),
    (
        {**HOST, "monitoring": {"podMonitors": True}, "worker": {"podDeletionCost": False}},
        "monitoring.podMonitors needs worker.podDeletionCost in host mode",
    ),
    ({"autoscaling": {"minReplicas": 9, "maxReplicas": 3}}, "autoscaling.minReplicas is more than maxReplicas"),
    ({"autoscaling": {"type": "keda"}, "admin": {"enabled": False}}, "metrics-api needs admin.enabled"),
    ({"autoscaling": {"type": "keda", "keda": {"source": "prometheus"}}}, "keda.prometheusAddress is missing"),
    ({"admin": {"enabled": False, "ingress": {"enabled": True}}}, "admin.ingress needs admin.enabled"),
    ({"admin": {"ingress": {"enabled": True, "host": "a.example"}}}, "admin.ingress: set host and tlsSecretName"),
    ({"webhooks": {"enabled": True, "url": "https://events.example"}}, "webhooks: set url and existingSecret"),
]


@pytest.mark.parametrize(("values", "words"), BAD, ids=[words for _, words in BAD])
def test_bad_values_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(helm.HelmError) as refusal:
        rendered(values)
    assert words in str(refusal.value)


def test_everything_that_does_not_go_together_is_told_at_once() -> None:
    with pytest.raises(helm.HelmError) as refusal:
        rendered({"simulator": {"enabled": False}, "redis": {"trial": {"enabled": False}}})
    assert "voiceLive.endpoint: set it" in str(refusal.value)
    assert "redis: set url or existingSecret" in str(refusal.value)


@pytest.mark.parametrize(
    ("limits", "longest"),
    [
        ({"agents": {"a": {"limits": {"max_call_s": 7200}}}}, 7200),
        ({"defaults": {"limits": {"max_call_s": 600}}, "agents": {"a": {"greeting": "Hello"}}}, 600),
        (
            {"defaults": {"limits": {"max_call_s": 600}}, "agents": {"a": {}, "b": {"limits": {"max_call_s": 900.5}}}},
            901,
        ),
        ({"defaults": None, "agents": {"a": None}}, 3540),
        ({"agents": {"a": {"limits": {"max_call_s": 0}}}}, 3540),
    ],
)
def test_a_drain_is_as_long_as_the_longest_call_of_the_agents(limits: dict[str, Any], longest: int) -> None:
    file = yaml.safe_dump(limits)
    worker = one(objects({"agents": {"file": file}, "worker": {"drainSeconds": longest}}), "Deployment", "worker")
    assert worker["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == longest + 60
    with pytest.raises(helm.HelmError, match=f"shorter than the longest call, {longest} s"):
        rendered({"agents": {"file": file}, "worker": {"drainSeconds": longest - 1}})


def test_the_chart_assumes_what_agents_and_workers_do() -> None:
    default = Limits().max_call_s
    assert one(objects({"worker": {"drainSeconds": int(default)}}), "Deployment", "worker")
    with pytest.raises(helm.HelmError, match=f"shorter than the longest call, {default:.0f} s"):
        rendered({"worker": {"drainSeconds": int(default) - 1}})
    worker = one(objects({"worker": {"processes": 3, "capacity": 50}}), "Deployment", "worker")
    assert environment(worker)["MEDIA_PORT_COUNT"] == str(3 * 50 * PORTS_PER_CALL)


def test_every_value_is_described() -> None:
    def leaves(tree: dict[str, Any], schema: dict[str, Any], path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
        found = set()
        for key, value in tree.items():
            node = schema["properties"][key]
            inner = isinstance(value, dict) and value and "$ref" not in node
            found |= leaves(value, node, (*path, key)) if inner else {(*path, key)}
        return found

    values, schema = chart().values, chart().schema
    assert schema
    described = {path for path, _ in SCRIPT["descriptions"]((CHART / "values.yaml").read_text())}
    assert leaves(values, schema) == described


def test_every_value_has_a_use() -> None:
    templates = "\n".join(file.read_text() for file in CHART.glob("templates/**/*") if file.is_file())
    for path, _ in SCRIPT["descriptions"]((CHART / "values.yaml").read_text()):
        assert f".{path[-1]}" in templates, ".".join(path)


def test_readme_and_schema_say_what_values_yaml_says() -> None:
    assert (CHART / "README.md").read_text() == SCRIPT["readme"]()
    assert (CHART / "values.schema.json").read_text() == SCRIPT["schema"]()


def test_what_carries_no_calls_reads_no_setting_of_the_pool_but_its_log_level() -> None:
    assert set(SCRIPT["settings_of"](RedisSettings)) == {"LOG_LEVEL"}


def test_the_chart_has_the_version_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert chart().metadata["version"] == chart().metadata["appVersion"] == project["version"]


@pytest.mark.parametrize("name", MATRIX)
def test_helm_lint_finds_nothing(name: str) -> None:
    report = helm.lint(CHART, dict(values_of(name)), strict=True, kube_version="v1.29.0")
    worth_saying = [message for message in report["messages"] if "icon is recommended" not in message["error"]]
    assert (worth_saying, report["errors"]) == ([], [])
