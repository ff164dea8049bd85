"""What Kubernetes is told of the pod that this process runs in: two annotations, by PATCH of the pod itself.

The number of calls as `controller.kubernetes.io/pod-deletion-cost`, by which a ReplicaSet chooses the pods it removes,
and the telemetry port. It reads nothing from Kubernetes, and no call depends on it: it has a thread of its own, and
what fails is logged and tried again.
"""

import http.client
import json
import os
import random
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import structlog

from shared.backoff import delay_s
from shared.settings import WorkerSettings

log = structlog.get_logger()

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
TELEMETRY_PORT = "voicepool.io/telemetry-port"

INTERVAL_S = 5.0
"""Least time between two PATCHes of a pod: each is a write to etcd, and told to all who watch pods."""

RETRY_MAX_S = 60.0
"""Longest delay before a PATCH that failed is tried again; it doubles from INTERVAL_S with each failure in a row."""

TIMEOUT_S = 5.0
"""Longest wait for the API server at each step: connecting, TLS, the answer."""

STOP_S = 0.5
"""Longest wait for a PATCH under way when the pod ends."""

ANSWER_MAX_BYTES = 1 << 20

_HINTS = {
    401: "the API server does not accept the service account's token",
    403: "the pod's service account needs a Role with the verb patch on pods in its namespace",
    404: "there is no such pod in the service account's namespace: POD_NAME has to be metadata.name",
}


@dataclass(frozen=True, slots=True)
class OwnPod:
    """Where a pod's object is, and what gives the right to change it."""

    name: str
    host: str
    """The API server's."""
    port: int
    service_account: Path
    """Directory with token, ca.crt and namespace. They are read each time: tokens last an hour or so."""

    @classmethod
    def of(cls, settings: WorkerSettings, environment: Mapping[str, str] = os.environ) -> Self:
        """Returns the pod of POD_NAME at the API server that the kubelet names in every container's environment."""
        return cls(
            name=settings.pod,
            host=environment.get("KUBERNETES_SERVICE_HOST", "kubernetes.default.svc"),
            port=int(environment.get("KUBERNETES_SERVICE_PORT", "443")),
            service_account=Path(settings.service_account_dir),
        )

    def annotate(self, annotations: Mapping[str, str]) -> str:
        """Sets annotations; returns "" when that is done, or what is wrong, in words that bear logging."""
        try:
            token = self._secret("token")
            path = f"/api/v1/namespaces/{quote(self._secret('namespace'))}/pods/{quote(self.name)}"
            tls = ssl.create_default_context(cafile=str(self.service_account / "ca.crt"))
        except OSError as error:
            return f"no service account: {error.strerror}"
        # Python 3.13 made it the default, and refuses the authorities of clusters whose age is some years.
        tls.verify_flags &= ~ssl.VERIFY_X509_STRICT
        connection = http.client.HTTPSConnection(self.host, self.port, timeout=TIMEOUT_S, context=tls)
        try:
            connection.request(
                "PATCH",
                f"{path}?fieldManager=voicepool",
                body=json.dumps({"metadata": {"annotations": annotations}}),
                headers={"Authorization": f"Bearer {token}", "Content-Type": "application/merge-patch+json"},
            )
            answer = connection.getresponse()
            answer.read(ANSWER_MAX_BYTES)
        except (OSError, http.client.HTTPException) as error:
            return f"no answer: {type(error).__name__}"
        finally:
            connection.close()
        if answer.status == http.client.OK:
            return ""
        return ": ".join(filter(None, (f"status {answer.status}", _HINTS.get(answer.status))))

    def _secret(self, name: str) -> str:
        return (self.service_account / name).read_text("utf-8").strip()


class PodAnnotations:
    """Keeps the pod's annotations at what was last noted, for the length of a `with`.

    The first change is told at once, later ones together, one PATCH in INTERVAL_S at most.
    """

    def __init__(self, pod: OwnPod) -> None:
        self._pod = pod
        self._noted: dict[str, str] = {}
        self._told: dict[str, str] = {}
        self._stopping = False
        self._changed = threading.Condition()
        # A daemon: a PATCH that hangs must not keep a pod that has nothing more to say.
        self._thread = threading.Thread(target=self._run, name="pod-annotations", daemon=True)
        self._trouble: str | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(STOP_S)

    def note(self, calls: int, telemetry_port: int | None) -> None:
        """Has Kubernetes told, if it is not what it knows; returns at once."""
        annotations = {DELETION_COST: str(calls)}
        if telemetry_port:
            annotations[TELEMETRY_PORT] = str(telemetry_port)
        with self._changed:
            if annotations != self._noted:
                self._noted = annotations
                self._changed.notify()

    def _run(self) -> None:
        failures = 0
        while annotations := self._news():
            trouble = self._pod.annotate(annotations)
            self._log(trouble)
            if trouble:
                failures += 1
                pause_s = delay_s(failures, first_s=2 * INTERVAL_S, longest_s=RETRY_MAX_S)
            else:
                failures = 0
                self._told = annotations
                # Pods that took calls at the same moment must not go on in step.
                pause_s = INTERVAL_S * random.uniform(1.0, 1.2)
            with self._changed:
                self._changed.wait_for(lambda: self._stopping, pause_s)

    def _news(self) -> dict[str, str]:
        """Returns what is to be told, waiting for it; empty when the pod ends."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._noted != self._told)
            return {} if self._stopping else self._noted

    def _log(self, trouble: str) -> None:
        """Logs what has changed only: one line, however often the same goes wrong."""
        if trouble and trouble != self._trouble:
            log.error("kubernetes.pod_not_annotated", reason=trouble)
        elif not trouble and self._trouble != "":
            log.info("kubernetes.pod_annotated")
        self._trouble = trouble
