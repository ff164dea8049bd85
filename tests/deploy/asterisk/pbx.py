"""A running Asterisk: in a Debian tree, on a host of its own, with its configuration and logs in a test's directory.

The tree is not written to, so that several may run in it at once. It knows nothing of the pool.
"""

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.faults.network import Host
from tests.acceptance.pool import until

START_S = 60.0
STOP_S = 15.0
COMMAND_S = 10.0

INSIDE = "/mnt"
"""What the test's directory is in the tree."""

_CONF = f"{INSIDE}/etc/asterisk.conf"

# Mounts of this process alone, which go when it does: `ip netns exec` gives it a mount namespace of its own.
_START = f"""
mount --bind "$1" "$2{INSIDE}" && mount -t proc proc "$2/proc" && exec chroot "$2" /usr/sbin/asterisk -f -C {_CONF}
"""

# In place of Debian's own.
_OURS = {
    "asterisk.conf": f"""
[directories]
astetcdir => {INSIDE}/etc
astrundir => {INSIDE}/run
astlogdir => {INSIDE}/log
astspooldir => {INSIDE}/spool
astdbdir => {INSIDE}/db
""",
    "logger.conf": """
[general]
[logfiles]
full = notice,warning,error
""",
    "rtp.conf": "[general]\nrtpstart = 10000\nrtpend = 10200\n",
}


class Pbx:
    """A running Asterisk; `host.address` is where it listens."""

    def __init__(self, host: Host, tree: Path, directory: Path, files: Mapping[str, str]) -> None:
        """Starts it; `files` are its configuration, by their names. Raises AssertionError with its log."""
        self.host = host
        self._tree = tree
        self._directory = directory
        shutil.copytree(tree / "etc/asterisk", directory / "etc")
        for name in ("run", "log", "spool", "db"):
            (directory / name).mkdir()
        for name, text in ({**_OURS, **files}).items():
            (directory / "etc" / name).write_text(text.lstrip())
        with (directory / "output").open("wb") as output:
            self._popen = subprocess.Popen(
                host.command(["sh", "-c", _START, "sh", str(directory), str(tree)]),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            until(self._is_up, START_S, self.tail)
        except BaseException:
            self.stop()
            raise

    def run(self, command: str) -> str:
        """Returns what its command line says to a command."""
        done = self._console(command)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}\n{self.tail()}"
        return done.stdout

    def reaches(self, aor: str) -> bool:
        """Whether it has had an answer to its last OPTIONS there."""
        return any(f"  {aor}/" in line and " Avail " in line for line in self.run("pjsip show contacts").splitlines())

    def log(self) -> str:
        """Returns what it has logged so far, notices and worse."""
        path = self._directory / "log/full"
        return path.read_text(errors="replace") if path.exists() else ""

    def tail(self, lines: int = 60) -> str:
        """Returns the end of its log and output, for failure messages."""
        text = (self._directory / "output").read_text(errors="replace") + self.log()
        return "\n".join(["--- asterisk, last lines:", *text.splitlines()[-lines:]])

    def stop(self) -> None:
        """Ends it; what it has mounted goes with it."""
        self._popen.terminate()
        try:
            self._popen.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
            raise

    def _is_up(self) -> bool:
        assert self._popen.poll() is None, self.tail()
        return "fully booted" in self._console("core waitfullybooted").stdout

    def _console(self, command: str) -> "subprocess.CompletedProcess[str]":
        inside = ["nsenter", "--target", str(self._popen.pid), "--mount", "--net"]
        asterisk = ["chroot", str(self._tree), "/usr/sbin/asterisk", "-C", _CONF, "-rx", command]
        return subprocess.run([*inside, *asterisk], capture_output=True, text=True, timeout=COMMAND_S, check=False)


@contextmanager
def running_pbx(host: Host, tree: Path, directory: Path, files: Mapping[str, str]) -> Iterator[Pbx]:
    """Runs an Asterisk for the block."""
    pbx = Pbx(host, tree, directory, files)
    try:
        yield pbx
    finally:
        pbx.stop()
