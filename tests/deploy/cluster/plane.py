"""A Kubernetes control plane on this machine, for a block: etcd, API server, controllers, scheduler, simulated nodes.

Authorization is RBAC, admission is what an API server has by default (Pod Security among it). Containers do not run:
kwok says of each pod that it does. All state is in one directory, and all listens on loopback.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives.asymmetric import ec

from admin.ports import free_tcp_port
from tests.deploy.cluster.build import ETCD, HELM, KUBERNETES, KWOK
from tests.deploy.cluster.certificates import Authority, KeyPair, private_pem
from tests.deploy.cluster.kubectl import Command, Refused
from tests.deploy.cluster.process import running
from tests.deploy.go_modules import module_files, program

HERE = "127.0.0.1"

START_S = 120.0
"""Longest wait for one program to be ready; the API server makes a few hundred objects first."""

NODES = {"node-a": "10.0.0.11", "node-b": "10.0.0.12", "node-c": "10.0.0.13"}
"""Names and addresses, which nothing answers at; each is a zone of its own."""

NODE_CORES, NODE_MEMORY, NODE_PODS = "16", "64Gi", "110"

SYNC_S = 1
"""Seconds between two looks of the autoscaler; Kubernetes has 15."""

STAGES = Path(__file__).with_name("stages.yaml")
"""What happens to pods on the simulated nodes, beside what kwok itself has for them."""


@dataclass(frozen=True)
class Plane:
    """A running control plane."""

    directory: Path
    """All its files: certificates, logs, state."""
    url: str
    kubectl: Command
    """As cluster-admin."""
    helm: Command
    authority: Authority
    """Signs what the API server trusts."""

    def as_token(self, token: str) -> Command:
        """kubectl as whom the token is of."""
        path = self.directory / f"token-{abs(hash(token))}.json"
        _write_kubeconfig(path, self.url, self.authority.certificate, {"token": token})
        return Command(self.kubectl.binary, {**self.kubectl.environment, "KUBECONFIG": str(path)})


@contextmanager
def running_plane(directory: Path) -> Iterator[Plane]:
    """Runs a control plane with three nodes for the block.

    Raises NotBuilt when a program is missing, and Failed when one does not start.
    """
    with ExitStack() as stack:
        etcd_url = _etcd(stack, directory)
        plane = _api_server(stack, directory, etcd_url)
        _controllers(stack, plane)
        _nodes(stack, plane)
        yield plane


def _etcd(stack: ExitStack, directory: Path) -> str:
    url, peer = f"http://{HERE}:{free_tcp_port()}", f"http://{HERE}:{free_tcp_port()}"
    # fmt: off
    stack.enter_context(running(
        [program(ETCD, "etcd"), "--data-dir", directory / "etcd", "--unsafe-no-fsync",
         "--listen-client-urls", url, "--advertise-client-urls", url,
         "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"],
        directory / "etcd.log",
    ))
    # fmt: on
    return url


def _api_server(stack: ExitStack, directory: Path, etcd_url: str) -> Plane:
    """Starts it and waits until it is ready; certificates and clients are made on the way."""
    port = free_tcp_port()
    authority, front = Authority(directory, "authority"), Authority(directory, "front-authority")
    serving = authority.issue("kube-apiserver", hosts=[HERE, "localhost", "kubernetes.default.svc"])
    proxy = front.issue("front-proxy")
    signing = directory / "service-accounts.key"
    signing.write_bytes(private_pem(ec.generate_private_key(ec.SECP256R1())))
    plane = _plane(directory, f"https://{HERE}:{port}", authority)
    # fmt: off
    server = stack.enter_context(running(
        [program(KUBERNETES, "kube-apiserver"), f"--etcd-servers={etcd_url}",
         f"--bind-address={HERE}", f"--secure-port={port}", "--service-cluster-ip-range=10.96.0.0/16",
         f"--tls-cert-file={serving.certificate}", f"--tls-private-key-file={serving.key}",
         f"--client-ca-file={authority.certificate}",
         f"--requestheader-client-ca-file={front.certificate}", "--requestheader-allowed-names=front-proxy",
         "--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
         "--requestheader-extra-headers-prefix=X-Remote-Extra-",
         f"--proxy-client-cert-file={proxy.certificate}", f"--proxy-client-key-file={proxy.key}",
         "--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={signing}",
         f"--service-account-signing-key-file={signing}",
         "--authorization-mode=Node,RBAC", "--allow-privileged=true",
         # Its own address, on loopback, is not one that the Service "kubernetes" may have.
         "--endpoint-reconciler-type=none"],
        directory / "kube-apiserver.log",
    ))
    # fmt: on
    server.await_ready(lambda: _is_ready(plane), START_S)
    return plane


def _plane(directory: Path, url: str, authority: Authority) -> Plane:
    admin = directory / "admin.json"
    pair = authority.issue("admin", organization="system:masters")
    _write_kubeconfig(admin, url, authority.certificate, _certificate_user(pair))
    # What these clients keep of a cluster stays in its directory, and nothing of the user's is read.
    homes = {name: str(directory / "clients") for name in ("HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME")}
    environment = {"KUBECONFIG": str(admin), "KUBECACHEDIR": str(directory / "clients"), **homes}
    kubectl = Command(program(KUBERNETES, "kubectl"), environment)
    return Plane(directory, url, kubectl, Command(program(HELM, "helm"), environment), authority)


def _is_ready(plane: Plane) -> bool:
    try:
        return plane.kubectl("get", "--raw", "/readyz", "--request-timeout=5s") == "ok"
    except Refused:
        return False


def _controllers(stack: ExitStack, plane: Plane) -> None:
    common = [f"--bind-address={HERE}", "--leader-elect=false"]
    # fmt: off
    stack.enter_context(running(
        [program(KUBERNETES, "kube-controller-manager"), *common, f"--secure-port={free_tcp_port()}",
         f"--kubeconfig={_component(plane, 'kube-controller-manager')}", "--use-service-account-credentials=true",
         f"--service-account-private-key-file={plane.directory / 'service-accounts.key'}",
         f"--root-ca-file={plane.authority.certificate}", f"--horizontal-pod-autoscaler-sync-period={SYNC_S}s"],
        plane.directory / "kube-controller-manager.log",
    ))
    stack.enter_context(running(
        [program(KUBERNETES, "kube-scheduler"), *common, f"--secure-port={free_tcp_port()}",
         f"--kubeconfig={_component(plane, 'kube-scheduler')}"],
        plane.directory / "kube-scheduler.log",
    ))
    # fmt: on


def _component(plane: Plane, name: str) -> Path:
    """A kubeconfig with the user that Kubernetes's own roles are bound to."""
    path = plane.directory / f"{name}.json"
    pair = plane.authority.issue(f"system:{name}")
    _write_kubeconfig(path, plane.url, plane.authority.certificate, _certificate_user(pair))
    return path


def _nodes(stack: ExitStack, plane: Plane) -> None:
    """Starts the simulator of kubelets, adds nodes and waits until they are ready."""
    published = module_files(KWOK) / "kustomize/stage"
    stages = [published / "node/fast/node-initialize.yaml", STAGES]
    stages += [published / f"pod/fast/pod-{what}.yaml" for what in ("ready", "complete", "delete")]
    # fmt: off
    stack.enter_context(running(
        [program(KWOK, "kwok"), "--kubeconfig", plane.kubectl.environment["KUBECONFIG"], "--manage-all-nodes",
         "--node-lease-duration-seconds=40", "--cidr=10.244.0.0/16", f"--server-address={HERE}:{free_tcp_port()}",
         *(word for stage in stages for word in ("--config", stage))],
        plane.directory / "kwok.log",
    ))
    # fmt: on
    plane.kubectl("apply", "-f", "-", given=yaml.safe_dump_all(_node(*each) for each in NODES.items()))
    plane.kubectl("wait", "node", "--all", "--for=condition=Ready", f"--timeout={START_S:.0f}s")


def _node(name: str, address: str) -> dict[str, Any]:
    room = {"cpu": NODE_CORES, "memory": NODE_MEMORY, "pods": NODE_PODS}
    labels = {
        "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
        "topology.kubernetes.io/zone": f"zone-{name[-1]}",
    }  # fmt: skip
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "status": {
            "allocatable": room,
            "capacity": room,
            "addresses": [{"type": "InternalIP", "address": address}],
        },
    }


def _certificate_user(pair: KeyPair) -> dict[str, str]:
    return {"client-certificate": str(pair.certificate), "client-key": str(pair.key)}


def _write_kubeconfig(path: Path, url: str, authority: Path, user: dict[str, str]) -> None:
    """Writes it as JSON, which is YAML."""
    it = "it"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": it, "cluster": {"server": url, "certificate-authority": str(authority)}}],
        "users": [{"name": it, "user": user}],
        "contexts": [{"name": it, "context": {"cluster": it, "user": it}}],
        "current-context": it,
    }
    path.write_text(json.dumps(content))
    path.chmod(0o600)
