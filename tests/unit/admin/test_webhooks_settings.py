"""The settings of the webhook sender."""

import pytest

from admin.webhooks.settings import WebhookSettings
from shared.errors import ConfigError
from shared.settings import load

GOOD = {"WEBHOOK_URL": "https://example.com/hook", "WEBHOOK_SECRET": "0123456789abcdef"}


def test_two_settings_suffice() -> None:
    settings = load(WebhookSettings, **GOOD)
    assert settings.webhook_events == ("call.*",)
    assert (settings.webhook_timeout_s, settings.webhook_attempts, settings.log_level) == (5.0, 8, "INFO")
    assert "0123456789abcdef" not in repr(settings)


def test_events_are_chosen_by_patterns() -> None:
    settings = load(WebhookSettings, **GOOD, WEBHOOK_EVENTS=" call.ended , worker.l*,")
    names = ("call.ended", "call.started", "worker.lost", "worker.left", "worker.joined", "worker.late")
    assert [settings.wants(name) for name in names] == [True, False, True, True, False, True]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("WEBHOOK_URL", "example.com/hook"),
        ("WEBHOOK_URL", "ftp://example.com/"),
        ("WEBHOOK_URL", "http://example.com/hook"),
        ("WEBHOOK_URL", "https://"),
        ("WEBHOOK_URL", "https://example.com:port/"),
        ("WEBHOOK_URL", "https://www..example.com/"),
        ("WEBHOOK_SECRET", "0123456789abcde"),
        ("WEBHOOK_EVENTS", ""),
        ("WEBHOOK_EVENTS", "call.ended,calls.*"),
        ("WEBHOOK_TIMEOUT_S", "0"),
        ("WEBHOOK_ATTEMPTS", "0"),
        ("LOG_LEVEL", "LOUD"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_not_shown(variable: str, value: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load(WebhookSettings, **{**GOOD, variable: value})
    [problem] = raised.value.problems
    assert problem.startswith(f"{variable}: ")
    assert "0123456789" not in problem and "example.com" not in problem


def test_everything_that_is_missing_is_said_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        load(WebhookSettings)
    assert raised.value.problems == ["WEBHOOK_URL: is missing", "WEBHOOK_SECRET: is missing"]
