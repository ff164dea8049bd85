"""Builds a Kubernetes control plane, Helm and KEDA from their published Go modules, once for each version.

`python -m tests.deploy.cluster.build` does it, and says how long each took. It needs a Go toolchain and the Go module
proxy; every module is checked against Go's checksum database. Nothing is started here: that is `plane.py`.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

GO_MINOR = 26
"""Of Go 1: the oldest that all the modules below accept."""

STEP_TIMEOUT_S = 3600.0
"""Of one `go build`: the API server takes ten minutes on two busy cores, KEDA twice that."""


class NotBuilt(Exception):
    """A program is not there, and the message says what to do about it."""


@dataclass(frozen=True)
class Source:
    """One published Go module, and the programs in it that the tests run: name -> package."""

    module: str
    version: str
    programs: dict[str, str]
    staging: bool = False
    """Its `replace ./staging/...` lines stand for modules that are published under version v0.MINOR.PATCH."""
    link: str = ""
    """Flags of the linker beside those that leave out debugging."""

    @property
    def name(self) -> str:
        return self.module.replace("/", "-")

    @cached_property
    def directory(self) -> Path:
        """Where the programs of this version are kept, and the module they are built in."""
        return cache_root() / f"{self.name}@{self.version}"

    def path(self, program: str) -> Path:
        return self.directory / program


_COMPONENT = "k8s.io/component-base/version"

KUBERNETES = Source(
    "k8s.io/kubernetes",
    "v1.34.4",
    {name: f"cmd/{name}" for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")},
    staging=True,
    # Without it every program says v0.0.0, and charts that ask for a version of Kubernetes are refused.
    link=f"-X {_COMPONENT}.gitVersion=v1.34.4 -X {_COMPONENT}.gitMajor=1 -X {_COMPONENT}.gitMinor=34",
)
ETCD = Source("go.etcd.io/etcd/server/v3", "v3.6.5", {"etcd": ""})
KWOK = Source("sigs.k8s.io/kwok", "v0.7.0", {"kwok": "cmd/kwok"})
HELM = Source("helm.sh/helm/v3", "v3.19.5", {"helm": "cmd/helm"})
KEDA = Source("github.com/kedacore/keda/v2", "v2.20.2", {"keda": "cmd/operator", "keda-adapter": "cmd/adapter"})
PROMETHEUS_OPERATOR = Source("github.com/prometheus-operator/prometheus-operator", "v0.85.0", {})
"""Only for its definitions of ServiceMonitor and the like: no program of it runs."""

SOURCES = (ETCD, KUBERNETES, KWOK, HELM, PROMETHEUS_OPERATOR, KEDA)


def cache_root() -> Path:
    """The directory everything is built in: `$XDG_CACHE_HOME/voicepool/cluster`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "voicepool" / "cluster"


def program(source: Source, name: str) -> Path:
    """The program `name` of `source`, which has been built.

    Raises NotBuilt if it has not.
    """
    path = source.path(name)
    if not path.is_file():
        raise NotBuilt(f"{name} {source.version} is not built: make test-cluster does it")
    return path


def module_files(source: Source) -> Path:
    """The unpacked files of the module, as published.

    Raises NotBuilt if they were not downloaded.
    """
    note = source.directory / "files"
    if not note.is_file() or not (files := Path(note.read_text())).is_dir():
        raise NotBuilt(f"{source.module} {source.version} is not downloaded: make test-cluster does it")
    return files


def build_all(sources: tuple[Source, ...] = SOURCES) -> None:
    """Downloads and builds what is missing, and says on standard error what it does.

    Raises NotBuilt when there is no Go that is new enough, or a step of it fails.
    """
    with _alone():
        missing = [source for source in sources if not _is_complete(source)]
        if missing:
            go = _toolchain()
        for source in missing:
            _build(go, source)


def _is_complete(source: Source) -> bool:
    try:
        module_files(source)
        return all(program(source, name) for name in source.programs)
    except NotBuilt:
        return False


def _toolchain() -> str:
    go = shutil.which("go")
    if go is None:
        raise NotBuilt(
            f"Go 1.{GO_MINOR} or newer is needed to build a Kubernetes control plane: there is no `go` here."
        )
    version = _run([go, "env", "GOVERSION"], Path.cwd()).strip()
    minor = version.removeprefix("go1.").split(".")[0]
    if not minor.isdecimal() or int(minor) < GO_MINOR:
        raise NotBuilt(f"Go 1.{GO_MINOR} or newer is needed to build a Kubernetes control plane: this is {version}.")
    return go


def _build(go: str, source: Source) -> None:
    """Builds what is missing in a module of its own, which requires `source` and replaces what its go.mod does."""
    source.directory.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    _say(f"{source.module} {source.version}: downloading")
    # Each directory has a go.mod, so that one above it cannot matter.
    (source.directory / "go.mod").write_text("module cluster.invalid/build\n")
    download = json.loads(_run([go, "mod", "download", "-json", f"{source.module}@{source.version}"], source.directory))
    files = Path(download["Dir"])
    (source.directory / "go.mod").write_text(_go_mod(go, source, files))
    if (files / "go.sum").is_file():  # What it lacks is added, from the checksum database.
        shutil.copyfile(files / "go.sum", source.directory / "go.sum")
    for name, package in source.programs.items():
        if source.path(name).is_file():
            continue
        _say(f"{name} {source.version}: building")
        half_done = source.path(f"{name}.part")
        # fmt: off
        _run([go, "build", "-mod=mod", "-p", str(os.cpu_count() or 1), "-trimpath", "-ldflags", f"-s -w {source.link}",
              "-o", str(half_done), f"{source.module}/{package}".rstrip("/")], source.directory)
        # fmt: on
        half_done.rename(source.path(name))
        _say(f"{name} {source.version}: {time.monotonic() - began:.0f} s after its beginning")
    (source.directory / "files").write_text(str(files))


def _go_mod(go: str, source: Source, files: Path) -> str:
    """A go.mod that builds `source` as its own go.mod would: `replace` counts only in the main module."""
    own: dict[str, Any] = json.loads(_run([go, "mod", "edit", "-json", str(files / "go.mod")], source.directory))
    lines = ["module cluster.invalid/build", f"go {own['Go']}", f"require {source.module} {source.version}"]
    for replace in own.get("Replace") or []:
        old, new = replace["Old"]["Path"], replace["New"]
        if "Version" in new:
            lines.append(f"replace {old} => {new['Path']} {new['Version']}")
        elif source.staging:
            lines.append(f"replace {old} => {old} {source.version.replace('v1.', 'v0.')}")
        # Without staging a directory stands for the same version of a sibling, which is what `require` says as well.
    return "\n".join(lines) + "\n"


def _run(command: list[str], directory: Path) -> str:
    """Standard output of a command that succeeds, run as the least important process of this machine.

    Raises NotBuilt with the end of what it said otherwise.
    """
    environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}
    try:
        # fmt: off
        done = subprocess.run(["nice", "-n", "15", *command], cwd=directory, env=environment, timeout=STEP_TIMEOUT_S,
                              capture_output=True, text=True)
        # fmt: on
    except subprocess.TimeoutExpired:
        raise NotBuilt(f"{' '.join(command[:3])} took longer than {STEP_TIMEOUT_S:.0f} s.") from None
    if done.returncode:
        raise NotBuilt(f"{' '.join(command)} failed:\n{(done.stderr or done.stdout)[-3000:]}")
    return done.stdout


@contextmanager
def _alone() -> Iterator[None]:
    """Waits until nobody else builds."""
    cache_root().mkdir(parents=True, exist_ok=True)
    with open(cache_root() / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _say(line: str) -> None:
    sys.stderr.write(f"cluster: {line}\n")


if __name__ == "__main__":
    try:
        build_all()
    except NotBuilt as error:
        sys.exit(str(error))
