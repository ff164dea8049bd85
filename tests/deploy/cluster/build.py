"""The Kubernetes control plane of the tests here, Helm and what scales, built from their published Go modules.

`python -m tests.deploy.cluster.build` does it, and says how long each took. Nothing is started here: `plane.py` does.
"""

import sys

from tests.deploy.go_modules import NotBuilt, Source, build_all

SUITE = "cluster"

_COMPONENT = "k8s.io/component-base/version"

KUBERNETES = Source(
    SUITE,
    "k8s.io/kubernetes",
    "v1.34.4",
    {name: f"cmd/{name}" for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")},
    staging=True,
    # Without it every program says v0.0.0, and charts that ask for a version of Kubernetes are refused.
    link=f"-X {_COMPONENT}.gitVersion=v1.34.4 -X {_COMPONENT}.gitMajor=1 -X {_COMPONENT}.gitMinor=34",
)
ETCD = Source(SUITE, "go.etcd.io/etcd/server/v3", "v3.6.5", {"etcd": ""})
KWOK = Source(SUITE, "sigs.k8s.io/kwok", "v0.7.0", {"kwok": "cmd/kwok"})
HELM = Source(SUITE, "helm.sh/helm/v3", "v3.19.5", {"helm": "cmd/helm"})
KEDA = Source(
    SUITE,
    "github.com/kedacore/keda/v2",
    "v2.20.2",
    {"keda": "cmd/operator", "keda-adapter": "cmd/adapter", "keda-webhooks": "cmd/webhooks"},
)
PROMETHEUS_OPERATOR = Source(
    SUITE, "github.com/prometheus-operator/prometheus-operator", "v0.85.0", {"prometheus-operator": "cmd/operator"}
)
PROMETHEUS_ADAPTER = Source(SUITE, "sigs.k8s.io/prometheus-adapter", "v0.12.0", {"prometheus-adapter": "cmd/adapter"})

SOURCES = (ETCD, KUBERNETES, KWOK, HELM, PROMETHEUS_OPERATOR, PROMETHEUS_ADAPTER, KEDA)


if __name__ == "__main__":
    try:
        build_all(SOURCES)
    except NotBuilt as error:
        sys.exit(str(error))
