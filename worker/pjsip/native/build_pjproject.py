"""Builds pjproject and its Python binding into a cache that every checkout and virtual environment shares.

Does not touch a virtual environment. A cache entry is a directory

    pjproject-<version>-<source>-<recipe>/
        site/        what goes into site-packages: pjsua2.py, _pjsua2.*.so, pjsua2.libs/<entry>/lib*.so.*
        include/     the headers, config_site.h among them, for compiling the audio port
        build.json   version, origin and hash of the source

that appears by one rename when it is complete. This file, config_site.h and the patches are the recipe: editing one of
them builds anew. Entries may be deleted at any time.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from build_source import Source, fetch_source, given_source, read_version, unpack
from build_steps import BuildLog, say

HERE = Path(__file__).resolve().parent
CONFIG_SITE = HERE / "config_site.h"
PATCHES = sorted((HERE / "patches").glob("*.patch"))
NEWEST_PATCHED = "2.17"  # up to here every patch must apply, later it may have been mended upstream

CFLAGS = ("-O2", "-DNDEBUG", "-fPIC")  # NDEBUG: a failed assertion must not end a worker with all its calls
CONFIGURE = (
    "--enable-shared",
    "--enable-epoll",
    "--disable-sound",  # the bridge is driven by a null device
    "--disable-video",
    "--disable-sdl",
    "--disable-ffmpeg",
    "--disable-v4l2",
    "--disable-openh264",
    "--disable-libyuv",
    "--disable-libwebrtc",  # no echo canceller
    "--disable-upnp",
    # The system's libraries instead of bundled copies: Debian's source has none, and security updates reach them.
    "--with-external-speex",
    "--with-external-gsm",
    "--with-external-srtp",
    "--enable-speex-resample",
    "--disable-ilbc-codec",
    "--disable-g7221-codec",
    "--disable-silk",
    "--disable-lyra",
    "--disable-opencore-amr",
    f"CFLAGS={' '.join(CFLAGS)}",
    f"CXXFLAGS={' '.join(CFLAGS)}",
)
# Debian's source lacks this file, the Makefile names it although nothing of it is compiled in.
STRIPPED_FILES = ("pjmedia/src/pjmedia-audiodev/bdimad_dev.c",)
MODULES = ("pjlib", "pjlib-util", "pjnath", "pjmedia", "pjsip")
LIBS = "pjsua2.libs"


@dataclass(frozen=True)
class Artifact:
    """One complete cache entry."""

    directory: Path
    version: str
    origin: str

    @property
    def name(self) -> str:
        """Identifies the build: version, source and recipe."""
        return self.directory.name

    @property
    def site(self) -> Path:
        return self.directory / "site"

    @property
    def include(self) -> Path:
        return self.directory / "include"

    @property
    def libs(self) -> Path:
        return self.site / LIBS / self.name


def recipe_key() -> str:
    """Hash of all that decides what a source is built to."""
    digest = hashlib.sha256()
    for path in (Path(__file__), CONFIG_SITE, *PATCHES):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    digest.update(repr((sys.version_info[:2], _extension_suffix(), platform.machine(), _system())).encode())
    return digest.hexdigest()[:12]


def find_artifact(cache: Path, source: Path | None) -> Artifact | None:
    """A cache entry of this recipe, of the given tarball if one is given."""
    wanted = f"-{given_source(source).sha256[:12]}-" if source else "-"
    for directory in sorted(cache.glob(f"pjproject-*-{recipe_key()}"), reverse=True):
        if wanted in directory.name and (directory / "build.json").is_file():
            facts = json.loads((directory / "build.json").read_text())
            return Artifact(directory, facts["version"], facts["origin"])
    return None


def build_artifact(cache: Path, source: Path | None, log: BuildLog, jobs: int) -> Artifact:
    """Fetch, build and add to the cache, which the caller has locked. Raises BuildFailed and then adds nothing."""
    for remains in cache.glob("building-*"):  # of a build that was killed
        shutil.rmtree(remains)
    tarball = given_source(source) if source else fetch_source(cache / "sources", log)
    with tempfile.TemporaryDirectory(dir=cache, prefix="building-") as name:
        work = Path(name)
        top = unpack(tarball, work / "source")
        version = read_version(top)
        entry = f"pjproject-{version}-{tarball.sha256[:12]}-{recipe_key()}"
        say(f"pjproject {version} from the {tarball.origin}")
        made = Artifact(work / entry, version, tarball.origin)
        made.libs.mkdir(parents=True)
        _prepare(top, version, log)
        _compile(top, made, work, log, jobs)
        _collect(top, made, tarball)
        return _publish(made, cache)


def compile_flags(include: Path) -> list[str]:
    """Flags for a C or C++ file that includes headers of pjproject and of Python."""
    little = int(sys.byteorder == "little")
    macros = ("PJ_AUTOCONF=1", f"PJ_IS_LITTLE_ENDIAN={little}", f"PJ_IS_BIG_ENDIAN={1 - little}")
    return [
        *CFLAGS,
        *(f"-D{macro}" for macro in macros),
        f"-I{include}",
        f"-I{sysconfig.get_path('include')}",
    ]


def link_flags(artifact: Artifact, *libraries: str) -> list[str]:
    """Flags for an extension module in site-packages that uses libraries of pjproject."""
    return [
        "-shared",
        f"-L{artifact.libs}",
        *(f"-l:{path.name}" for name in libraries for path in artifact.libs.glob(f"lib{name}.so.*")),
        f"-Wl,-rpath,$ORIGIN/{LIBS}/{artifact.name}",
        f"-Wl,-rpath-link,{artifact.libs}",
    ]


def extension_name(module: str) -> str:
    """File name of an extension module for this Python."""
    return f"{module}{_extension_suffix()}"


def _extension_suffix() -> str:
    return str(sysconfig.get_config_var("EXT_SUFFIX"))


def _system() -> Mapping[str, str]:
    """Distribution and release: binaries of one need not run on another that shares the cache."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return {}
    return {name: release.get(name, "") for name in ("ID", "VERSION_ID")}


def _prepare(top: Path, version: str, log: BuildLog) -> None:
    """Configuration, known bugs and files that Debian removed."""
    shutil.copyfile(CONFIG_SITE, top / "pjlib/include/pj/config_site.h")
    for name in STRIPPED_FILES:
        (top / name).touch()
    for patch in PATCHES:
        command = ["patch", "--strip=1", "--batch", "--fuzz=0", f"--input={patch}"]
        if _number(version) > _number(NEWEST_PATCHED):
            trial = subprocess.run([*command, "--dry-run"], cwd=top, capture_output=True, check=False)
            if trial.returncode:
                say(f"{patch.name} does not apply to {version} and is left out; check that upstream has mended it")
                continue
        log.run(f"patch {patch.stem}", command, cwd=top)


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("-")[0].split(".")[:2])


def _compile(top: Path, made: Artifact, work: Path, log: BuildLog, jobs: int) -> None:
    """configure, then the libraries and the binding side by side."""
    binding = top / "pjsip-apps/src/swig/python"
    headers = [f"-I{top / module / 'include'}" for module in MODULES]
    # ld takes the run path from the environment: no quoting of $ORIGIN through three layers of make and shell.
    origin = {"LD_RUN_PATH": "$ORIGIN"}
    log.run("configure", ["./configure", f"--prefix={work / 'prefix'}", *CONFIGURE], cwd=top)
    swig = ["swig", *headers, "-c++", "-w312", "-threads", "-doxygen", "-python"]
    log.run("generate the Python binding", [*swig, "-o", "pjsua2_wrap.cpp", "../pjsua2.i"], cwd=binding)
    flags = [*headers, *compile_flags(made.include)]
    log.run(
        "compile",
        ["make", f"-j{max(1, jobs - 1)}", "lib"],
        ["g++", *flags, "-c", str(binding / "pjsua2_wrap.cpp"), "-o", str(work / "wrap.o")],
        cwd=top,
        env=origin,
        progress=lambda: f"{sum(1 for _ in work.rglob('*.o'))} files",
    )
    for module in MODULES:
        for library in (top / module / "lib").glob("*.so.*"):
            shutil.copy(library, made.libs, follow_symlinks=False)
    target = made.site / extension_name("_pjsua2")
    libraries = link_flags(made, "pjsua2", "pjsua", "pj")
    log.run("link the Python binding", ["g++", "-o", str(target), str(work / "wrap.o"), *libraries])


def _collect(top: Path, made: Artifact, source: Source) -> None:
    """What is wanted besides the libraries, and the facts about the build."""
    shutil.copy(top / "pjsip-apps/src/swig/python/pjsua2.py", made.site)
    for module in MODULES:
        shutil.copytree(top / module / "include", made.include, dirs_exist_ok=True)
    shutil.copy(top / "COPYING", made.libs)
    facts = {"version": made.version, "origin": source.origin, "sha256": source.sha256}
    (made.directory / "build.json").write_text(json.dumps(facts, indent=1))


def _publish(made: Artifact, cache: Path) -> Artifact:
    """Move the complete entry into the cache, in the place of an older one of the same name."""
    final = cache / made.name
    if final.exists():
        with tempfile.TemporaryDirectory(dir=cache, prefix="building-") as name:
            os.rename(final, Path(name) / "old")
            os.rename(made.directory, final)
    else:
        os.rename(made.directory, final)
    return Artifact(final, made.version, made.origin)
