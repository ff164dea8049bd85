"""Checking, explaining and listing the settings."""

import re
from pathlib import Path

import pytest

from admin import settings

REPOSITORY = Path(__file__).parents[3]

SECRET = "a-secret-of-thirty-two-characters"
KEY = "0123456789abcdef0123456789abcdef"


def required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEASE_SECRET", SECRET)
    monkeypatch.setenv("AZURE_VOICELIVE_ENDPOINT", "https://resource.example")


def value_of(report: settings.Report, name: str) -> settings.Value:
    return next(value for value in report.values if value.name == name)


def test_every_problem_of_all_processes_is_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "SIP_PORT": "99999",
        "SIP_ALLOWED_PEERS": "10.0.0.0/8,everybody",
        "REDIS_URL": "localhost:6379",
        "WORKER_CAPACITY": "many",
        "VOICE_LIVE_UPLINK_MS": "33",
    }.items():
        monkeypatch.setenv(name, value)
    report = settings.check()
    assert not report.ok
    assert {problem.partition(":")[0] for problem in report.problems} == {
        "LEASE_SECRET",
        "AZURE_VOICELIVE_ENDPOINT",
        "SIP_PORT",
        "SIP_ALLOWED_PEERS",
        "REDIS_URL",
        "WORKER_CAPACITY",
        "VOICE_LIVE_UPLINK_MS",
    }
    assert len(report.problems) == 7, "each is named once, though several processes have it"
    assert report.values == []


def test_what_is_wrong_between_settings_is_reported_together_with_what_is_wrong_in_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORKER_PROCESSES", "2")
    monkeypatch.setenv("MEDIA_PORT_COUNT", "10")
    monkeypatch.setenv("LOG_LEVEL", "LOUD")
    problems = settings.check().problems
    assert "MEDIA_PORT_COUNT: 400 or more are needed for 2 workers of 100 calls" in problems
    assert "LOG_LEVEL: must be DEBUG, INFO, WARNING or ERROR" in problems


def test_no_problem_shows_what_a_secret_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEASE_SECRET", "tooshort")
    monkeypatch.setenv("AZURE_VOICELIVE_ENDPOINT", "user:hunter2@host")
    text = "\n".join(settings.check().problems)
    assert "tooshort" not in text
    assert "hunter2" not in text


def test_good_settings_come_back_with_secrets_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    required(monkeypatch)
    monkeypatch.setenv("AZURE_VOICELIVE_API_KEY", KEY)
    monkeypatch.setenv("REDIS_URL", "redis://user:pa%2Fss@redis.example:6379/0?password=again")
    report = settings.check()
    assert report.ok
    shown = str(report.as_json())
    for secret in (SECRET, KEY, "pa%2Fss", "again"):
        assert secret not in shown
    assert value_of(report, "LEASE_SECRET").value == settings.MASK
    assert value_of(report, "REDIS_URL").value == "redis://********@redis.example:6379/0?********"


def test_an_api_key_that_is_not_set_is_not_shown_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    required(monkeypatch)
    assert value_of(settings.check(), "AZURE_VOICELIVE_API_KEY").value == ""


def test_values_say_where_they_come_from(monkeypatch: pytest.MonkeyPatch, bare_environment: Path) -> None:
    required(monkeypatch)
    (bare_environment / ".env").write_text("SIP_PORT=5070\nLOG_LEVEL=DEBUG\n")
    monkeypatch.setenv("LOG_LEVEL", "ERROR")
    report = settings.check()
    assert value_of(report, "SIP_PORT") == settings.Value("SIP_PORT", "5070", ".env")
    assert value_of(report, "LOG_LEVEL") == settings.Value("LOG_LEVEL", "ERROR", "environment")
    assert value_of(report, "MEDIA_PORT") == settings.Value("MEDIA_PORT", "16384", "default")


def test_settings_left_open_are_shown_as_what_they_come_to(monkeypatch: pytest.MonkeyPatch) -> None:
    required(monkeypatch)
    monkeypatch.setenv("SIP_VIA_ADDR", "192.0.2.7")
    monkeypatch.setenv("WORKER_PROCESSES", "3")
    report = settings.check()
    assert value_of(report, "MEDIA_ADDRESS").value == "192.0.2.7"
    assert value_of(report, "MEDIA_PORT_COUNT").value == str(3 * 100 * 6)


def test_webhooks_are_not_asked_of_those_who_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    required(monkeypatch)
    monkeypatch.setenv("WEBHOOK_URL", "")
    report = settings.check()
    assert report.problems == []
    assert [value for value in report.values if value.name.startswith("WEBHOOK_")] == []


def test_half_set_webhooks_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    required(monkeypatch)
    monkeypatch.setenv("WEBHOOK_URL", "hooks.example")
    assert settings.check().problems == [
        "WEBHOOK_URL: must be a URL that starts with https:// or http://",
        "WEBHOOK_SECRET: is missing",
    ]


def test_webhooks_are_shown_with_their_secret_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    required(monkeypatch)
    monkeypatch.setenv("WEBHOOK_URL", "https://user:word@hooks.example/voicepool?key=again")
    monkeypatch.setenv("WEBHOOK_SECRET", SECRET)
    report = settings.check()
    assert value_of(report, "WEBHOOK_URL").value == "https://********@hooks.example/voicepool?********"
    assert value_of(report, "WEBHOOK_SECRET").value == settings.MASK
    assert value_of(report, "WEBHOOK_EVENTS") == settings.Value("WEBHOOK_EVENTS", "call.*", "default")


def test_a_misspelt_name_is_a_warning_that_names_the_right_one(
    monkeypatch: pytest.MonkeyPatch, bare_environment: Path
) -> None:
    required(monkeypatch)
    (bare_environment / ".env").write_text("SIP_PROT=5070\n")
    monkeypatch.setenv("VOICE_LIVE_MODLE", "gpt-4.1")
    report = settings.check()
    assert report.ok
    assert report.warnings == [
        "SIP_PROT: is not a setting; did you mean SIP_PORT?",
        "VOICE_LIVE_MODLE: is not a setting; did you mean VOICE_LIVE_MODEL?",
    ]


def test_secrets_that_the_agent_file_names_are_no_misspelt_settings(
    monkeypatch: pytest.MonkeyPatch, bare_environment: Path
) -> None:
    required(monkeypatch)
    (bare_environment / "agents.yaml").write_text(
        'a: {secret: ORDERS_TOKEN}\nb:\n  secret: \'shop.key\'\nc: {"secret": "AZURE_VOICELIVE_WEST"}\n[not good\n'
    )
    (bare_environment / ".env").write_text("AGENTS_FILE=agents.yaml\nORDERS_TOKEN=x\nshop.key=y\nOTHER_TOKEN=z\n")
    monkeypatch.setenv("AZURE_VOICELIVE_WEST", "w")
    assert settings.check().warnings == ["OTHER_TOKEN: is not a setting"]


def test_an_agent_file_that_is_not_there_names_no_secrets(
    monkeypatch: pytest.MonkeyPatch, bare_environment: Path
) -> None:
    required(monkeypatch)
    (bare_environment / ".env").write_text("AGENTS_FILE=agents.yaml\nORDERS_TOKEN=x\n")
    assert settings.check().warnings == ["ORDERS_TOKEN: is not a setting"]


def test_the_sample_names_every_setting_once() -> None:
    names = re.findall(r"^#?([A-Z_]+)=", settings.sample(), re.MULTILINE)
    assert sorted(names) == sorted(setting.name for setting in settings.all_settings())


def test_the_sample_asks_for_what_every_pool_needs() -> None:
    asked = re.findall(r"^([A-Z_]+)=", settings.sample(), re.MULTILINE)
    assert asked == ["LEASE_SECRET", "AZURE_VOICELIVE_ENDPOINT"]


def test_the_sample_is_good_once_the_required_settings_are_filled_in(bare_environment: Path) -> None:
    filled = settings.sample().replace("LEASE_SECRET=", f"LEASE_SECRET={SECRET}")
    filled = filled.replace("AZURE_VOICELIVE_ENDPOINT=", "AZURE_VOICELIVE_ENDPOINT=https://resource.example")
    (bare_environment / ".env").write_text(filled)
    report = settings.check()
    assert report.problems == []
    assert report.warnings == []


def test_the_defaults_in_the_sample_are_the_defaults(bare_environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    required(monkeypatch)
    without = {value.name: value.value for value in settings.check().values}
    sample = settings.sample().replace("LEASE_SECRET=", "").replace("AZURE_VOICELIVE_ENDPOINT=", "")
    (bare_environment / ".env").write_text(re.sub(r"^#([A-Z_]+=)", r"\1", sample, flags=re.MULTILINE))
    report = settings.check()
    assert report.problems == []
    assert {value.name: value.value for value in report.values} == without


def test_the_table_in_the_documentation_is_up_to_date() -> None:
    text = (REPOSITORY / "docs" / "configuration.md").read_text("utf-8")
    assert text == settings.with_table(text), "run: voicepool config table --into docs/configuration.md"


def test_a_document_without_marker_lines_is_refused() -> None:
    with pytest.raises(ValueError, match="it has no lines"):
        settings.with_table("# Configuration\n")


@pytest.mark.parametrize(
    ("name", "values"),
    {
        "LEASE_SECRET": "secret",
        "AZURE_VOICELIVE_API_KEY": "secret",
        "SIP_TCP": "true, false",
        "MEDIA_SRTP": "off, optional, mandatory",
        "SIP_TLS_PORT": "0 to 65535",
        "VOICE_LIVE_UPLINK_MS": "20 to 200, in steps of 20",
        "VOICE_LIVE_CONNECT_TIMEOUT_S": "more than 0, 60 at most",
        "VOICE_LIVE_SESSIONS": "1 or more",
        "SIP_VIA_ADDR": "",
    }.items(),
)
def test_the_table_says_what_a_setting_may_be(name: str, values: str) -> None:
    assert {setting.name: setting.values for setting in settings.all_settings()}[name] == values
