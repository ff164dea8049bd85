"""docs/debian.md, typed into a Debian 12 that its own systemd has booted: what its units do there, one chapter of a
host's life after the other.

The machine is a container: it has this host's kernel and clock, and no network but its own. What it cannot show
therefore, docs/testing.md says.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.deploy.systemd.conftest import NEW
from tests.deploy.systemd.guide import blocks
from tests.deploy.systemd.machine import ADDRESS, Machine

pytestmark = [pytest.mark.systemd, pytest.mark.timeout(3600)]

UNITS = ("dispatcher", "worker")

STARTED_S = 60.0
CALL_S = 180.0
"""Of ten turns on a busy machine; they have to outlast a watchdog, which is 35 s, on an idle one."""

WATCHDOG_S = 60.0
"""WatchdogSec= and TimeoutAbortSec= of the dispatcher, and its start."""

SBC = "192.168.77.5"
"""At the other end of the machine's cable."""

PHONE = f"/opt/voicepool/bin/python -m simulator.phone call sip:bot@{ADDRESS}:5060 --json --record /tmp/recordings"


def call(machine: Machine, *options: str) -> dict[str, Any]:
    """Makes one call and returns what came of it."""
    [report] = json.loads(machine.run(" ".join((PHONE, *options)), CALL_S))["calls"]
    return dict(report)


@contextmanager
def on_a_call(machine: Machine, turns: int = 3) -> Iterator[subprocess.Popen[str]]:
    """Yields a telephone whose call a worker has, and sees to it that the call goes well to its end."""
    with machine.start(f"{PHONE} --turns {turns}") as telephone:
        try:
            machine.until(lambda: calls(machine) == 1, STARTED_S, "no worker has the call")
            yield telephone
            told, _ = telephone.communicate(timeout=CALL_S)
            [report] = json.loads(told)["calls"]
            assert report["ok"], report
        finally:
            telephone.kill()


def calls(machine: Machine) -> int:
    """Returns how many calls there are."""
    return len(json.loads(machine.run("voicepool calls --json")))


def workers(machine: Machine) -> list[dict[str, Any]]:
    """Returns the workers that are alive and take calls."""
    table = json.loads(machine.run("voicepool ps --json"))["workers"]
    return [row for row in table if row["state"] == "ready"]


def status(machine: Machine, unit: str) -> str:
    """Returns the line `Status:` of `systemctl status`."""
    return machine.show(unit, "StatusText")["StatusText"]


def until_told(machine: Machine, unit: str, expected: str) -> None:
    """Waits until the line `Status:` is as expected."""
    machine.until(lambda: status(machine, unit) == expected, STARTED_S, f"the status of {unit} is not {expected!r}")


def state(machine: Machine, unit: str) -> str:
    """Returns the line `Active:` of `systemctl status`, such as "active (running)"."""
    shown = machine.show(unit, "ActiveState", "SubState")
    return f"{shown['ActiveState']} ({shown['SubState']})"


def main_pid(machine: Machine, unit: str) -> int:
    """Returns the first process of a unit, by its number in the machine."""
    return int(machine.show(unit, "MainPID")["MainPID"])


def until_replaced(machine: Machine, unit: str, before: int, timeout_s: float) -> None:
    """Waits until a unit is active with another first process than `before`."""

    def is_replaced() -> bool:
        shown = machine.show(unit, "MainPID", "SubState")
        return shown["SubState"] == "running" and shown["MainPID"] != str(before)

    machine.until(is_replaced, timeout_s, f"{unit} is not replaced")


def journal(machine: Machine, unit: str, event: str) -> list[dict[str, Any]]:
    """Returns the log lines of an event."""
    lines = machine.run(f"journalctl -u voicepool-{unit} -o cat --no-pager").splitlines()
    return [json.loads(line) for line in lines if f'"event":"{event}"' in line.replace(" ", "")]


def test_after_section_6_calls_are_taken_at_once(machine: Machine) -> None:
    start, _ = blocks(6)
    commands, _, readyz = start.strip().rpartition("\n")
    machine.run(commands, STARTED_S)
    assert {state(machine, unit) for unit in UNITS} == {"active (running)"}
    cores = int(machine.run("nproc"))
    assert re.match(rf"workers ready: [1-{cores}] of {cores}; calls: 0", status(machine, "worker"))
    report = call(machine, "--say", "'Good morning'")
    assert report["ok"], report
    assert machine.run(readyz) == "b'ok\\n'\n"
    until_told(machine, "worker", f"workers ready: {cores} of {cores}; calls: 0")
    until_told(machine, "dispatcher", f"workers ready: {cores}; slots free: {cores * 100}")


@pytest.mark.parametrize("unit", UNITS)
def test_no_process_of_a_unit_may_do_more_than_its_sandbox_says(machine: Machine, unit: str) -> None:
    group = machine.show(unit, "ControlGroup")["ControlGroup"]
    processes = machine.run(f"cat /sys/fs/cgroup{group}/cgroup.procs").split()
    user = machine.run("id -u voicepool").strip()
    for process in processes:
        about = dict(line.split(":\t", 1) for line in machine.run(f"cat /proc/{process}/status").splitlines())
        assert {about[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
        assert (about["NoNewPrivs"], about["Seccomp"], set(about["Uid"].split())) == ("1", "2", {user})
        limits = machine.run(f"cat /proc/{process}/limits")
        assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE)
        inside = f"nsenter --target {process} --mount"
        for directory in ("/etc", "/usr", "/opt/voicepool/lib", "/sys", "/sys/fs/cgroup"):
            assert "Read-only file system" in machine.attempt(f"{inside} touch {directory}/new").stderr
        assert machine.run(f"{inside} ls -A /home /root") == "/home:\n\n/root:\n"
        assert not machine.run(f"{inside} find /dev /tmp -name 'kmsg' -o -name recordings")
    assert len(processes) > 1 or unit == "dispatcher"


def test_a_worker_reads_the_secrets_of_its_agent_file_and_nobody_else_does(machine: Machine) -> None:
    assert "agents.missing_secret" not in machine.run("journalctl -u voicepool-worker -o cat --no-pager")
    inside = f"nsenter --target {main_pid(machine, 'dispatcher')} --mount"
    assert machine.attempt(f"{inside} setpriv --reuid voicepool ls /etc/voicepool/secrets").returncode != 0
    assert machine.attempt("setpriv --reuid voicepool cat /etc/voicepool/pool.env").returncode != 0


def test_the_journal_is_read_as_json(machine: Machine) -> None:
    report = call(machine, "--say", "'Good morning'")
    assert report["ok"], report
    call_id = journal(machine, "dispatcher", "sip.incoming_call")[-1]["call_id"]
    [commands] = blocks(9)
    following, of_a_call = commands.splitlines()
    machine.run(following.replace(" -f ", " "))  # it would go on for ever
    lines = machine.run(of_a_call.replace("3f9ac1d20b8e4f5a6c7d", call_id)).splitlines()
    assert {"sip.incoming_call", "call.placed"} <= {json.loads(line)["event"] for line in lines}


def test_the_firewall_lets_the_sbc_call_and_nobody_else(machine: Machine) -> None:
    [rules] = blocks(7)
    machine.run(f"cat > /etc/nftables.conf <<'END'\n{rules.replace('192.0.2.5', SBC)}END\nnft -c -f /etc/nftables.conf")
    machine.run("systemctl enable nftables && systemctl restart nftables")
    machine.run("systemctl restart nftables")  # as after a change
    assert machine.run("nft list ruleset").count("udp dport 16384-32767 notrack") == 1
    machine.run("ip netns add sbc && ip link set lan1 netns sbc")
    machine.run(f"ip -n sbc link set lan1 up && ip -n sbc address add {SBC}/24 dev lan1")
    at_the_sbc = "nsenter --net=/run/netns/sbc"
    [report] = json.loads(machine.run(f"{at_the_sbc} {PHONE} --say 'Good morning'", CALL_S))["calls"]
    assert report["ok"], report
    machine.run(f"nft delete element inet voicepool sbc '{{ {SBC} }}'")
    assert "nobody answered" in machine.attempt(f"{at_the_sbc} {PHONE} --ring-timeout 3", CALL_S).stdout
    assert call(machine, "--say", "'Good morning'")["ok"]


def test_the_http_api_is_up_when_its_start_returns(machine: Machine) -> None:
    _, start = blocks(6)
    token = machine.attempt(start, STARTED_S).stderr.split()
    assert status(machine, "admin") == "listening on 127.0.0.1, port 8080"
    secret = next(word for word, before in zip(token[1:], token, strict=False) if before == "nowhere:")
    ask = f"Request('http://127.0.0.1:8080/v1/workers', headers={{'Authorization': 'Bearer {secret}'}})"
    told = machine.run(f'python3 -c "from urllib.request import *; print(urlopen({ask}).read().decode())"')
    assert len(json.loads(told)) == len(workers(machine))


def test_a_unit_with_a_bad_setting_fails_at_its_start(machine: Machine) -> None:
    machine.run("systemctl stop voicepool-admin && mv /etc/voicepool/tokens /etc/voicepool/tokens.away")
    failed = machine.attempt("systemctl start voicepool-admin", STARTED_S)
    machine.run("mv /etc/voicepool/tokens.away /etc/voicepool/tokens && systemctl start voicepool-admin", STARTED_S)
    assert failed.returncode != 0


def test_a_killed_worker_is_replaced_and_the_unit_stays(machine: Machine) -> None:
    before = main_pid(machine, "worker")
    first = {row["worker_id"] for row in workers(machine)}
    child = machine.run(f"pgrep --parent {before} --full spawn_main").split()[0]
    machine.run(f"kill -KILL {child}")
    machine.until(
        lambda: len(workers(machine)) == len(first) and {row["worker_id"] for row in workers(machine)} != first,
        STARTED_S,
        "the worker is not replaced",
    )
    assert main_pid(machine, "worker") == before
    assert machine.show("worker", "NRestarts")["NRestarts"] == "0"
    assert call(machine, "--say", "'Good morning'")["ok"]


def test_a_dispatcher_that_hangs_is_replaced_and_its_calls_go_on(machine: Machine) -> None:
    before = main_pid(machine, "dispatcher")
    with on_a_call(machine, turns=10):
        machine.run(f"kill -STOP {before}")
        until_replaced(machine, "dispatcher", before, WATCHDOG_S)
    assert "Watchdog timeout" in machine.run("journalctl -u voicepool-dispatcher -o cat --no-pager")
    assert call(machine, "--say", "'Good morning'")["ok"]


def test_a_dispatcher_told_to_abort_leaves_its_stacks_in_the_journal(machine: Machine) -> None:
    before = main_pid(machine, "dispatcher")
    machine.run("systemctl kill --signal ABRT voicepool-dispatcher")
    until_replaced(machine, "dispatcher", before, STARTED_S)
    told = machine.run("journalctl -u voicepool-dispatcher -o cat --no-pager")
    assert re.search(r'Fatal Python error: Aborted.*File ".*/dispatcher/__main__.py"', told, re.DOTALL)
    assert not machine.run("find / -xdev -name 'core*' -type f -size +1M -newer /run/systemd/system")


def test_a_killed_supervisor_costs_no_call_and_is_replaced_after_the_last(machine: Machine) -> None:
    before = main_pid(machine, "worker")
    with on_a_call(machine):
        machine.run(f"kill -KILL {before}")
        machine.until(lambda: state(machine, "worker").startswith("deactivating"), 10.0, "its workers do not drain")
        assert calls(machine) == 1
    until_replaced(machine, "worker", before, STARTED_S)
    assert call(machine, "--say", "'Good morning'")["ok"]


def test_a_supervisor_that_hangs_costs_no_call_either(machine: Machine) -> None:
    before = main_pid(machine, "worker")
    with on_a_call(machine, turns=10):
        machine.run(f"kill -STOP {before}")
        machine.until(lambda: state(machine, "worker") == "deactivating (stop-watchdog)", WATCHDOG_S, "nobody minds")
        assert calls(machine) == 1
    until_replaced(machine, "worker", before, STARTED_S)


def test_stopping_the_workers_returns_with_their_last_call(machine: Machine) -> None:
    with on_a_call(machine) as telephone, machine.start("systemctl stop voicepool-worker") as stopping:
        until_told(machine, "worker", "draining; calls left: 1")
        assert stopping.poll() is None and telephone.poll() is None
    assert stopping.wait(30.0) == 0
    assert machine.show("worker", "Result", "ActiveState") == {"Result": "success", "ActiveState": "inactive"}


def test_without_redis_the_dispatcher_starts_and_workers_wait_for_it(machine: Machine) -> None:
    machine.run("systemctl stop voicepool-dispatcher voicepool-worker redis-server", STARTED_S)
    machine.run("systemctl start --no-block voicepool-worker && systemctl start voicepool-dispatcher", STARTED_S)
    assert status(machine, "dispatcher") == "no worker is alive"
    assert state(machine, "worker") == "activating (start)"
    cores = int(machine.run("nproc"))
    until_told(machine, "worker", f"no worker is ready: {cores} starting; calls: 0")
    machine.run("systemctl start redis-server")
    machine.until(lambda: state(machine, "worker") == "active (running)", STARTED_S, "it does not start")


def test_an_upgrade_is_a_link(machine: Machine) -> None:
    [upgrade] = blocks(10)
    assert f"to={NEW} " in upgrade
    with on_a_call(machine):
        machine.run(upgrade, CALL_S)
    for unit in UNITS:
        assert f"{NEW}/lib/" in machine.run(f"cat /proc/{main_pid(machine, unit)}/maps")
    assert call(machine, "--say", "'Good morning'")["ok"]


def test_the_pool_comes_back_with_the_machine(machine: Machine) -> None:
    with on_a_call(machine):
        machine.attempt("systemctl reboot")  # which waits for the call
    machine.wait_until_up()
    assert machine.run("systemctl is-system-running").strip() == "running"
    assert {state(machine, unit) for unit in (*UNITS, "admin")} == {"active (running)"}
    assert call(machine, "--say", "'Good morning'")["ok"]
