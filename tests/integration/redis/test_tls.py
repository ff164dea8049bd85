"""Redis behind TLS that asks for a certificate, and what is said of bad files."""

import asyncio
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from admin.ports import free_tcp_port
from bench.faults.redis import RedisServer
from shared.control.address import RedisAddress
from shared.control.connection import CONNECTIONS_MAX, ask, connect
from shared.control.workers import Workers
from shared.errors import ConfigError, ControlUnavailable
from shared.settings import RedisSettings, load
from tests.integration.redis.conftest import Authority
from tests.integration.redis.drive import Connecting


@pytest.fixture
def address(authority: Authority, tmp_path: Path) -> Iterator[RedisAddress]:
    """Where a Redis is that speaks TLS only, and only to who shows a certificate of the authority."""
    port = free_tcp_port("127.0.0.1")
    certificate, key = authority.issue("redis", "IP:127.0.0.1")
    own_certificate, own_key = authority.issue("voicepool", "DNS:voicepool")
    options = ["--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
    server = RedisServer(tmp_path, options=[*options, "--tls-ca-cert-file", str(authority.certificate)])
    yield RedisAddress(
        f"rediss://127.0.0.1:{port}/0",
        ca_file=str(authority.certificate),
        cert_file=str(own_certificate),
        key_file=str(own_key),
    )
    server.stop()


async def test_scripts_run_over_tls_with_a_certificate_on_both_sides(client: Connecting, address: RedisAddress) -> None:
    redis = client(address)
    assert await Workers(redis).table() == []
    assert await ask(redis, "ECHO", "hello") == b"hello"


async def test_all_connections_share_one_context(
    client: Connecting, address: RedisAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis = client(address)
    monkeypatch.setattr(ssl, "create_default_context", None)
    answers = await asyncio.gather(*(ask(redis, "ECHO", number) for number in range(CONNECTIONS_MAX)))
    assert len(answers) == CONNECTIONS_MAX


async def test_server_of_another_authority_is_not_talked_to(
    client: Connecting, address: RedisAddress, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stranger = Authority(tmp_path_factory.mktemp("stranger"))
    with pytest.raises(ControlUnavailable):
        await ask(client(replace(address, ca_file=str(stranger.certificate))), "PING")
    with pytest.raises(ControlUnavailable):
        await ask(client(replace(address, ca_file="")), "PING")


async def test_certificate_for_another_name_is_not_accepted(client: Connecting, address: RedisAddress) -> None:
    with pytest.raises(ControlUnavailable):
        await ask(client(replace(address, url=address.url.replace("127.0.0.1", "localhost"))), "PING")


async def test_client_without_certificate_is_refused(client: Connecting, address: RedisAddress) -> None:
    with pytest.raises(ControlUnavailable):
        await ask(client(replace(address, cert_file="", key_file="")), "PING")


def problems(**variables: str) -> list[str]:
    """Returns what is said of the settings."""
    with pytest.raises(ConfigError) as caught:
        load(RedisSettings, **{"REDIS_URL": "rediss://redis.example", **variables})
    return caught.value.problems


@pytest.mark.parametrize("variable", ["REDIS_CA_FILE", "REDIS_CERT_FILE", "REDIS_KEY_FILE"])
def test_a_file_that_is_not_there_is_named_by_its_variable(variable: str, authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue("client", "DNS:client")
    good = {
        "REDIS_CA_FILE": str(authority.certificate),
        "REDIS_CERT_FILE": str(certificate),
        "REDIS_KEY_FILE": str(key),
    }
    assert load(RedisSettings, REDIS_URL="rediss://redis.example", **good).redis.key_file == str(key)
    missing = {**good, variable: str(tmp_path / "nothing.pem")}
    assert problems(**missing) == [f"{variable}: cannot be read (No such file or directory)"]


def test_a_file_with_something_else_in_it_is_named_by_its_variable(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue("one", "DNS:one")
    _, other_key = authority.issue("other", "DNS:other")
    junk = tmp_path / "junk.pem"
    junk.write_text("no certificate\n")
    assert problems(REDIS_CA_FILE=str(junk)) == ["REDIS_CA_FILE: holds no certificate in PEM format"]
    assert problems(REDIS_CERT_FILE=str(junk)) == ["REDIS_CERT_FILE: holds no certificate in PEM format"]
    unfit = "REDIS_KEY_FILE: holds no unlocked key that belongs to the certificate"
    assert problems(REDIS_CERT_FILE=str(certificate)) == [unfit]
    assert problems(REDIS_CERT_FILE=str(certificate), REDIS_KEY_FILE=str(junk)) == [unfit]
    assert problems(REDIS_CERT_FILE=str(certificate), REDIS_KEY_FILE=str(other_key)) == [unfit]
    assert problems(REDIS_KEY_FILE=str(key)) == ["REDIS_CERT_FILE: is missing beside REDIS_KEY_FILE"]


def test_files_for_tls_without_tls_are_a_mistake(authority: Authority) -> None:
    [problem] = problems(REDIS_URL="redis://redis.example", REDIS_CA_FILE=str(authority.certificate))
    assert problem == "REDIS_CA_FILE: is of no use unless REDIS_URL starts with rediss://"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("redis://:pa/word@redis.example:6379", "REDIS_URL: has no port number; in a password, / # ? @ are %2F "),
        ("rediss://redis.example?ssl_cert_reqs=none", "REDIS_URL: takes no ssl_ options; see REDIS_CA_FILE, "),
    ],
)
def test_a_url_that_would_not_do_what_it_seems_to_is_refused(url: str, problem: str) -> None:
    [said] = problems(REDIS_URL=url)
    assert said.startswith(problem)


def test_bad_files_are_found_without_settings_too(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="REDIS_CA_FILE"):
        connect(RedisAddress("rediss://redis.example", ca_file=str(tmp_path / "nothing.pem")))
