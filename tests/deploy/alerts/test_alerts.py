"""Every alert fires when it should, is silent when all is well, and says what to do."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from admin.cli import main
from admin.settings import all_settings
from tests.deploy.alerts.conftest import Promtool
from tests.deploy.alerts.promql import TARGET_LABELS, grouping_labels, selectors, series_labels

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
RULES = ROOT / "helm" / "voicepool" / "files" / "alerts" / "voicepool.rules.yml"
RUNBOOK = ROOT / "docs" / "runbook.md"
PARTS = ("admin", "dispatcher", "shared", "worker")
SCENARIOS = sorted(HERE.glob("*.test.yml"))


@cache
def rules() -> tuple[dict[str, Any], ...]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return tuple(rule for group in groups for rule in group["rules"])


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def recorded() -> dict[str, frozenset[str]]:
    """Recording rules, with the labels that are left in what they record."""
    found: dict[str, frozenset[str]] = {}
    for rule in rules():
        if "record" in rule:
            found[rule["record"]] = frozenset(grouping_labels(rule["expr"]) - {"le"})
    return found


def test_prometheus_takes_the_rules(promtool: Promtool) -> None:
    promtool("check", "rules", RULES)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda path: path.name.removesuffix(".test.yml"))
def test_alerts_fire_and_stop(promtool: Promtool, scenario: Path) -> None:
    promtool("test", "rules", scenario)


def test_every_alert_has_a_scenario_with_before_during_and_after() -> None:
    told: dict[str, list[bool]] = {}
    for scenario in SCENARIOS:
        for test in yaml.safe_load(scenario.read_text())["tests"]:
            for step in test["alert_rule_test"]:
                told.setdefault(step["alertname"], []).append(bool(step["exp_alerts"]))
    assert told == {alert["alert"]: [False, True, False] for alert in alerts()}


def test_no_alert_fires_in_normal_operation(promtool: Promtool, tmp_path: Path) -> None:
    steps = [
        {"eval_time": time, "alertname": alert["alert"], "exp_alerts": []}
        for alert in alerts()
        for time in ("10m", "11h45m", "14h", "23h50m")
    ]
    series = yaml.safe_load((HERE / "normal.yml").read_text())
    day = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "5m",
        "tests": [{"interval": "1m", "input_series": series, "alert_rule_test": steps}],
    }
    written = tmp_path / "normal.test.yml"
    written.write_text(yaml.safe_dump(day))
    promtool("test", "rules", written)


def test_normal_operation_has_every_metric_that_alerts_use() -> None:
    told = {re.split(r"[{ ]", each["series"])[0] for each in yaml.safe_load((HERE / "normal.yml").read_text())}
    used = {used.name for rule in rules() for used in selectors(rule["expr"])} - set(recorded())
    assert used <= told


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule.get("alert", rule.get("record"))))
def test_a_rule_uses_metrics_and_labels_that_exist(rule: dict[str, Any]) -> None:
    known = series_labels() | recorded()
    used = list(selectors(rule["expr"]))
    assert used
    for each in used:
        assert each.name in known
        assert each.labels <= known[each.name] | TARGET_LABELS
    there = frozenset().union(*(known[each.name] for each in used)) | TARGET_LABELS
    assert grouping_labels(rule["expr"]) <= there
    shown = " ".join(rule.get("annotations", {}).values())
    assert set(re.findall(r"\$labels\.(\w+)", shown)) <= there


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: str(alert["alert"]))
def test_an_alert_says_what_who_looks_at_it_needs(alert: dict[str, Any]) -> None:
    assert alert["alert"].startswith("Voicepool")
    assert alert["labels"] in ({"severity": "critical"}, {"severity": "warning"})
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    assert alert["annotations"]["runbook_url"] == f"docs/runbook.md#{alert['alert'].lower()}"


def test_the_runbook_has_an_entry_for_each_alert_and_no_other() -> None:
    entries = re.findall(r"^### (Voicepool\w+)$", RUNBOOK.read_text(), re.MULTILINE)
    assert entries == [alert["alert"] for alert in alerts()]


@pytest.mark.parametrize(
    "entry", RUNBOOK.read_text().split("\n### ")[1:] if RUNBOOK.exists() else [], ids=lambda e: e[:30]
)
def test_a_runbook_entry_answers_the_four_questions(entry: str) -> None:
    text = entry.split("\n## ")[0]
    for question in ("**Callers:**", "**Look:**", "**Do:**", "**Escalate:**"):
        assert text.count(question) == 1


def test_the_runbook_names_only_commands_settings_and_log_events_that_exist() -> None:
    quoted = set(re.findall(r"`([^`\n]+)`", RUNBOOK.read_text()))
    commands = {text.split()[1] for text in quoted if text.startswith("voicepool ")}
    assert commands <= set(main.commands)
    settings = {name for text in RUNBOOK.read_text().split() for name in re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", text)}
    assert settings <= {setting.name for setting in all_settings()}
    code = "".join(file.read_text() for part in PARTS for file in (ROOT / part).rglob("*.py"))
    events = {text for text in quoted if re.fullmatch(r"[a-z_]+\.[a-z_]+", text)}
    assert events
    assert not {event for event in events if f'"{event}"' not in code}
