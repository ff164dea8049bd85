"""What a figure was measured on: processor, kernel, interpreter and the versions that matter.

It measures nothing and names neither host nor user.
"""

import os
import platform
import re
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

_PACKAGES = ("uvloop", "aiohttp", "msgspec", "redis", "azure-ai-voicelive")


def describe() -> dict[str, Any]:
    """Returns the machine's description as plain values, in the order in which people would ask."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "system": _system(),
        "python": sys.version.split()[0],
        "pjproject": _pjproject(),
        "packages": {name: version(name) for name in _PACKAGES},
        "load_average_1min": round(os.getloadavg()[0], 2),
    }


def in_one_line(machine: dict[str, Any]) -> str:
    """Returns the description in one sentence."""
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']:.0f} GiB, {machine['system']}, "
        f"Linux {machine['kernel']}, Python {machine['python']}, pjproject {machine['pjproject']}"
    )


def _processor() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return platform.system()


def _pjproject() -> str:
    import pjsua2 as pj  # here only: loading it takes long

    return str(pj.Endpoint().libVersion().full)
