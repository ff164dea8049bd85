"""Builds pjproject, its Python binding pjsua2 and the audio port, and installs them into the virtual environment.

    .venv/bin/python worker/pjsip/native/build.py

Installs nothing outside the environment of the Python that runs it, and needs nothing but the standard library and
the Debian packages of apt-packages.txt. The slow part is built once for each recipe, Python and machine and kept in
${XDG_CACHE_HOME:-~/.cache}/voicepool. A second run, checkout or environment takes it from there.
"""

import argparse
import fcntl
import hashlib
import json
import os
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from build_pjproject import (
    HERE,
    LIBS,
    Artifact,
    build_artifact,
    compile_flags,
    extension_name,
    find_artifact,
    link_flags,
    recipe_key,
)
from build_steps import BuildFailed, BuildLog, say

APT_PACKAGES = HERE / "apt-packages.txt"
PORT_SOURCES = (HERE / "audio_port.c", HERE / "taps.h")
PORT_FLAGS = ("-std=c11", "-O3", "-fno-math-errno", "-Wall", "-Wextra", "-fvisibility=hidden")
PORT_LIBRARIES = ("pjsua", "pjmedia", "pj")

# Both modules must find the same copy of every library: pjsua's state is a global variable of libpjsua.
IMPORT_CHECK = """
import pjaudioport, pjsua2, re
mapped = set(re.findall(r"/\\S*/libpj\\S*", open("/proc/self/maps").read()))
names = [path.rpartition("/")[2] for path in mapped]
assert any(name.startswith("libpjsua.so") for name in names), mapped
assert len(names) == len(set(names)), f"a library is loaded twice: {sorted(mapped)}"
"""


def main(arguments: list[str] | None = None) -> int:
    """Exit status for the shell: 0 done or up to date, 1 failed, with a message on stderr."""
    options = _parse(arguments)
    try:
        say(_build(options))
    except BuildFailed as error:
        sys.stderr.write(f"build.py: {error}\n")
        return 1
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    lines = (line.partition("#")[0].split() for line in APT_PACKAGES.read_text().splitlines())
    packages = dict.fromkeys(line[0] for line in lines if line)
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0], epilog=f"Debian packages that it needs: {', '.join(packages)}"
    )
    parser.add_argument("--force", action="store_true", help="build again, whatever the cache holds")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="files compiled at once (%(default)s)")
    parser.add_argument("--source", type=Path, metavar="TARBALL", help="pjproject from this file, no download")
    return parser.parse_args(arguments)


def _build(options: argparse.Namespace) -> str:
    """The line that tells what was done."""
    site = _site_packages()
    installed = _read_stamp(site)
    if installed == _wanted_stamp(installed.get("artifact", "")) and not (options.force or options.source):
        _check_imports(site)
        return f"pjsua2 and pjaudioport are up to date ({installed['artifact']})"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "voicepool"
    cache.mkdir(parents=True, exist_ok=True)
    _check_packages()
    artifact = None if options.force else find_artifact(cache, options.source)
    how = "taken from the cache"
    if artifact is None:
        with _locked(cache / "lock"):
            artifact = None if options.force else find_artifact(cache, options.source)  # the other build's
            if artifact is None:
                how = "built"
                artifact = build_artifact(cache, options.source, BuildLog(cache / "build.log"), options.jobs)
    _install(artifact, site)
    return f"pjproject {artifact.version} ({artifact.origin}) {how}, pjsua2 and pjaudioport are in {site}"


def _site_packages() -> Path:
    if sys.prefix == sys.base_prefix:
        raise BuildFailed("run this with the Python of a virtual environment, such as .venv/bin/python")
    return Path(sysconfig.get_path("platlib"))


# What is installed, and whether it is what this checkout asks for


def _wanted_stamp(artifact: str) -> dict[str, str]:
    """What the stamp of an environment says that is up to date and uses the named artifact."""
    digest = hashlib.sha256(repr(PORT_FLAGS).encode())
    for path in PORT_SOURCES:
        digest.update(path.read_bytes())
    return {"artifact": artifact, "recipe": recipe_key(), "port": digest.hexdigest()}


def _stamp_path(site: Path) -> Path:
    return site / LIBS / "installed.json"


def _read_stamp(site: Path) -> dict[str, str]:
    try:
        return dict(json.loads(_stamp_path(site).read_text()))
    except (OSError, ValueError):
        return {}


def _write_stamp(site: Path, artifact: Artifact) -> None:
    partial = _stamp_path(site).with_suffix(".tmp")
    partial.write_text(json.dumps(_wanted_stamp(artifact.name)))
    partial.replace(_stamp_path(site))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One at a time; the kernel lets go of the lock when its holder is killed."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another build is running, waiting for it ...")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


# What the system must bring


def _check_packages() -> None:
    """Raises BuildFailed with the names of all Debian packages that are missing."""
    lines = (re.sub("#.*", "", line).split() for line in APT_PACKAGES.read_text().splitlines())
    probes = [(package, *probe.split(":")) for package, probe in filter(None, lines)]
    missing = {package for package, kind, name in probes if kind == "command" and not shutil.which(name)}
    if not missing:
        headers = {name: package for package, kind, name in probes if kind == "header"}
        missing = {headers[name] for name in _missing_headers(list(headers))}
    if missing:
        raise BuildFailed(
            "system packages are missing. On Debian:\n"
            f"    apt-get install --no-install-recommends --yes {' '.join(sorted(missing))}"
        )


def _missing_headers(names: list[str]) -> list[str]:
    """Those of the headers that the C compiler does not find."""
    code = "".join(f"#if !__has_include(<{name}>)\nmissing {name}\n#endif\n" for name in names)
    command = ["gcc", "-E", "-P", f"-I{sysconfig.get_path('include')}", "-xc", "-"]
    found = subprocess.run(command, input=code, capture_output=True, text=True, check=True)
    return [line.split()[1] for line in found.stdout.splitlines() if line.startswith("missing ")]


# Into the environment, while other processes may be using it


def _install(artifact: Artifact, site: Path) -> None:
    (site / LIBS).mkdir(exist_ok=True)
    with _locked(site / LIBS / "lock"):
        _install_artifact(artifact, site)
        _install_port(artifact, site)
        _check_imports(site)
        _write_stamp(site, artifact)


def _install_artifact(artifact: Artifact, site: Path) -> None:
    """Libraries first, under a name of their own; then what refers to them; then older libraries go."""
    libs = site / LIBS
    if not (libs / artifact.name).exists():
        with tempfile.TemporaryDirectory(dir=libs) as name:
            copy = shutil.copytree(artifact.libs, Path(name) / "new")
            copy.rename(libs / artifact.name)
    for path in artifact.site.glob("*pjsua2*"):
        if path.is_file():
            _replace(path, site / path.name)
    py_compile.compile(str(site / "pjsua2.py"))  # 620 kB of source: two seconds, not at the first call
    for other in libs.glob("pjproject-*"):
        if other.name != artifact.name:
            shutil.rmtree(other)


def _install_port(artifact: Artifact, site: Path) -> None:
    log = BuildLog(site / LIBS / "audio_port.log")
    with tempfile.TemporaryDirectory(dir=site / LIBS) as name:
        built = Path(name) / extension_name("pjaudioport")
        flags = [*compile_flags(artifact.include), *PORT_FLAGS]
        libraries = link_flags(artifact, *PORT_LIBRARIES)
        log.run("compile the audio port", ["gcc", *flags, str(PORT_SOURCES[0]), "-o", str(built), *libraries])
        _replace(built, site / built.name)


def _replace(source: Path, target: Path) -> None:
    """Processes that have the old file open keep it, later ones get the new one."""
    partial = target.with_name(f".{target.name}.tmp")
    shutil.copy(source, partial)
    partial.replace(target)


def _check_imports(site: Path) -> None:
    command = [sys.executable, "-c", IMPORT_CHECK]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise BuildFailed(f"the modules in {site} cannot be imported:\n{result.stderr}\nTry --force.")


if __name__ == "__main__":
    sys.exit(main())
