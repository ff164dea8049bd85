"""The command line: what it prints and how it exits."""

import fcntl
import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from admin.cli import main
from admin.settings import BEGIN, END

GOOD = {"LEASE_SECRET": "a-secret-of-thirty-two-characters", "AZURE_VOICELIVE_ENDPOINT": "https://resource.example"}


def test_config_check_exits_2_and_names_each_bad_variable() -> None:
    result = CliRunner().invoke(main, ["config", "check"], env={"SIP_PORT": "five"})
    assert result.exit_code == 2
    assert "LEASE_SECRET: is missing" in result.output
    assert "AZURE_VOICELIVE_ENDPOINT: is missing" in result.output
    assert "SIP_PORT: " in result.output


def test_config_check_exits_0_and_shows_the_values() -> None:
    result = CliRunner().invoke(main, ["config", "check"], env=GOOD)
    assert result.exit_code == 0
    assert "https://resource.example" in result.output
    assert GOOD["LEASE_SECRET"] not in result.output


def test_config_check_in_json() -> None:
    bad = CliRunner().invoke(main, ["config", "check", "--json"])
    assert json.loads(bad.output)["ok"] is False
    good = json.loads(CliRunner().invoke(main, ["config", "check", "--json"], env=GOOD).output)
    assert good["ok"] is True
    assert {"name": "SIP_PORT", "value": "5060", "source": "default"} in good["values"]


def test_config_table_is_written_into_a_document(bare_environment: Path) -> None:
    document = bare_environment / "README.md"
    document.write_text(f"before\n{BEGIN}\nof last year\n{END}\nafter\n")
    assert CliRunner().invoke(main, ["config", "table", "--into", str(document)]).exit_code == 0
    text = document.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "`SIP_PORT`" in text
    assert "of last year" not in text


def test_run_with_bad_settings_starts_nothing_and_says_which(bare_environment: Path) -> None:
    result = CliRunner().invoke(main, ["run", "--once"], env={"WORKER_CAPACITY": "0", "SIP_PORT": "-1"})
    assert result.exit_code == 2
    assert "WORKER_CAPACITY" in result.output
    assert "SIP_PORT" in result.output
    assert list(bare_environment.glob("run/*.log")) == []


@pytest.mark.parametrize("command", ["ps", "records"])
def test_views_say_when_redis_does_not_answer(command: str) -> None:
    result = CliRunner().invoke(main, [command], env={"REDIS_URL": "redis://:secret@127.0.0.1:1/0"})
    assert result.exit_code == 4
    assert "does not answer" in result.output
    assert "secret" not in result.output


@pytest.mark.parametrize(("command", "text"), [("ps", "No workers"), ("records", "no call records")])
def test_views_of_an_empty_pool_say_so(command: str, text: str, redis_url: str) -> None:
    result = CliRunner().invoke(main, [command], env={"REDIS_URL": redis_url})
    assert result.exit_code == 0
    assert text in result.output


def test_a_second_run_in_the_same_directory_is_refused(bare_environment: Path) -> None:
    (bare_environment / "run").mkdir()
    with (bare_environment / "run" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = CliRunner().invoke(main, ["run", "--once", "--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {
        "ok": False,
        "problems": ["another `voicepool run` uses run/; end that one first"],
    }


def test_run_without_what_draws_its_pictures_says_what_to_install() -> None:
    code = "import sys; sys.modules['matplotlib'] = None; from admin.cli import main; main(['run'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, "pip install 'voicepool[run]'" in done.stderr) == (2, True)
