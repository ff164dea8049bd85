"""A Debian system with Asterisk in a directory, out of the archive that this machine takes its packages from.

Debian 12 has no Asterisk; the suites before and after it have one. It runs nothing; `pbx.py` does.
"""

import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

DEFAULT_SUITE = "sid"

BUILD_S = 900.0
"""Longest time to make a tree: two minutes with a near mirror."""

_MIRROR_QUERY = ("apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages")


class TreeUnavailable(Exception):
    """There is no tree with Asterisk, and none can be made here; the text says why."""


def asterisk_tree(suite: str) -> Path:
    """Returns the root of a Debian suite with Asterisk, from the cache or new; raises TreeUnavailable."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "voicepool"
    tree = cache / f"asterisk-{suite}"
    if tree.exists():
        return tree
    if os.geteuid() != 0:
        raise TreeUnavailable("debootstrap, chroot and network namespaces need root")
    cache.mkdir(parents=True, exist_ok=True)
    # Beside its final place, so that it gets there whole or not at all.
    with TemporaryDirectory(prefix=f"asterisk-{suite}-", dir=cache) as directory:
        new = Path(directory) / "tree"
        _run("debootstrap", "--variant=minbase", suite, str(new), mirror())
        _install(new)
        new.chmod(0o755)
        new.rename(tree)
    return tree


def mirror() -> str:
    """Returns the archive that this machine takes its packages from, or what DEBIAN_MIRROR names."""
    if named := os.environ.get("DEBIAN_MIRROR"):
        return named
    sites = [site for site in _run(*_MIRROR_QUERY).split() if "security" not in site]
    if not sites:
        raise TreeUnavailable("apt knows no archive; name one in DEBIAN_MIRROR")
    return sites[0]


def _install(tree: Path) -> None:
    policy = tree / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")  # a package that is installed here is not to start anything
    policy.chmod(0o755)
    # debootstrap has left its lists of packages, whose signatures it has verified.
    inside = ("env", "DEBIAN_FRONTEND=noninteractive", "chroot", str(tree))
    _run(*inside, "apt-get", "install", "--yes", "--no-install-recommends", "asterisk", "asterisk-modules")
    _run(*inside, "apt-get", "clean")


def _run(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_S, check=False)
    except FileNotFoundError:
        raise TreeUnavailable(f"{command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise TreeUnavailable(f"{' '.join(command)}: no end after {BUILD_S:.0f} s") from None
    if done.returncode:
        raise TreeUnavailable(f"{' '.join(command)}: {(done.stderr or done.stdout)[-1000:].strip()}")
    return done.stdout
