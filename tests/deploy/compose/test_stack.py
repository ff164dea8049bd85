"""docker-compose.yml as it comes: calls are answered, workers come and go, nothing is left."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.compose.calling import call, telephones
from tests.deploy.compose.confinement import assert_confined
from tests.deploy.compose.engine import ROOT
from tests.deploy.compose.stack import Stack

pytestmark = [pytest.mark.compose, pytest.mark.timeout(2400)]

CHANGED_S = 60.0
"""Longest until the worker table shows what was done."""


def test_a_call_is_answered(stack: Stack, tmp_path: Path) -> None:
    [dispatcher] = stack.containers("dispatcher")
    report = call(dispatcher.address, tmp_path, "--say", "Good morning")
    assert report["ok"], report["reason"]
    assert report["turns"][0]["correlation"] > 0.9


@pytest.mark.parametrize("service", ["redis", "dispatcher", "worker", "admin", "simulator"])
def test_containers_may_do_little(stack: Stack, service: str) -> None:
    assert_confined(stack, service)


def test_workers_scale_from_one_to_three(stack: Stack, tmp_path: Path) -> None:
    stack.up(worker=1)
    assert len(stack.voicepool("ps")["workers"]) == 1
    stack.up(worker=3)
    workers = stack.voicepool("ps")["workers"]
    assert {each["pod"] for each in workers if each["state"] == "ready"} == {
        each.pod for each in stack.containers("worker")
    }
    assert len(workers) == 3


def test_a_drained_worker_ends_its_calls_and_the_others_serve(stack: Stack, tmp_path: Path) -> None:
    stack.up(worker=3)
    [dispatcher] = stack.containers("dispatcher")
    with telephones(dispatcher.address, tmp_path, "--calls", "3", "--turns", "3") as calling:
        held = _until(stack, lambda workers: sum(each["leased"] for each in workers) == 3)
        drained = next(each["worker_id"] for each in held if each["leased"])
        stack.voicepool("drain", drained)
        try:
            during = call(dispatcher.address, tmp_path, "--say", "Good morning")
            assert during["ok"], (during["reason"], stack.voicepool("ps"))
            assert all(report["ok"] for report in calling.reports())
            after = _until(stack, lambda workers: not any(each["leased"] for each in workers))
            assert [each["state"] for each in after if each["worker_id"] == drained] == ["draining"]
        finally:
            stack.voicepool("undrain", drained)


def test_a_stopped_worker_leaves_the_table(stack: Stack) -> None:
    stack.up(worker=2)
    stack.up(worker=1)
    assert len(_until(stack, lambda workers: len(workers) == 1)) == 1


def test_azure_takes_no_trial_secret_and_names_what_is_missing(stack: Stack) -> None:
    refused = stack.attempt("--profile=azure", "run", "--rm", "--no-deps", "azure-worker")
    assert refused.returncode != 0
    said = refused.stdout + refused.stderr
    assert "LEASE_SECRET" in said and "AZURE_VOICELIVE_ENDPOINT" in said


def test_the_file_for_a_hosts_own_addresses_wants_a_secret(stack: Stack) -> None:
    own = Stack(stack.engine, f"{stack.project}-host", stack.env, (ROOT / "docker-compose.host.yml",))
    refused = own.attempt("config")
    assert refused.returncode != 0 and "LEASE_SECRET" in refused.stderr


def test_workers_of_one_host_share_no_port(stack: Stack) -> None:
    env = {**stack.env, "LEASE_SECRET": "0123456789abcdef", "REDIS_PASSWORD": "0123456789abcdef"}
    own = Stack(stack.engine, f"{stack.project}-host", env, (ROOT / "docker-compose.host.yml",))
    services = yaml.safe_load(own.compose("config"))["services"]
    workers = [services[name]["environment"] for name in ("worker-a", "worker-b")]
    (first, count), (second, _) = sorted((int(each["MEDIA_PORT"]), int(each["MEDIA_PORT_COUNT"])) for each in workers)
    assert first + count <= second
    assert len({each[name] for each in workers for name in ("WORKER_SIP_PORT", "TELEMETRY_PORT")}) == 4


def _until(stack: Stack, enough: Callable[[list[Any]], bool]) -> list[Any]:
    """Returns the worker table once it is as wanted."""
    deadline = time.monotonic() + CHANGED_S
    while not enough(workers := list(stack.voicepool("ps")["workers"])):
        assert time.monotonic() < deadline, workers
    return workers
