"""Builds programs from their published Go modules, once for each version.

It needs a Go toolchain and the Go module proxy; every module is checked against Go's checksum database. Which programs,
the suites of tests say that run them: `cluster/build.py` and `compose/build.py`. Nothing is started here.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

GO_MINOR = 26
"""Of Go 1: the oldest that all modules accept which the tests build."""

STEP_TIMEOUT_S = 3600.0
"""Of one `go build`: the API server takes ten minutes on two busy cores, KEDA twice that."""


class NotBuilt(Exception):
    """A program is not there, and the message says what to do about it."""


@dataclass(frozen=True)
class Source:
    """One published Go module, and the programs in it that the tests run: name -> package."""

    suite: str
    """Of the tests that need it: `make test-SUITE` builds it, and it is kept with what else they need."""
    module: str
    version: str
    programs: dict[str, str]
    staging: bool = False
    """Its `replace ./staging/...` lines stand for modules that are published under version v0.MINOR.PATCH."""
    link: str = ""
    """Flags of the linker beside those that leave out debugging."""
    sums: str = ""
    """Lines of go.sum for a version that the checksum database does not have, as a module has them that requires it."""

    @property
    def name(self) -> str:
        return self.module.replace("/", "-")

    @cached_property
    def directory(self) -> Path:
        """Where the programs of this version are kept, and the module they are built in."""
        return cache_root() / self.suite / f"{self.name}@{self.version}"

    def path(self, program: str) -> Path:
        return self.directory / program


def cache_root() -> Path:
    """The directory that has one for each suite: `$XDG_CACHE_HOME/voicepool`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "voicepool"


def program(source: Source, name: str) -> Path:
    """The program `name` of `source`, which has been built.

    Raises NotBuilt if it has not.
    """
    path = source.path(name)
    if not path.is_file():
        raise NotBuilt(f"{name} {source.version} is not built: make test-{source.suite} does it")
    return path


def module_files(source: Source) -> Path:
    """The unpacked files of the module, as published.

    Raises NotBuilt if they were not downloaded.
    """
    note = source.directory / "files"
    if not note.is_file() or not (files := Path(note.read_text())).is_dir():
        raise NotBuilt(f"{source.module} {source.version} is not downloaded: make test-{source.suite} does it")
    return files


def build_all(sources: Sequence[Source]) -> None:
    """Downloads and builds what is missing, and says on standard error what it does.

    Raises NotBuilt when there is no Go that is new enough, or a step of it fails.
    """
    for source in sources:
        with alone(source.directory):
            if not _is_complete(source):
                _build(toolchain(), source)


def _is_complete(source: Source) -> bool:
    try:
        module_files(source)
        return all(program(source, name) for name in source.programs)
    except NotBuilt:
        return False


def toolchain() -> str:
    """The `go` of this machine.

    Raises NotBuilt when there is none that is new enough.
    """
    go = shutil.which("go")
    if go is None:
        raise NotBuilt(f"Go 1.{GO_MINOR} or newer is needed to build programs for the tests: there is no `go` here.")
    version = run([go, "env", "GOVERSION"], Path.cwd()).strip()
    minor = version.removeprefix("go1.").split(".")[0]
    if not minor.isdecimal() or int(minor) < GO_MINOR:
        raise NotBuilt(f"Go 1.{GO_MINOR} or newer is needed to build programs for the tests: this is {version}.")
    return go


def _build(go: str, source: Source) -> None:
    """Builds what is missing in a module of its own, which requires `source` and replaces what its go.mod does."""
    began = time.monotonic()
    say(source.suite, f"{source.module} {source.version}: downloading")
    # Each directory has a go.mod, so that one above it cannot matter.
    (source.directory / "go.mod").write_text("module tests.invalid/build\n")
    (source.directory / "go.sum").write_text(source.sums)
    download = json.loads(run([go, "mod", "download", "-json", f"{source.module}@{source.version}"], source.directory))
    files = Path(download["Dir"])
    (source.directory / "go.mod").write_text(_go_mod(go, source, files))
    if (files / "go.sum").is_file():  # What it lacks is added, from the checksum database.
        (source.directory / "go.sum").write_text((files / "go.sum").read_text() + source.sums)
    for name, package in source.programs.items():
        if source.path(name).is_file():
            continue
        say(source.suite, f"{name} {source.version}: building")
        half_done = source.path(f"{name}.part")
        # fmt: off
        run([go, "build", "-mod=mod", "-p", str(os.cpu_count() or 1), "-trimpath", "-ldflags", f"-s -w {source.link}",
             "-o", str(half_done), f"{source.module}/{package}".rstrip("/")], source.directory)
        # fmt: on
        half_done.rename(source.path(name))
        say(source.suite, f"{name} {source.version}: {time.monotonic() - began:.0f} s after its beginning")
    (source.directory / "files").write_text(str(files))


def _go_mod(go: str, source: Source, files: Path) -> str:
    """A go.mod that builds `source` as its own go.mod would: `replace` counts only in the main module."""
    own: dict[str, Any] = json.loads(run([go, "mod", "edit", "-json", str(files / "go.mod")], source.directory))
    lines = ["module tests.invalid/build", f"go {own['Go']}", f"require {source.module} {source.version}"]
    for replace in own.get("Replace") or []:
        old, new = replace["Old"]["Path"], replace["New"]
        if "Version" in new:
            lines.append(f"replace {old} => {new['Path']} {new['Version']}")
        elif source.staging:
            lines.append(f"replace {old} => {old} {source.version.replace('v1.', 'v0.')}")
        # Without staging a directory stands for the same version of a sibling, which is what `require` says as well.
    return "\n".join(lines) + "\n"


def run(command: Sequence[str], directory: Path) -> str:
    """Standard output of a command that succeeds, run there as the least important process of this machine.

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
def alone(directory: Path) -> Iterator[None]:
    """Makes the directory, and waits until nobody else builds in it."""
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def say(suite: str, line: str) -> None:
    """Writes a line about what is being built for standard error."""
    sys.stderr.write(f"{suite}: {line}\n")
