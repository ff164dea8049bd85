"""The pods of the Helm chart as containers: the image takes the arguments, settings, probes and confinement they have.

There is no Kubernetes here: what it would do for pods (names, addresses, Secrets, limits) is done with the engine.
"""

import base64
import json
import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.compose.engine import Engine
from tests.deploy.compose.stack import images
from tests.deploy.helm.chart import RELEASE, Object, objects, one, pods

pytestmark = [pytest.mark.compose, pytest.mark.timeout(2400)]

READY_S, CALL_S, STOP_S = 90.0, 90.0, 60

PARTS = ("redis", "simulator", "dispatcher", "worker", "admin")

FIRST_ADDRESS = 10
"""Of the pods, in their network; those before are the engine's."""

GET = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=5)"
"""What a kubelet does for `httpGet`."""


@dataclass(slots=True)
class Pods:
    """The pods of a release on a network of their own. One container each, named as the part is."""

    engine: Engine
    found: Sequence[Object]
    network: str
    subnet: IPv4Network
    files: Path
    started: list[str] = field(default_factory=list)

    def start(self, part: str) -> str:
        """Starts a part's container and returns its name."""
        name, address = f"{self.network}-{part}", str(self.subnet[FIRST_ADDRESS + len(self.started)])
        template = dict(pods(list(self.found)))[f"{RELEASE}-{part}"]
        [container] = template["spec"]["containers"]
        environment = dict(self._variables(container, address))
        words = [
            word.replace("$(REDISCLI_AUTH)", environment.get("REDISCLI_AUTH", "")) for word in self._words(container)
        ]
        entrypoint = [f"--entrypoint={words.pop(0)}"] if "command" in container else []
        self.engine.docker(
            *("run", "--detach", f"--name={name}", f"--hostname={part}", "--no-healthcheck"),
            *(f"--network={self.network}", f"--ip={address}", f"--network-alias={RELEASE}-{part}"),
            *self._confinement(template["spec"], container),
            *(f"--env={variable}={value}" for variable, value in environment.items()),
            *self._mounts(template["spec"], container),
            *(*entrypoint, container["image"], *words),
        )
        self.started.append(name)
        return name

    def await_ready(self, part: str) -> None:
        """Asks as the part's readiness probe does until the answer is yes."""
        [container] = dict(pods(list(self.found)))[f"{RELEASE}-{part}"]["spec"]["containers"]
        question = shlex.join(_question(container))
        until = f"until {question} >/dev/null 2>&1; do sleep 0.2; done"
        self.engine.docker("exec", f"{self.network}-{part}", "sh", "-c", until, timeout_s=READY_S)

    def _secret(self, name: str, key: str) -> str:
        data = one(list(self.found), "Secret", name.removeprefix(f"{RELEASE}-"))["data"]
        return base64.b64decode(data[key]).decode()

    def _variables(self, container: Object, address: str) -> Iterator[tuple[str, str]]:
        fields = {"metadata.name": container["name"], "status.podIP": address}
        for variable in container.get("env", []):
            match variable.get("valueFrom"):
                case {"secretKeyRef": {"name": name, "key": key}}:
                    yield variable["name"], self._secret(name, key)
                case {"fieldRef": {"fieldPath": path}}:
                    yield variable["name"], fields[path]
                case _:
                    yield variable["name"], variable["value"]

    def _words(self, container: Object) -> list[str]:
        return [*container.get("command", []), *container.get("args", [])]

    def _confinement(self, spec: Object, container: Object) -> list[str]:
        own = container["securityContext"]
        assert own["readOnlyRootFilesystem"] and not own["allowPrivilegeEscalation"]
        user = spec["securityContext"]
        return [
            f"--user={user['runAsUser']}:{user['runAsGroup']}",
            "--read-only",
            "--security-opt=no-new-privileges",
            *(f"--cap-drop={name}" for name in own["capabilities"]["drop"]),
            f"--memory={container['resources']['limits']['memory'].removesuffix('i')}",
        ]

    def _mounts(self, spec: Object, container: Object) -> Iterator[str]:
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        for mount in container["volumeMounts"]:
            match volumes[mount["name"]]:
                case {"emptyDir": {"sizeLimit": size}}:
                    yield f"--tmpfs={mount['mountPath']}:mode=1777,size={size.removesuffix('i')}"
                case {"secret": {"secretName": name, "items": items}}:
                    directory = self.files / mount["name"]
                    directory.mkdir(exist_ok=True)
                    for item in items:
                        (directory / item["path"]).write_text(self._secret(name, item["key"]))
                    yield f"--volume={directory}:{mount['mountPath']}:ro"


def _question(container: Object) -> Sequence[str]:
    probe: dict[str, Any] = container["readinessProbe"]
    if "exec" in probe:
        return [str(word) for word in probe["exec"]["command"]]
    [port] = (each["containerPort"] for each in container["ports"] if each["name"] == probe["httpGet"]["port"])
    return ["python", "-c", GET, f"http://127.0.0.1:{port}{probe['httpGet']['path']}"]


@pytest.fixture
def trial(engine: Engine, image: str, tmp_path: Path) -> Iterator[Pods]:
    """What the chart makes without values, not yet started."""
    repository, _, tag = image.rpartition(":")
    found = objects({"image": {"repository": repository, "tag": tag}, "redis": {"trial": {"image": images()["redis"]}}})
    network = f"voicepool-chart-{os.getpid()}"
    engine.docker("network", "create", network)
    [config] = json.loads(engine.docker("network", "inspect", network))[0]["IPAM"]["Config"]
    engine.docker("network", "rm", network)  # a free subnet is known now, and only in one that was asked for
    engine.docker("network", "create", f"--subnet={config['Subnet']}", network)  # can addresses be chosen
    trial = Pods(engine, found, network, IPv4Network(config["Subnet"]), tmp_path)
    try:
        yield trial
    finally:
        if trial.started:
            engine.docker("rm", "--force", *trial.started)
        engine.docker("network", "rm", network)


def test_the_trial_starts_answers_the_call_of_helm_test_and_stops(trial: Pods) -> None:
    for part in PARTS:
        trial.start(part)
    for part in PARTS:
        trial.await_ready(part)
    phone = trial.start("test-call")
    assert trial.engine.docker("wait", phone, timeout_s=CALL_S).strip() == "0", trial.engine.docker("logs", phone)
    told = trial.engine.docker("exec", f"{trial.network}-admin", "voicepool", "records", "--jsonl")
    assert [json.loads(line)["result"] for line in told.splitlines()] == ["completed"]
    for part in ("dispatcher", "worker"):
        name = f"{trial.network}-{part}"
        trial.engine.docker("stop", f"-t{STOP_S}", name, timeout_s=STOP_S + 30.0)
        assert trial.engine.docker("inspect", "--format={{.State.ExitCode}}", name).strip() == "0"
