"""The profile `observability` with docker-compose.observability.yml: what a call leaves in Prometheus, Loki and Tempo.

It is found as docs and dashboard say: from the call's id to its log lines, and from these to its trace.
"""

import json
import os
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from admin.ports import free_tcp_port
from tests.deploy.compose.build import BUILDER, COMPONENTS, LOKI
from tests.deploy.compose.calling import call
from tests.deploy.compose.confinement import assert_confined
from tests.deploy.compose.conftest import VERSION
from tests.deploy.compose.engine import ROOT, Engine
from tests.deploy.compose.stack import Stack, images, running_stack

pytestmark = [pytest.mark.compose, pytest.mark.timeout(2400)]

PROFILE = ("prometheus", "grafana", "collector", "tempo", "loki")

SHOWN_S = 90.0
"""Longest until what has happened is shown: rounds of 5 s of Prometheus, the queues of the others, a slow start."""

ASK_AGAIN_S = 0.5

DASHBOARD = ROOT / "helm/voicepool/files/dashboards/one-call.json"

LINES = {
    "voicepool-dispatcher": {"sip.incoming_call", "call.placed", "call.answered"},
    "voicepool-worker": {"call.claimed", "voicelive.connected", "sip.media_active", "call.ended"},
}
SPANS = {
    "voicepool-dispatcher": {"dispatch", "lease"},
    "voicepool-worker": {"call", "admit", "connect", "turn"},
}


@pytest.fixture(scope="module")
def watched(engine: Engine, image: str, services: set[str]) -> Iterator[Stack]:
    """A pool that is watched, by those whose images are there."""
    env = {"VOICEPOOL_VERSION": VERSION, "LOG_PORT": str(free_tcp_port())}
    files = (ROOT / "docker-compose.yml", ROOT / "docker-compose.observability.yml")
    with running_stack(Stack(engine, f"voicepool-watched-{os.getpid()}", env, files)) as made:
        watchers = [service for service in PROFILE if service in services]
        made.up("redis", "dispatcher", "admin", "simulator", *watchers, worker=2)
        yield made


@pytest.fixture(scope="module")
def called(watched: Stack, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The id of a call that was answered."""
    return _call(watched, tmp_path_factory.mktemp("call"))


def test_what_is_built_here_is_what_the_file_names() -> None:
    named = images()
    assert named["collector"].endswith(f":{BUILDER.version[1:]}") and named["loki"].endswith(f":{LOKI.version[1:]}")
    listed = yaml.safe_load(COMPONENTS.read_text())
    components = [each["gomod"] for kind in ("receivers", "processors", "exporters") for each in listed[kind]]
    assert {each.split()[1] for each in components} == {BUILDER.version} == {f"v{listed['dist']['version']}"}


def test_prometheus_sees_every_container_and_takes_the_rules(watched: Stack) -> None:
    base = _base(watched, "prometheus", 9090)
    query = urllib.parse.urlencode({"query": "sum by (job) (up)"})
    wanted = {"voicepool-dispatcher": "1", "voicepool-worker": "2", "voicepool-admin": "1"}
    seen = _answer(f"{base}/api/v1/query?{query}", lambda answer: _values(answer) == wanted)
    assert _values(seen) == wanted
    groups = _answer(f"{base}/api/v1/rules", bool)["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert rules and all(rule["health"] != "err" for rule in rules)


@pytest.mark.parametrize("service", PROFILE)
def test_watchers_may_do_little(watched: Stack, services: set[str], service: str) -> None:
    _need(services, service)
    assert_confined(watched, service)


@pytest.mark.parametrize(
    ("service", "check"),
    [
        ("collector", ["validate", "--config=/etc/otelcol-contrib/voicepool.yml"]),
        ("tempo", ["-config.verify=true", "-config.file=/etc/tempo/voicepool.yml"]),
        ("loki", ["-verify-config", "-config.file=/etc/loki/voicepool.yml"]),
    ],
)
def test_watchers_find_no_fault_with_their_files(
    watched: Stack, services: set[str], service: str, check: list[str]
) -> None:
    _need(services, service)
    checked = watched.attempt("run", "--rm", "--no-deps", service, *check)
    said = checked.stdout + checked.stderr
    assert checked.returncode == 0, said
    assert "level=warn" not in said and "deprecated" not in said, said


def test_the_dashboard_finds_the_lines_of_a_call(watched: Stack, services: set[str], called: str) -> None:
    _need(services, "collector", "loki")
    lines = _lines(watched, called)
    assert {service: {line["event"] for line in told} >= LINES[service] for service, told in lines.items()} == {
        "voicepool-dispatcher": True,
        "voicepool-worker": True,
    }, lines
    assert len({line["trace_id"] for told in lines.values() for line in told}) == 1


def test_the_trace_of_a_call_is_of_dispatcher_and_worker(watched: Stack, services: set[str], called: str) -> None:
    _need(services, "collector", "loki", "tempo")
    trace_id = _lines(watched, called)["voicepool-worker"][0]["trace_id"]
    url = f"{_base(watched, 'tempo', 3200)}/api/v2/traces/{trace_id}"
    spans = _spans(_answer(url, lambda answer: _names(answer) == SPANS))
    assert {service: {span["name"] for span in found} for service, found in spans.items()} == SPANS
    everything = [span for found in spans.values() for span in found]
    ids = {span["spanId"] for span in everything}
    assert [span["name"] for span in everything if span.get("parentSpanId") not in ids] == ["dispatch"]


def test_nobody_waits_for_a_collector_that_is_away(watched: Stack, services: set[str], tmp_path: Path) -> None:
    _need(services, "collector", "loki")
    watched.compose("stop", "collector")
    try:
        called = _call(watched, tmp_path)
        gone = watched.containers("worker")[-1]
        watched.up(worker=1)
        assert gone.id not in {each.id for each in watched.containers("worker")}
    finally:
        watched.up("collector", worker=2)
    told = [watched.log_of(each, tmp_path).read_text() for each in watched.containers("dispatcher")]
    assert called in "".join(told)
    assert "call.placed" in {line["event"] for line in _lines(watched, called)["voicepool-dispatcher"]}


def _need(services: set[str], *names: str) -> None:
    if missing := sorted(set(names) - services):
        pytest.skip(f"no image of {', '.join(missing)}: neither pulled nor made, as tests/deploy/base_images says")


def _base(stack: Stack, service: str, port: int) -> str:
    [container] = stack.containers(service)
    return f"http://{container.address}:{port}"


def _call(stack: Stack, directory: Path) -> str:
    """Makes a call, and returns its id."""
    [dispatcher] = stack.containers("dispatcher")
    report = call(dispatcher.address, directory, "--say", "Good morning")
    assert report["ok"], report["reason"]
    return str(stack.voicepool("records")[0]["call_id"])  # the newest


def _lines(stack: Stack, call_id: str) -> dict[str, list[dict[str, Any]]]:
    """The lines of a call by service, as the dashboard asks for them, once the last of them has come."""
    board = json.loads(DASHBOARD.read_text())
    [panel] = [panel for panel in board["panels"] if panel["type"] == "logs"]
    [streams] = [each["query"] for each in board["templating"]["list"] if each["name"] == "streams"]
    query = panel["targets"][0]["expr"].replace("$streams", streams)
    asked = {"query": query.replace("$call_id", call_id).replace("$trace_id", ""), "limit": "1000"}
    url = f"{_base(stack, 'loki', 3100)}/loki/api/v1/query_range?{urllib.parse.urlencode(asked)}"
    return _by_service(_answer(url, lambda answer: _events(answer) >= set().union(*LINES.values())))


def _by_service(answer: Any) -> dict[str, list[dict[str, Any]]]:
    lines: dict[str, list[dict[str, Any]]] = {}
    for stream in answer["data"]["result"]:
        found = lines.setdefault(stream["stream"]["service_name"], [])
        found += [json.loads(line) for _, line in stream["values"]]
    return lines


def _events(answer: Any) -> set[str]:
    return {line["event"] for told in _by_service(answer).values() for line in told}


def _spans(answer: Any) -> dict[str, list[dict[str, Any]]]:
    """The spans of a trace by service."""
    spans: dict[str, list[dict[str, Any]]] = {}
    for part in answer["trace"].get("resourceSpans", []):
        of = {each["key"]: each["value"].get("stringValue") for each in part["resource"]["attributes"]}
        found = spans.setdefault(of["service.name"], [])
        found += [span for scope in part["scopeSpans"] for span in scope["spans"]]
    return spans


def _names(answer: Any) -> dict[str, set[str]]:
    return {service: {span["name"] for span in found} for service, found in _spans(answer).items()}


def _values(answer: Any) -> dict[str, str]:
    return {each["metric"]["job"]: each["value"][1] for each in answer["data"]["result"]}


def _answer(url: str, enough: Callable[[Any], bool]) -> Any:
    """What a URL answers once it is as wanted, or as it is in the end."""
    deadline = time.monotonic() + SHOWN_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                answer = json.load(response)
            if enough(answer) or time.monotonic() > deadline:
                return answer
        except OSError:  # it has only just begun, or knows nothing of it yet
            if time.monotonic() > deadline:
                raise
        time.sleep(ASK_AGAIN_S)
