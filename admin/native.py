"""`voicepool build-native`: what a worker needs besides Python packages, built into this virtual environment.

It compiles nothing itself: that is `worker/pjsip/native/build.py`, which comes with the package.
"""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import click


@click.command("build-native", context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def build_native(arguments: tuple[str, ...]) -> None:
    """Build pjproject and the audio port into this virtual environment; needed once where workers run.

    It takes some minutes and Debian packages; `voicepool build-native -- --help` says which, and what else it can do.
    """
    worker = find_spec("worker")
    assert worker is not None and worker.submodule_search_locations, "it comes with this package"
    script = Path(worker.submodule_search_locations[0], "pjsip", "native", "build.py")
    sys.exit(subprocess.run([sys.executable, script, *arguments], check=False).returncode)
