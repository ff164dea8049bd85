"""Fetches the source of pjproject and says which version it is.

Does not build it. Two places are known: the upstream release (pinned by its hash) and, where that is not reachable,
Debian's source package of Asterisk, which carries pjproject as a component and whose signature apt verifies.
"""

import re
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from build_steps import BuildFailed, BuildLog, say, sha256_of

UPSTREAM_URL = "https://github.com/pjsip/pjproject/archive/refs/tags/2.17.tar.gz"
UPSTREAM_SHA256 = "065fe06c06788d97c35f563796d59f00ce52fe9558a52d7b490a042a966facce"
DOWNLOAD_TIMEOUT_S = 30  # without any data

OLDEST_VERSION = (2, 16)  # the first whose conference bridge removes ports asynchronously and safely enough

DEBIAN_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
DEBIAN_COMPONENT = "asterisk_*.orig-Xpjproject.tar.*"
SID_SOURCES = """\
Types: deb-src
URIs: {mirror}
Suites: sid
Components: main
Signed-By: {keyring}
"""


@dataclass(frozen=True)
class Source:
    """A tarball of pjproject, its hash and where it came from."""

    tarball: Path
    sha256: str
    origin: str


def given_source(tarball: Path) -> Source:
    """The tarball a user named. Raises BuildFailed if it is not there."""
    if not tarball.is_file():
        raise BuildFailed(f"{tarball} is not a file; --source wants a tarball of pjproject")
    return Source(tarball, sha256_of(tarball), tarball.name)


def fetch_source(sources: Path, log: BuildLog) -> Source:
    """A tarball in the `sources` directory, downloaded if none is there yet.

    Raises BuildFailed if neither upstream nor a Debian archive can be reached, or if a hash is wrong.
    """
    sources.mkdir(parents=True, exist_ok=True)
    upstream = sources / "upstream-2.17.tar.gz"
    if upstream.exists() and sha256_of(upstream) == UPSTREAM_SHA256:
        return Source(upstream, UPSTREAM_SHA256, "upstream release")
    for tarball in sorted(sources.glob("debian-*.tar.*")):
        if tarball.name.split(".")[0] == f"debian-{(digest := sha256_of(tarball))}":
            return Source(tarball, digest, "Debian source package")
    try:
        _download_upstream(upstream)
        return Source(upstream, UPSTREAM_SHA256, "upstream release")
    except OSError as error:  # URLError and time-outs are OSErrors
        say(f"the upstream release is not reachable ({error}), trying Debian's source package")
    return _download_from_debian(sources, log)


def unpack(source: Source, into: Path) -> Path:
    """Unpack the tarball into the empty directory `into` and return the top of the source tree."""
    try:
        with tarfile.open(source.tarball) as archive:
            # Pythons before 3.11.4 have no filters; the hash was verified by then.
            archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)
            archive.extractall(into)
    except tarfile.TarError as error:
        raise BuildFailed(f"cannot unpack {source.tarball}: {error}") from error
    tops = [path.parent for path in into.glob("*/version.mak")]
    if len(tops) != 1:
        raise BuildFailed(f"{source.tarball} holds no pjproject: version.mak is missing")
    return tops[0]


def read_version(top: Path) -> str:
    """The version in version.mak, such as '2.17'. Raises BuildFailed if it is too old."""
    text = (top / "version.mak").read_text()
    parts = dict(re.findall(r"export PJ_VERSION_(MAJOR|MINOR|REV|SUFFIX)[ \t]*:=[ \t]*(\S*)", text))
    try:
        number = (int(parts["MAJOR"]), int(parts["MINOR"]))
    except (KeyError, ValueError):
        raise BuildFailed(f"cannot read the version in {top / 'version.mak'}") from None
    if number < OLDEST_VERSION:
        raise BuildFailed(f"pjproject {number[0]}.{number[1]} is too old, 2.16 or later is needed")
    revision = f".{parts['REV']}" if parts.get("REV") else ""
    return f"{number[0]}.{number[1]}{revision}{parts.get('SUFFIX', '')}"


def _download_upstream(tarball: Path) -> None:
    """Raises OSError if the host cannot be reached, BuildFailed if it sends something else."""
    say(f"download {UPSTREAM_URL} ...")
    partial = tarball.with_suffix(".part")
    try:
        with (
            urllib.request.urlopen(UPSTREAM_URL, timeout=DOWNLOAD_TIMEOUT_S) as response,
            partial.open("wb") as file,
        ):
            shutil.copyfileobj(response, file)
        if (digest := sha256_of(partial)) != UPSTREAM_SHA256:
            raise BuildFailed(f"{UPSTREAM_URL} has SHA-256 {digest}, expected {UPSTREAM_SHA256}")
        partial.rename(tarball)
    finally:
        partial.unlink(missing_ok=True)


def _download_from_debian(sources: Path, log: BuildLog) -> Source:
    """`apt-get source` with directories of its own, so that the system's configuration stays as it is."""
    if shutil.which("apt-get") is None or not DEBIAN_KEYRING.exists():
        raise BuildFailed(
            f"this is no Debian with its archive keyring either. Download {UPSTREAM_URL} elsewhere"
            " and pass it with --source."
        )
    mirror = _debian_mirror()
    with tempfile.TemporaryDirectory(dir=sources) as name:
        work = Path(name)
        for directory in ("lists/partial", "cache/archives/partial", "parts", "download"):
            (work / directory).mkdir(parents=True)
        (work / "parts" / "sid.sources").write_text(SID_SOURCES.format(mirror=mirror, keyring=DEBIAN_KEYRING))
        apt = ["apt-get", *_apt_options(work)]
        log.run("Debian: read the index of sources", [*apt, "update"])
        fetch = [*apt, "source", "--download-only", "asterisk"]
        log.run("Debian: download the source package", fetch, cwd=work / "download")
        found = list((work / "download").glob(DEBIAN_COMPONENT))
        if len(found) != 1:
            raise BuildFailed(f"Debian's source package of Asterisk has no pjproject any more: {found}")
        digest = sha256_of(found[0])
        tarball = sources / f"debian-{digest}{''.join(found[0].suffixes[-2:])}"
        found[0].rename(tarball)
    return Source(tarball, digest, "Debian source package")


def _apt_options(work: Path) -> list[str]:
    options = {
        "Dir::Etc::SourceList": "/dev/null",
        "Dir::Etc::SourceParts": work / "parts",
        "Dir::State::Lists": work / "lists",
        "Dir::Cache": work / "cache",
        "Acquire::Check-Valid-Until": "false",  # the Release file of a frozen mirror expires
        "APT::Sandbox::User": "root",  # the _apt user cannot write into our directories
    }
    return [argument for name, value in options.items() for argument in ("-o", f"{name}={value}")]


def _debian_mirror() -> str:
    """The first Debian main archive in the machine's own apt configuration."""
    command = ["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    for site in listed:
        if re.search(r"/debian(\.list)?/?$", site):  # not debian-security, not a vendor's archive
            return site
    raise BuildFailed("apt knows no Debian archive here. Download pjproject elsewhere and pass it with --source.")
