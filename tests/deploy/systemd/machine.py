"""A Debian 12 that its own systemd has booted, in a container of systemd-nspawn: the host that docs/debian.md is about.

Its files are a debootstrap tree, kept in the cache, under an overlay that is gone with it, as are its processes, its
mounts and its network, of which it has none but its own. What voicepool needs there, the guide says, not this module.
"""

import hashlib
import os
import queue
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

HOME = "/root"
"""Of who types the commands into the machine."""

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "voicepool" / "systemd"

SUITE = "bookworm"
MADE_S = 1800.0
"""From nothing, packages and all."""

COMMAND_S = 60.0
BOOT_S = 120.0
"""Until all units that are enabled have started: with a pool, until it takes calls."""

OFF_S = 60.0
"""Workers may still be draining."""

REBOOT = 133
"""Exit code of systemd-nspawn, with --keep-unit, that asks to be started again."""

ADDRESS = "192.168.77.10"
"""The machine's, on a network of which nobody else is part."""

NEEDED = ("debootstrap", "systemd-nspawn", "nsenter", "setpriv", "unshare")

_NETWORK = {
    "lan.netdev": "[NetDev]\nName=lan0\nKind=veth\n[Peer]\nName=lan1\n",
    "lan0.network": f"[Match]\nName=lan0\n[Network]\nAddress={ADDRESS}/24\n",
    "lan1.network": "[Match]\nName=lan1\n[Link]\nRequiredForOnline=no\n",
}
"""A cable whose other end is in nobody's hands, for systemd-networkd."""

_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": HOME,
    "LANG": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    "PIP_CERT": "/etc/ssl/certs/ca-certificates.crt",
}


def missing() -> str:
    """Returns what a machine cannot be booted without and is not here, in one line; empty when all is."""
    if os.geteuid() != 0:
        return "only root can boot a machine"
    programs = [name for name in NEEDED if not shutil.which(name)]
    packages = "debootstrap systemd-container util-linux"
    return f"{', '.join(programs)} not found: apt-get install {packages}" if programs else ""


def tree(packages: str) -> Path:
    """Returns Debian with what the commands in `packages` install: from the cache, or made anew in some minutes."""
    recipe = repr((SUITE, _NETWORK, packages))
    made = CACHE / f"tree-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    if made.exists():
        return made
    for former in CACHE.glob("tree-*"):
        shutil.rmtree(former)
    making = CACHE / "tree-new"
    CACHE.mkdir(parents=True, exist_ok=True)
    mirror = os.environ.get("DEBIAN_MIRROR") or _mirror()
    _run(["debootstrap", "--include=dbus,systemd-sysv", "--components=main", SUITE, str(making), mirror], MADE_S)
    suites = {SUITE: mirror, f"{SUITE}-updates": mirror, f"{SUITE}-security": f"{mirror}-security"}
    sources = "".join(f"deb {where} {suite} main\n" for suite, where in suites.items())
    (making / "etc/apt/sources.list").write_text(sources)
    for file, text in _NETWORK.items():
        (making / "etc/systemd/network" / file).write_text(text)
    authorities = making / "usr/local/share/ca-certificates"
    authorities.mkdir(parents=True)
    # Those that this host trusts beside the public ones, of a proxy that looks into TLS.
    for authority in Path("/usr/local/share/ca-certificates").glob("*.crt"):
        shutil.copy(authority, authorities)
    # Debian's archive is asked for all that the guide installs, and for its updates.
    no_services = making / "usr/sbin/policy-rc.d"  # nothing starts here yet: policy-rc.d(8)
    no_services.write_text("#!/bin/sh\nexit 101\n")
    no_services.chmod(0o755)
    _run(_nspawn(making, *_shell(f"apt-get update\n{packages}\nsystemctl enable systemd-networkd")), MADE_S)
    no_services.unlink()
    making.rename(made)
    return made


class Machine:
    """A machine that is not booted yet, is, or is no more. Its files are in a directory that is given up at the end."""

    def __init__(self, tree: Path, directory: Path) -> None:
        self._directory = directory
        self._overlay = f"lowerdir={tree},upperdir={directory}/files,workdir={directory}/work"
        for name in ("files", "work", "root"):
            (directory / name).mkdir()
        self._leader = 0
        self._heard: queue.SimpleQueue[str] = queue.SimpleQueue()

    def write(self, file: str, text: str) -> None:
        """Writes a file before the machine has been booted."""
        path = self._directory / "files" / file.removeprefix("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def copy(self, source: Path, directory: str) -> None:
        """Copies a file or a directory into one of the machine, before it has been booted."""
        target = self._directory / "files" / directory.removeprefix("/")
        target.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target / source.name)

    def prepare(self, commands: str, timeout_s: float) -> str:
        """Runs commands before booting, in this host's network, with a cache for what they download and compile."""
        cache = CACHE / "root"
        cache.mkdir(parents=True, exist_ok=True)
        command = _nspawn(self._directory / "root", f"--bind={cache}:{HOME}/.cache", *_shell(commands))
        return _run(self._mounted(command), timeout_s)

    @contextmanager
    def booted(self) -> Iterator[None]:
        """Boots the machine for the block."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.bind(str(self._directory / "notify"))
            threading.Thread(target=self._hear, args=(told,), daemon=True).start()
            self._nspawn = self._switched_on()
            try:
                self.wait_until_up()
                yield
            finally:
                self._nspawn.terminate()  # shuts it down in order
                try:
                    self._nspawn.wait(OFF_S)
                finally:
                    self._nspawn.kill()
                    self._nspawn.wait()
                    told.shutdown(socket.SHUT_RD)

    def wait_until_up(self) -> None:
        """Returns when all units have started, after it was switched on or told to reboot: when nspawn says so."""
        deadline = time.monotonic() + BOOT_S
        leader = ""
        while True:
            if self._nspawn.poll() == REBOOT:
                self._nspawn = self._switched_on()
            try:
                message = self._heard.get(timeout=1.0)
            except queue.Empty:
                if time.monotonic() > deadline:
                    console = (self._directory / "console.log").read_text(errors="replace")
                    raise AssertionError(f"not up after {BOOT_S:.0f} s\n{console[-4000:]}") from None
                continue
            leader = next(iter(re.findall(r"^X_NSPAWN_LEADER_PID=(\d+)", message, re.MULTILINE)), leader)
            if leader and "READY=1" in message.split("\n"):
                self._leader = int(leader)
                return

    def attempt(self, commands: str, timeout_s: float = COMMAND_S) -> subprocess.CompletedProcess[str]:
        """Runs commands as root, in /root, until one fails."""
        return subprocess.run(self.command(commands), capture_output=True, text=True, timeout=timeout_s, check=False)

    def run(self, commands: str, timeout_s: float = COMMAND_S) -> str:
        """Returns what commands print; raises AssertionError with what they complain of when one fails."""
        return _run(self.command(commands), timeout_s)

    def start(self, commands: str) -> subprocess.Popen[str]:
        """Starts commands; whoever asked waits for their end."""
        return subprocess.Popen(self.command(commands), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def command(self, commands: str) -> list[str]:
        """Returns the command that runs commands in the machine."""
        environment = [f"{name}={value}" for name, value in _ENVIRONMENT.items()]
        inside = ["nsenter", f"--target={self._leader}", "--all", "env", "-i", *environment]
        return ["setpriv", "--pdeathsig", "KILL", *inside, *_shell(commands)]

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Returns properties of a unit, as `systemctl show` has them."""
        lines = self.run(f"systemctl show voicepool-{unit} " + " ".join(f"-p {each}" for each in properties))
        return dict(line.split("=", 1) for line in lines.splitlines())

    def until(self, holds: Callable[[], bool], timeout_s: float, complaint: str) -> None:
        """Asks twice a second until it holds; raises AssertionError with the end of the journal when it does not."""
        deadline = time.monotonic() + timeout_s
        while not holds():
            if time.monotonic() > deadline:
                raise AssertionError(f"{complaint}\n{self.attempt('journalctl -n 60 --no-pager').stdout}")
            time.sleep(0.5)

    def _switched_on(self) -> subprocess.Popen[bytes]:
        command = _nspawn(
            self._directory / "root", "--boot", "--notify-ready=yes", "--private-network", "--link-journal=no"
        )
        environment = {
            **os.environ,
            "NOTIFY_SOCKET": f"{self._directory}/notify",
            "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",  # control groups as Debian 12 has them, whatever this host has
        }
        with (self._directory / "console.log").open("ab") as console:
            return subprocess.Popen(
                self._mounted(command), env=environment, stdin=subprocess.DEVNULL, stdout=console, stderr=console
            )

    def _hear(self, told: socket.socket) -> None:
        """Takes what nspawn tells until it tells no more: unheard it would wait, and the machine's systemd with it."""
        while message := told.recv(4096):
            self._heard.put(message.decode())

    def _mounted(self, command: list[str]) -> list[str]:
        """Returns a command that alone has the files; they are unmounted when it ends, as it does with this process."""
        mount = f'mount -t overlay -o "{self._overlay}" voicepool "{self._directory}/root" && exec "$@"'
        return ["setpriv", "--pdeathsig", "TERM", "unshare", "--mount", "sh", "-c", mount, "sh", *command]


def _nspawn(root: Path, *arguments: str) -> list[str]:
    # Where this host has no systemd, nobody can be asked for a place for the machine.
    alone = [] if Path("/run/systemd/system").exists() else ["--register=no", "--keep-unit"]
    host = ["--resolv-conf=copy-host", "--timezone=off", "--console=pipe", f"--machine=voicepool-test-{os.getpid()}"]
    environment = [f"--setenv={name}={value}" for name, value in _ENVIRONMENT.items()]
    return ["systemd-nspawn", "--quiet", f"--directory={root}", *alone, *host, *environment, *arguments]


def _shell(commands: str) -> list[str]:
    return ["bash", "-euo", "pipefail", "-c", f"cd\n{commands}"]


def _mirror() -> str:
    """Returns the archive that this host takes its own packages from."""
    sites = _run(["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages"], COMMAND_S)
    return next(site for site in sites.split() if "security" not in site)


def _run(command: list[str], timeout_s: float) -> str:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    assert done.returncode == 0, f"{command[-1]}\nended with {done.returncode}\n{(done.stdout + done.stderr)[-6000:]}"
    return done.stdout
