"""The machine that the tests here share. Where none can be booted they fail: they were asked for."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.systemd.guide import ROOT, blocks
from tests.deploy.systemd.machine import ADDRESS, Machine, missing, tree

BUILD_S = 300.0
PROGRAMS_S = 1800.0
"""pjproject takes five minutes on two idle cores, when it is not in the cache."""

NEW = "/opt/voicepool-0.2.0"
"""Where the version is that the host is upgraded to: the same one, in truth."""

FILLED_IN = {
    "pool.env": {"LEASE_SECRET": "0123456789abcdef0123456789abcdef"},
    "dispatcher.env": {"SIP_VIA_ADDR": ADDRESS},
    "worker.env": {
        "AZURE_VOICELIVE_ENDPOINT": "http://127.0.0.1:8765",
        "AZURE_VOICELIVE_API_KEY": "any",
        "SIP_VIA_ADDR": ADDRESS,
        "MEDIA_ADDRESS": ADDRESS,
    },
}
"""What section 4 leaves to the reader."""

SECRETS = ("SWEDEN_KEY", "ORDERS_TOKEN")
"""Those that the sample of an agent file names."""

VOICE_LIVE = """\
[Service]
ExecStart=/opt/voicepool/bin/python -m simulator --port 8765
[Install]
WantedBy=multi-user.target
"""


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, as `make release` makes it."""
    directory = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(directory)]
    subprocess.run(command, cwd=ROOT, capture_output=True, timeout=BUILD_S, check=True)
    [wheel] = directory.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def machine(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A host on which the guide has been followed up to section 5, and whose Voice Live is the simulator."""
    assert not missing(), missing()
    directory = tmp_path_factory.mktemp("machine")
    try:
        made = Machine(tree("".join(_unasked(block) for block in blocks(1))), directory)
        for source in (wheel, ROOT / "requirements-image.lock", ROOT / "systemd"):
            made.copy(source, "/root")
        [programs] = blocks(2)
        before_the_switch, _, _ = programs.partition("\n\n")
        made.prepare(before_the_switch.replace("/opt/voicepool-0.1.0", NEW), PROGRAMS_S)
        made.prepare(programs, PROGRAMS_S)
        made.write("/etc/systemd/system/voice-live.service", VOICE_LIVE)
        with made.booted():
            made.run("systemctl enable --now voice-live")
            _set_up(made)
            yield made
    finally:
        for name in ("files", "work"):
            shutil.rmtree(directory / name)


def _set_up(machine: Machine) -> None:
    [installing] = blocks(3)
    # A container may not change settings of the kernel that are not its network's.
    machine.run(installing.replace("sysctl --system", "(sysctl --system || true)"))
    for file, settings in FILLED_IN.items():
        for name, value in settings.items():
            machine.run(f"sed -i -E 's|^#?{name}=.*|{name}={value}|' /etc/voicepool/{file}")
            machine.run(f"grep -qx '{name}={value}' /etc/voicepool/{file}")
    agents, credential, check = blocks(4)
    machine.run(agents)
    dropin = "/etc/systemd/system/voicepool-worker.service.d/override.conf"  # where `systemctl edit` puts it
    for secret in SECRETS:
        machine.run(f"(umask 077; echo any > /etc/voicepool/secrets/{secret})")
        machine.run(f"cat >> {dropin} <<'END'\n{credential.replace('CRM_TOKEN', secret)}END")
    machine.run("systemctl daemon-reload")
    machine.run(check)
    [redis] = blocks(5)
    machine.run(f"cat >> /etc/redis/redis.conf <<'END'\n{redis}END\nsystemctl restart redis-server")


def _unasked(commands: str) -> str:
    """Returns commands of the guide so that apt does not ask."""
    return commands.replace("apt-get install", "apt-get install --yes")
