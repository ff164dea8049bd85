"""A pool of two dispatchers and two workers before an Asterisk, each on a host of its own, and the telephones there.

    telephone 101 ──> Asterisk ──100──> dispatcher, dispatcher ──> two workers
    desk 200 <────────────┘

Redis and the simulated Voice Live are ours, behind relays. A second Asterisk may be added, which takes the other way
(`over_tls`): the dispatchers listen for both.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from bench.faults.network import Host, Network
from bench.faults.relay import RelayThread
from simulator.phone.analysis import RATE
from simulator.voicelive.audio import AudioFormat, encode
from tests.acceptance.agents import agent_file
from tests.acceptance.hearing import by_service
from tests.acceptance.pool import Layout, Pool, running_pool, until
from tests.acceptance.process import ROOT, START_S, Event, PoolProcess, give_priority
from tests.acceptance.telephone import LONGEST_CALL_S, PhoneCall
from tests.deploy.asterisk import guide
from tests.deploy.asterisk.pbx import INSIDE, Pbx
from tests.deploy.cluster.certificates import Authority

WORKERS = 2

PATIENCE_S = 30.0
"""Longest wait for what is bound to happen much sooner: the machine may be busy."""

DESK_S = 60
"""Longest call of the desk's, in seconds."""

DESK_SAYS = "This is the front desk. What can I do for you?"

MENU = {"1": {"transfer": "desk"}, "2": {"hang_up": True}, "3": {"transfer": "nobody"}}
"""What the agent does with keys."""

# What the guide leaves to the reader: telephones.
TELEPHONES = """
#include trunk.conf

[telephone](!)
type = endpoint
context = internal
disallow = all
allow = ulaw,alaw
direct_media = no

[101](telephone)
[101]
type = identify
endpoint = 101
match = {telephone}

[200](telephone)
transport = transport-udp
aors = 200
[200]
type = aor
contact = sip:200@{desk}:5060
"""


class Site:
    """All of it but Asterisk, running."""

    def __init__(self, network: Network, pool: Pool, model: RelayThread) -> None:
        self.pool = pool
        self.pbx_hosts = [network.host() for _ in range(2)]
        self._network = network
        self._model = f"http://{model.host}:{model.port}"
        self._fronts = [network.host() for _ in range(2)]
        self._worker, self._telephone, self._desk = (network.host() for _ in range(3))
        self._processes: list[PoolProcess] = []
        """Of the dispatchers, front by front: a test may kill one and start it again."""
        self.authority = Authority(pool.directory, "authority")
        self.authority.issue("dispatcher", hosts=[front.address for front in self._fronts])
        self._transfer_to = self.pbx_hosts[0].address

    def start(self) -> None:
        """Starts the pool; returns when calls find room."""
        pool, host = self.pool, self._worker
        pool.start_relay(self._network.address)
        agents = {"menu": {"greeting": "Hello there.", "dtmf": {"menu": MENU}, "goodbye": "Goodbye."}}
        transfers = {"desk": f"sip:200@{self._transfer_to}", "nobody": f"sip:299@{self._transfer_to}"}
        env = {"SIP_LOCAL_ADDRESS": host.address, "AZURE_VOICELIVE_ENDPOINT": self._model}
        agent_file(pool.directory, agents, transfers=transfers)
        pod = pool.start_pod(WORKERS, host=host, **env)
        pod.wait_for("worker.ready", count=WORKERS, timeout_s=START_S)
        for front in self._fronts:
            self._processes.append(self._dispatch(front))

    def _dispatch(self, front: Host) -> PoolProcess:
        certificate = self.pool.directory / "dispatcher.crt"
        tls = {"SIP_TLS_PORT": "5061", "SIP_TLS_CERT_FILE": str(certificate)}
        tls["SIP_TLS_KEY_FILE"] = str(certificate.with_suffix(".key"))
        tls["SIP_TLS_CA_FILE"] = str(self.authority.certificate)
        process = self.pool.start_dispatcher(host=front, SIP_LOCAL_ADDRESS=front.address, SIP_PORT="5060", **tls)
        self.pool.wait_until_placeable(len(self.pool.dispatchers) - 1, self._network.address)
        return process

    def kill(self, front: int) -> None:
        """Kills the dispatcher of the trunk's first or second contact."""
        self.pool.kill_dispatcher(self.pool.dispatchers.index(self._processes[front]))

    def revive(self) -> None:
        """Starts those again that are dead, at the same addresses."""
        for number, front in enumerate(self._fronts):
            if not self._processes[number].running:
                self._processes[number] = self._dispatch(front)

    def id_of(self, front: int) -> str:
        """Returns the id by which operators know that dispatcher."""
        return self.pool.dispatcher_id(self.pool.dispatchers.index(self._processes[front]))

    def log(self, front: int, event: str) -> list[Event]:
        """Returns what that dispatcher has logged of this kind since its start."""
        return self._processes[front].events(event)

    def files(self, pbx: Host, *, over_tls: bool = False) -> dict[str, str]:
        """Returns the configuration for an Asterisk on this host: the guide's, and our telephones."""
        addresses = [*(front.address for front in self._fronts), pbx.address]
        trunk = guide.block("voicepool", addresses)
        if over_tls:
            transport = guide.block("transport-tls", addresses)
            pair = self.authority.issue("pbx", hosts=[pbx.address])
            files = {"ca.crt": self.authority.certificate, "pbx.crt": pair.certificate, "pbx.key": pair.key}
            keys = {name: path.read_text() for name, path in files.items()}
            return self._telephones(guide.over_tls(trunk, transport, f"{INSIDE}/etc/"), addresses) | keys
        return self._telephones(trunk, addresses)

    def _telephones(self, trunk: str, addresses: list[str]) -> dict[str, str]:
        telephones = TELEPHONES.format(telephone=self._telephone.address, desk=self._desk.address)
        return {"trunk.conf": trunk, "pjsip.conf": telephones, "extensions.conf": guide.block("internal", addresses)}

    @contextmanager
    def ringing(self, pbx: Pbx, *options: str) -> Iterator["subprocess.Popen[str]"]:
        """Has telephone 101 call 100 during the block, and ends it (hanging up) when it still runs after that."""
        directory = self.pool.directory
        record = directory / f"phone-{len(list(directory.glob('phone-*')))}"
        record.mkdir()
        uri = f"sip:100@{pbx.host.address}:5060"
        command = [sys.executable, "-m", "simulator.phone", "call", uri, "--record", str(record), "--json", *options]
        with subprocess.Popen(
            self._telephone.command(command), cwd=directory, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as phone:  # fmt: skip
            give_priority(phone.pid)
            try:
                yield phone
            finally:
                if phone.poll() is None:
                    phone.send_signal(signal.SIGTERM)
                    try:
                        phone.wait(PATIENCE_S)
                    except subprocess.TimeoutExpired:
                        phone.kill()
                        raise

    def finish(self, phone: "subprocess.Popen[str]") -> PhoneCall:
        """Waits for the telephone to be done and returns the report of its call."""
        try:
            out, err = phone.communicate(timeout=LONGEST_CALL_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the telephone goes on\n{self.pool.tails()}") from None
        assert out, f"{err}\n{self.pool.tails()}"
        [report] = json.loads(out)["calls"]
        return PhoneCall(report)

    def ring(self, pbx: Pbx, *options: str) -> PhoneCall:
        """Has telephone 101 call 100 and returns the report, whatever came of it."""
        self.pool.wait_until_seen(WORKERS)  # a busy machine makes workers late, and they get no calls then
        with self.ringing(pbx, *options) as phone:
            return self.finish(phone)

    @contextmanager
    def desk(self) -> Iterator["subprocess.Popen[bytes]"]:
        """Has SIPp answer extension 200 during the block, once, and say DESK_SAYS over and over."""
        directory = self.pool.directory
        samples = np.frombuffer(by_service(DESK_SAYS), "<i2")
        (directory / "desk.ulaw").write_bytes(encode(samples, AudioFormat("g711_ulaw", RATE)))
        address = self._desk.address
        command = ["sipp", "-sf", str(Path(__file__).with_name("desk.xml")), "-i", address, "-mi", address]
        limits = ["-p", "5060", "-m", "1", "-timeout", str(DESK_S), "-nostdin"]
        with subprocess.Popen(
            self._desk.command([*command, *limits]), cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as sipp:
            until(self._desk_listens, PATIENCE_S, "SIPp does not listen")
            try:
                yield sipp
            finally:
                sipp.kill()

    def _desk_listens(self) -> bool:
        listing = self._desk.command(["ss", "--no-header", "--udp", "--listening", "sport", "=", ":5060"])
        return bool(subprocess.run(listing, capture_output=True, check=True, timeout=PATIENCE_S).stdout)


@contextmanager
def running_site(directory: Path) -> Iterator[Site]:
    """Runs a pool for the block, before which an Asterisk can be started."""
    agents = str(directory / "agents.yaml")
    with ExitStack() as stack:
        network = stack.enter_context(Network())
        pool = stack.enter_context(running_pool(directory, Layout(dispatchers=0, pods=0), AGENTS_FILE=agents))
        model = RelayThread("127.0.0.1", int(pool.voice_live.url.rpartition(":")[2]), network.address)
        stack.callback(model.close)
        site = Site(network, pool, model)
        site.start()
        yield site
        for process in (*pool.dispatchers, *pool.supervisors):
            if process.running:
                process.end()  # while it still reaches Voice Live
