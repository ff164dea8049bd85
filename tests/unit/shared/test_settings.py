"""The settings: defaults, checks, and what they come to."""

import ipaddress
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ConfigError
from shared.settings import DispatcherSettings, PoolSettings, WorkerSettings, load

SECRET = "0123456789abcdef"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Leaves no setting in the environment and no `.env` in the working directory."""
    names = [
        alias
        for model in (DispatcherSettings, WorkerSettings)
        for info in model.model_fields.values()
        for alias in _aliases(info.validation_alias)
    ]
    for name in {*names} & os.environ.keys():
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def _aliases(alias: object) -> Iterator[str]:
    yield from (str(choice) for choice in getattr(alias, "choices", []))


def worker(**values: object) -> WorkerSettings:
    return load(WorkerSettings, **{"LEASE_SECRET": SECRET, "AZURE_VOICELIVE_ENDPOINT": "https://a.example", **values})


def dispatcher(**values: object) -> DispatcherSettings:
    return load(DispatcherSettings, **{"LEASE_SECRET": SECRET, **values})


def problems(model: type[PoolSettings], **values: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(model, **values)
    return caught.value.problems


def test_every_setting_has_a_variable_and_a_description() -> None:
    for model in (DispatcherSettings, WorkerSettings):
        for attribute, info in model.model_fields.items():
            [name] = _aliases(info.validation_alias)
            assert name == name.upper(), attribute
            assert info.description, attribute


def test_only_the_secret_and_the_endpoint_have_to_be_set() -> None:
    assert problems(DispatcherSettings) == ["LEASE_SECRET: is missing"]
    assert problems(WorkerSettings) == ["LEASE_SECRET: is missing", "AZURE_VOICELIVE_ENDPOINT: is missing"]


def test_all_bad_values_are_reported_at_once_by_their_variables() -> None:
    found = problems(WorkerSettings, LEASE_SECRET="short", WORKER_CAPACITY="x", LOG_LEVEL="loud", MEDIA_PORT="80")
    names = [problem.partition(":")[0] for problem in found]
    assert sorted(names) == ["AZURE_VOICELIVE_ENDPOINT", "LEASE_SECRET", "LOG_LEVEL", "MEDIA_PORT", "WORKER_CAPACITY"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDIS_URL", "localhost"),
        ("SIP_LOCAL_ADDRESS", "localhost"),
        ("SIP_VIA_ADDR", "pool.example"),
        ("MEDIA_ADDRESS", "300.0.0.1"),
        ("AZURE_VOICELIVE_ENDPOINT", "resource.example"),
        ("VOICE_LIVE_UPLINK_MS", "50"),
        ("VOICE_LIVE_AUDIO_FORMAT", "mp3"),
        ("VOICE_LIVE_MAX_RESPONSE_OUTPUT_TOKENS", "0"),
        ("WORKER_DRAIN_S", "-1"),
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_variable(name: str, value: str) -> None:
    good = {"LEASE_SECRET": SECRET, "AZURE_VOICELIVE_ENDPOINT": "https://a.example"}
    [problem] = problems(WorkerSettings, **{**good, name: value})
    assert problem.startswith(f"{name}: ")


def test_a_secret_is_in_no_message_and_no_repr() -> None:
    assert "hunter2" not in str(problems(DispatcherSettings, LEASE_SECRET="hunter2"))
    assert SECRET not in repr(worker())


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"LEASE_SECRET={SECRET}\nSIP_PORT=5070\nLOG_LEVEL=DEBUG\n")
    monkeypatch.setenv("SIP_PORT", "5080")
    settings = load(DispatcherSettings)
    assert (settings.sip_port, settings.log_level) == (5080, "DEBUG")


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        worker().worker_capacity = 7


def test_allowed_peers_are_networks_and_private_ones_by_default() -> None:
    assert ipaddress.ip_network("192.168.0.0/16") in dispatcher().sip_allowed_peers
    assert dispatcher(SIP_ALLOWED_PEERS="198.51.100.0/24, 2001:db8::/32").sip_allowed_peers == (
        ipaddress.ip_network("198.51.100.0/24"),
        ipaddress.ip_network("2001:db8::/32"),
    )


@pytest.mark.parametrize(("text", "value"), [("", None), ("inf", None), ("800", 800)])
def test_no_limit_of_answer_tokens_can_be_written_in_two_ways(text: str, value: int | None) -> None:
    limit = worker(VOICE_LIVE_MAX_RESPONSE_OUTPUT_TOKENS=text).voice_live_max_response_output_tokens
    assert limit == value


@pytest.mark.parametrize("model", [DispatcherSettings, WorkerSettings])
def test_the_quota_of_the_settings_is_known_to_every_process(model: type[PoolSettings]) -> None:
    good = {"LEASE_SECRET": SECRET, "AZURE_VOICELIVE_ENDPOINT": "https://a.example"}
    quota = {"VOICE_LIVE_CONNECTIONS_PER_MINUTE": "60", "VOICE_LIVE_SESSIONS": "", "VOICE_LIVE_TOKENS_PER_MINUTE": "0"}
    assert load(model, **good).voice_live_connections_per_minute is None
    [problem] = problems(model, **good, **quota)
    assert problem.startswith("VOICE_LIVE_TOKENS_PER_MINUTE: ")


def test_worker_labels_are_names_with_values() -> None:
    assert worker().worker_labels == {}
    labels = worker(WORKER_LABELS="region=westeurope, pool=gold").worker_labels
    assert labels == {"region": "westeurope", "pool": "gold"}


@pytest.mark.parametrize("text", ["gold", "Pool=gold", "pool=", "pool=very golden", "pool=a,pool=b"])
def test_bad_worker_labels_are_refused(text: str) -> None:
    good = {"LEASE_SECRET": SECRET, "AZURE_VOICELIVE_ENDPOINT": "https://a.example"}
    [problem] = problems(WorkerSettings, **good, WORKER_LABELS=text)
    assert problem.startswith("WORKER_LABELS: ")
    assert "gold" not in problem


def test_an_empty_api_key_is_none() -> None:
    assert worker(AZURE_VOICELIVE_API_KEY="").voicelive_api_key is None


def test_the_advertised_address_is_the_named_one_or_the_bound_one() -> None:
    assert worker(SIP_VIA_ADDR="192.0.2.1", SIP_LOCAL_ADDRESS="192.0.2.9").advertised_address == "192.0.2.1"
    assert worker(SIP_LOCAL_ADDRESS="192.0.2.9").advertised_address == "192.0.2.9"
    assert not ipaddress.ip_address(worker().advertised_address).is_unspecified


def test_media_is_offered_at_the_sip_address_unless_it_has_its_own() -> None:
    assert worker(SIP_VIA_ADDR="192.0.2.1").offered_media_address == "192.0.2.1"
    assert worker(SIP_VIA_ADDR="192.0.2.1", MEDIA_ADDRESS="192.0.2.2").offered_media_address == "192.0.2.2"


@pytest.mark.parametrize("first", [16384, 16385])
@pytest.mark.parametrize("count", [0, 400, 407])
def test_the_media_ports_of_workers_are_disjoint_even_and_enough(first: int, count: int) -> None:
    settings = worker(WORKER_PROCESSES=5, WORKER_CAPACITY=20, MEDIA_PORT=first, MEDIA_PORT_COUNT=count)
    ranges = [settings.media_port_range(index) for index in range(5)]
    for ports in ranges:
        assert ports.start % 2 == 0
        assert len(ports) % 2 == 0
        assert len(ports) >= 2 * 20
    for before, after in pairwise(ranges):
        assert before.stop <= after.start


def test_too_few_media_ports_are_refused() -> None:
    found = problems(
        WorkerSettings,
        LEASE_SECRET=SECRET,
        AZURE_VOICELIVE_ENDPOINT="https://a.example",
        WORKER_PROCESSES=2,
        MEDIA_PORT_COUNT=399,
    )
    assert found == ["MEDIA_PORT_COUNT: 400 or more are needed for 2 workers of 100 calls"]


def test_media_ports_beyond_the_last_one_are_refused() -> None:
    good = {"LEASE_SECRET": SECRET, "AZURE_VOICELIVE_ENDPOINT": "https://a.example"}
    [problem] = problems(WorkerSettings, **good, MEDIA_PORT=65000, MEDIA_PORT_COUNT=1000, WORKER_PROCESSES=1)
    assert problem.startswith("MEDIA_PORT: ")


GOOD = {"LEASE_SECRET": SECRET, "AZURE_VOICELIVE_ENDPOINT": "https://a.example"}


@given(
    processes=st.integers(1, 8),
    capacity=st.integers(1, 30),
    media_port=st.integers(16384, 16400),
    spare_ports=st.integers(0, 9),
    blocks=st.integers(2, 6),
)
def test_no_port_is_in_two_blocks(
    processes: int, capacity: int, media_port: int, spare_ports: int, blocks: int
) -> None:
    settings = load(
        WorkerSettings, **GOOD, NODE_NAME="machine", PORT_BLOCKS=blocks, WORKER_SIP_PORT=5070, TELEMETRY_PORT=9464,
        WORKER_PROCESSES=processes, WORKER_CAPACITY=capacity, MEDIA_PORT=media_port,
        MEDIA_PORT_COUNT=processes * capacity * 2 + spare_ports,
    )  # fmt: skip
    pods = [settings.in_block(block) for block in range(blocks)]
    assert pods[0] == settings
    sip = [port for pod in pods for port in range(pod.worker_sip_port, pod.worker_sip_port + processes)]
    media = [port for pod in pods for index in range(processes) for port in pod.media_port_range(index)]
    assert len({*sip, *media}) == len(sip) + len(media)
    assert [pod.telemetry_port for pod in pods] == [*range(9464, 9464 + blocks)]


def test_a_block_leaves_what_is_free_or_none_as_it_is() -> None:
    assert worker(TELEMETRY_PORT="0").in_block(1).telemetry_port == 0
    assert worker().in_block(1).telemetry_port is None


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"NODE_NAME": ""}, "NODE_NAME: must be set where there is more than one of PORT_BLOCKS"),
        ({"WORKER_SIP_PORT": "0"}, "WORKER_SIP_PORT: must be set beside NODE_NAME"),
        ({"WORKER_SIP_PORT": "65530"}, "WORKER_SIP_PORT: 4 blocks of 2 ports from 65530 reach beyond 65535"),
        ({"MEDIA_PORT": "62000"}, "MEDIA_PORT: 4 blocks of 1200 ports from 62000 reach beyond 65535"),
        ({"TELEMETRY_PORT": "65533"}, "TELEMETRY_PORT: 4 blocks of 1 ports from 65533 reach beyond 65535"),
        (
            {"WORKER_SIP_PORT": "16380"},
            "WORKER_SIP_PORT: the ports from 16380 to 16387 and those of MEDIA_PORT from 16384 to 21183 overlap",
        ),
    ],
)
def test_blocks_that_cannot_be_are_refused_with_the_numbers(values: dict[str, str], problem: str) -> None:
    blocks = {"NODE_NAME": "machine", "PORT_BLOCKS": 4, "WORKER_SIP_PORT": 5070, "WORKER_PROCESSES": 2}
    assert problems(WorkerSettings, **GOOD, **{**blocks, **values}) == [problem]


def test_a_pod_that_tells_kubernetes_of_itself_has_to_know_its_name() -> None:
    [problem] = problems(WorkerSettings, **GOOD, POD_DELETION_COST="true")
    assert problem.startswith("POD_NAME: ")


def test_tls_for_sip_needs_a_certificate_and_its_files_a_port() -> None:
    assert problems(DispatcherSettings, LEASE_SECRET=SECRET, SIP_TLS_PORT="5061") == [
        "SIP_TLS_CERT_FILE: is missing beside SIP_TLS_PORT"
    ]
    assert problems(DispatcherSettings, LEASE_SECRET=SECRET, SIP_TLS_CERT_FILE="a", SIP_TLS_CA_FILE="b") == [
        "SIP_TLS_CA_FILE: is of no use without SIP_TLS_PORT"
    ]
    assert dispatcher(SIP_TLS_PORT="").sip_tls_port is None
    assert dispatcher(SIP_TLS_PORT="5061", SIP_TLS_CERT_FILE="a").sip_tls_port == 5061
