"""The settings that say who is to be shown what is measured."""

import pytest

from shared.errors import ConfigError
from shared.settings import DispatcherSettings, load


def settings(**env: str) -> DispatcherSettings:
    return load(DispatcherSettings, LEASE_SECRET="0123456789abcdef", **env)


def test_nobody_is_shown_anything_unless_it_is_asked_for() -> None:
    assert not settings().telemetry
    assert settings(TELEMETRY_PORT="").telemetry_port is None


@pytest.mark.parametrize("env", [{"TELEMETRY_PORT": "0"}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}])
def test_a_port_or_a_collector_is_enough(env: dict[str, str]) -> None:
    assert settings(**env).telemetry


@pytest.mark.parametrize(
    "env",
    [
        {"TELEMETRY_PORT": "65536"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317"},
        {"TRACE_RATIO": "1.5"},
        {"TRACE_RATIO": "-0.1"},
    ],
)
def test_what_makes_no_sense_is_refused(env: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=next(iter(env))):
        settings(**env)
