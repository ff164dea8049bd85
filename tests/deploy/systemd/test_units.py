"""The systemd units: systemd reads them without a complaint, finds them tight, and their settings are real ones.

No unit is started: that needs a system that systemd has booted (`test_booted.py`). Of the sandbox only
MemoryDenyWriteExecute= is tried, which libraries with callbacks into Python are known to trip over.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from admin.api.settings import AdminSettings
from admin.settings import all_settings
from admin.webhooks.settings import WebhookSettings
from shared.settings import DispatcherSettings, RedisSettings, WorkerSettings, load

ROOT = Path(__file__).parents[3]
SYSTEMD = ROOT / "systemd"
GUIDE = ROOT / "docs" / "debian.md"
UNITS = sorted(SYSTEMD.glob("*.service"))

EXPOSURE_MAX = 2.0
"""Of `systemd-analyze security`, 0 to 10; what remains is the network, which a SIP server needs."""

READERS: dict[str, tuple[type[RedisSettings], tuple[str, ...]]] = {
    "dispatcher": (DispatcherSettings, ("pool", "dispatcher")),
    "worker": (WorkerSettings, ("pool", "worker")),
    "admin": (AdminSettings, ("admin",)),
    "webhooks": (WebhookSettings, ("webhooks",)),
}

SECRETS = {"LEASE_SECRET", "WEBHOOK_SECRET", "AZURE_VOICELIVE_API_KEY"}

needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A root directory with everything where docs/debian.md puts it."""
    units = tmp_path / "etc/systemd/system"
    shutil.copytree(SYSTEMD, units, ignore=shutil.ignore_patterns("env", "sys*.conf", "tmpfiles.conf"))
    for directory, file in {"sysusers.d": "sysusers.conf", "tmpfiles.d": "tmpfiles.conf"}.items():
        target = tmp_path / "etc" / directory / "voicepool.conf"
        target.parent.mkdir(parents=True)
        shutil.copy(SYSTEMD / file, target)
    programs = tmp_path / "opt/voicepool/bin"
    programs.mkdir(parents=True)
    for name in ("python", "voicepool"):
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    return tmp_path


def analyze(host: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs systemd-analyze on the units of `host`, with the drop-ins beside them, and systemd's own."""
    environment = {**os.environ, "SYSTEMD_UNIT_PATH": f"{host}/etc/systemd/system:", "SYSTEMD_COLORS": "0"}
    return subprocess.run(
        ["systemd-analyze", *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@needs_systemd
def test_systemd_takes_every_line_of_every_unit(host: Path) -> None:
    units = sorted((host / "etc/systemd/system").glob("*.service"))
    for unit in units:  # commands are looked for under /: verify takes no root together with files
        unit.write_text(unit.read_text().replace("/opt/voicepool", f"{host}/opt/voicepool"))
    verdict = analyze(host, "verify", *units)
    ours = [line for line in verdict.stderr.splitlines() if "voicepool" in line]
    assert (verdict.returncode, ours) == (0, [])


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_may_do_little_beside_what_it_is_for(unit: Path, host: Path) -> None:
    path = host / "etc/systemd/system" / unit.name
    verdict = analyze(host, "security", "--offline=true", f"--threshold={round(EXPOSURE_MAX * 10)}", path)
    (score,) = re.findall(r"Overall exposure level for \S+: ([\d.]+)", verdict.stdout)
    assert float(score) <= EXPOSURE_MAX
    assert verdict.returncode == 0, verdict.stderr


@needs_systemd
@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to other users")
def test_the_user_and_the_directories_are_made(host: Path) -> None:
    for command in (["systemd-sysusers", f"--root={host}"], ["systemd-tmpfiles", f"--root={host}", "--create"]):
        made = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (made.returncode, made.stderr.count("voicepool.conf:")) == (0, 0), made.stderr
    assert re.search(r"^voicepool:", (host / "etc/passwd").read_text(), re.MULTILINE)
    assert (host / "etc/voicepool/secrets").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_reads_the_files_that_its_process_needs_and_no_others(unit: Path) -> None:
    files = re.findall(r"^EnvironmentFile=-?/etc/voicepool/(\w+)\.env$", unit.read_text(), re.MULTILINE)
    _, expected = READERS[unit.stem.removeprefix("voicepool-")]
    assert tuple(files) == expected


@pytest.mark.parametrize("process", READERS)
def test_with_secrets_filled_in_the_settings_are_good(process: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, files = READERS[process]
    monkeypatch.chdir("/")  # where there is no .env
    for setting in all_settings():
        monkeypatch.delenv(setting.name, raising=False)
    for name, value in {
        k: v for file in files for k, v in settings_in(SYSTEMD / "env" / f"{file}.env").items()
    }.items():
        monkeypatch.setenv(name, "0123456789abcdef" if name in SECRETS else value)
    load(model)


@pytest.mark.parametrize("file", sorted((SYSTEMD / "env").iterdir()), ids=lambda file: file.name)
def test_every_name_in_the_examples_is_a_setting(file: Path) -> None:
    names = set(re.findall(r"^#?([A-Z][A-Z0-9_]+)=", file.read_text(), re.MULTILINE))
    assert names <= {setting.name for setting in all_settings()}


def test_the_guide_installs_what_the_native_part_is_built_with() -> None:
    listed = (ROOT / "worker/pjsip/native/apt-packages.txt").read_text()
    packages = {line.split()[0] for line in listed.splitlines() if line.strip() and not line.startswith("#")}
    (command,) = re.findall(
        r"apt-get install --no-install-recommends (build-essential .*?)\n\n", GUIDE.read_text(), re.DOTALL
    )
    assert set(command.replace("\\", "").split()) == packages


def test_systemd_waits_as_long_as_workers_drain() -> None:
    unit = (SYSTEMD / "voicepool-worker.service").read_text()
    (patience,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    drain = settings_in(SYSTEMD / "env" / "worker.env")["WORKER_DRAIN_S"]
    assert int(patience) >= int(drain) + 30


@pytest.mark.parametrize("module", ["pjsua2", "pjaudioport", "uvloop", "numpy", "cryptography.x509"])
def test_no_library_needs_memory_that_is_writable_and_executable(module: str) -> None:
    # PR_SET_MDWE with PR_MDWE_REFUSE_EXEC_GAIN (prctl(2), Linux 6.3): stricter than the filter that systemd installs.
    probe = (
        "import ctypes, sys\n"
        "if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0): sys.exit(77)\n"
        f"import {module}\n"
        "print(ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 7)())\n"
    )
    verdict = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=60, check=False)
    if verdict.returncode == 77:
        pytest.skip("this kernel cannot be asked to refuse it")
    assert (verdict.returncode, verdict.stdout) == (0, "7\n"), verdict.stderr


def settings_in(file: Path) -> dict[str, str]:
    """Returns the lines of an environment file that are no comments."""
    lines = (line for line in file.read_text().splitlines() if line and not line.startswith("#"))
    return {name: value for name, _, value in (line.partition("=") for line in lines)}
