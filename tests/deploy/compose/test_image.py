"""The image: what is in it, what is not, and that its roles run as they must on a hardened host."""

import json

import pytest

from scripts import sbom
from tests.deploy.compose.engine import Engine

pytestmark = [pytest.mark.compose, pytest.mark.timeout(2400)]

SIZE_MAX = 350_000_000
"""Bytes, uncompressed."""

HARDENED = ("--rm", "--network=none", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges")


def test_it_is_small(engine: Engine, image: str) -> None:
    assert int(engine.docker("inspect", "--format={{.Size}}", image)) <= SIZE_MAX


def test_a_change_of_code_makes_only_a_small_layer(engine: Engine, image: str) -> None:
    layers = engine.docker("history", "--human=false", "--format={{.Size}}\t{{.CreatedBy}}", image).splitlines()
    copied = [int(line.split("\t")[0]) for line in layers if " COPY " in line]
    assert copied[0] <= 10_000_000  # the newest first


def test_it_runs_as_nobody_in_particular(engine: Engine, image: str) -> None:
    assert engine.docker("run", *HARDENED, "--entrypoint=id", image, "-u").strip() == "10001"


@pytest.mark.parametrize("tool", ["gcc", "cc", "g++", "ld", "make", "pip", "pip3", "swig", "git", "curl"])
def test_there_is_nothing_to_build_or_fetch_with(engine: Engine, image: str, tool: str) -> None:
    found = engine.attempt(["docker", "run", *HARDENED, "--entrypoint=sh", image, "-c", f"command -v {tool}"], {})
    assert (found.returncode, found.stdout) == (127, "")


def test_nothing_of_the_checkout_but_the_packages_is_in_it(engine: Engine, image: str) -> None:
    where = "/opt/voicepool/lib/python3.11/site-packages"
    found = engine.docker("run", *HARDENED, "--entrypoint=ls", image, where).split()
    assert {"admin", "dispatcher", "shared", "simulator", "worker"} <= set(found)
    assert not {"bench", "tests", "helm", "docs", "pip", "setuptools"} & set(found)


def test_all_code_is_compiled(engine: Engine, image: str) -> None:
    missing = (
        "cd /opt/voicepool/lib/python3.11/site-packages && for file in */*.py; do"
        ' [ -e "${file%/*}/__pycache__/$(basename "$file" .py).cpython-311.pyc" ] || echo "$file"; done'
    )
    assert engine.docker("run", *HARDENED, "--entrypoint=sh", image, "-c", missing) == ""


@pytest.mark.parametrize(
    "modules", ["pjsua2, pjaudioport", "numpy.fft, numpy.random", "uvloop, hiredis", "cryptography.x509"]
)
def test_native_code_finds_its_libraries(engine: Engine, image: str, modules: str) -> None:
    assert engine.docker("run", *HARDENED, "--entrypoint=python", image, "-c", f"import {modules}") == ""


def test_the_version_is_the_projects(engine: Engine, image: str) -> None:
    said = engine.docker("run", *HARDENED, image, "voicepool", "--version")
    assert said.startswith("voicepool ")


def test_an_unknown_role_is_told_the_known_ones(engine: Engine, image: str) -> None:
    refused = engine.attempt(["docker", "run", *HARDENED, image, "worked"], {})
    assert refused.returncode == 64
    assert "dispatcher " in refused.stderr and "simulator " in refused.stderr


def test_a_role_without_its_settings_says_what_is_missing(engine: Engine, image: str) -> None:
    refused = engine.attempt(["docker", "run", *HARDENED, image, "worker"], {})
    assert refused.returncode != 0
    assert "LEASE_SECRET" in refused.stderr and "AZURE_VOICELIVE_ENDPOINT" in refused.stderr


def test_its_bill_of_materials_is_valid_and_whole(image: str, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", engine.host or "unix:///var/run/docker.sock")
    document = sbom.bom_of(image)
    assert sbom.problem_of(document) is None
    components = {each["name"]: each for each in json.loads(document)["components"]}
    assert {"pjproject", "libssl3", "redis", "voicepool", "python3.11"} <= components.keys()
    assert components["pjproject"]["hashes"][0]["alg"] == "SHA-256"
