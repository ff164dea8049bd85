"""The dashboards are those of the scripts, fit the screen, and ask for what there is."""

import itertools
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from scripts.dashboards.__main__ import FOLDER, written
from tests.acceptance.pool import Layout, running_pool
from tests.deploy.alerts.conftest import Promtool
from tests.deploy.alerts.promql import TARGET_LABELS, grouping_labels, selectors, series_labels
from tests.deploy.alerts.test_alerts import RULES, recorded, rules
from tests.deploy.alerts.test_pool_watched import port_of, serving_api
from tests.deploy.alerts.watch import Prometheus, hurried, watching

FILES = sorted(FOLDER.glob("*.json"))
COLUMNS = 24  # of Grafana's grid

each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def load(file: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(file.read_text())
    return loaded


def shown(board: dict[str, Any]) -> list[dict[str, Any]]:
    """The panels that show something: all but rows."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def expressions(board: dict[str, Any]) -> Iterator[str]:
    """All PromQL: of panels, of marks in the graphs; as Grafana sends it, with its own variables filled in."""
    asked = [target["expr"] for panel in shown(board) for target in panel.get("targets", ()) if "expr" in target]
    marks = [mark["expr"] for mark in board["annotations"]["list"]]
    for expression in asked + marks:
        if not expression.startswith("{$streams}"):  # LogQL
            yield expression.replace("$__rate_interval", "5m")


def test_the_files_are_those_that_the_scripts_write() -> None:
    assert {file.name: file.read_text() for file in FILES} == written()


@each_file
def test_grafanas_own_model_reads_a_file_and_loses_nothing(file: Path) -> None:
    register_default_plugins()
    known = load(file)
    for mark in known["annotations"]["list"]:
        del mark["titleFormat"]  # of Grafana's Prometheus alone
    assert json.loads(JSONEncoder().encode(Dashboard.from_json(known))) == known


@each_file
def test_panels_fit_the_grid_and_do_not_overlap(file: Path) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in load(file)["panels"]:
        at = panel["gridPos"]
        assert at["x"] >= 0 and at["x"] + at["w"] <= COLUMNS
        cells = set(itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])))
        assert not cells & taken, panel["title"]
        taken |= cells


@each_file
def test_rows_of_panels_are_as_wide_as_the_screen(file: Path) -> None:
    widths: dict[int, int] = {}
    for panel in load(file)["panels"]:
        widths[panel["gridPos"]["y"]] = widths.get(panel["gridPos"]["y"], 0) + panel["gridPos"]["w"]
    assert set(widths.values()) == {COLUMNS}


@each_file
def test_a_panel_says_what_it_shows_and_in_what_unit(file: Path) -> None:
    titles = [panel["title"] for panel in shown(load(file))]
    assert len(set(titles)) == len(titles)
    for panel in shown(load(file)):
        if panel["type"] == "text":
            continue
        assert panel["description"]
        if panel["type"] in ("timeseries", "stat", "bargauge"):
            assert panel["fieldConfig"]["defaults"]["unit"]


@each_file
def test_sources_are_chosen_by_whoever_looks(file: Path) -> None:
    board = load(file)
    chosen = {
        f"${{{variable['name']}}}" for variable in board["templating"]["list"] if variable["type"] == "datasource"
    }
    named = [panel["datasource"]["uid"] for panel in shown(board) if panel["type"] != "text"]
    named += [target["datasource"]["uid"] for panel in shown(board) for target in panel.get("targets", ())]
    named += [mark["datasource"]["uid"] for mark in board["annotations"]["list"]]
    assert set(named) == chosen


@each_file
def test_every_variable_is_used_and_every_used_one_is_there(file: Path) -> None:
    board = load(file)
    there = {variable["name"] for variable in board["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]\w*)", file.read_text()))
    assert used == there


@each_file
def test_dashboards_lead_to_each_other(file: Path) -> None:
    board = load(file)
    [boards] = board["links"]
    assert boards["type"] == "dashboards"
    assert set(boards["tags"]) <= set(board["tags"])


def test_their_ids_are_their_own() -> None:
    assert len({load(file)["uid"] for file in FILES}) == len({load(file)["title"] for file in FILES}) == len(FILES)


@each_file
def test_panels_and_their_queries_have_ids_of_their_own(file: Path) -> None:
    panels = load(file)["panels"]
    assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))
    for panel in panels:
        names = [target["refId"] for target in panel.get("targets", ())]
        assert names == list("ABCDEFGH"[: len(names)]), panel["title"]


@each_file
def test_a_mark_says_what_it_is_of(file: Path) -> None:
    known = series_labels()
    for mark in load(file)["annotations"]["list"]:
        [used, *_] = [*(known[each.name] for each in selectors(mark["expr"])), frozenset({"alertname"})]
        shown_labels = set(re.findall(r"\{\{(\w+)\}\}", mark["titleFormat"]))
        assert shown_labels
        assert shown_labels <= used | TARGET_LABELS


@each_file
def test_zeros_alone_do_not_make_an_axis_of_10000_percent(file: Path) -> None:
    graphs = [panel for panel in shown(load(file)) if panel["type"] == "timeseries"]
    assert all(panel["fieldConfig"]["defaults"]["custom"]["axisSoftMax"] > 0 for panel in graphs)


def test_prometheus_takes_every_expression(promtool: Promtool, tmp_path: Path) -> None:
    asked = [expression for file in FILES for expression in expressions(load(file))]
    assert asked
    written_rules = tmp_path / "dashboards.rules.yml"
    group = [{"record": f"dashboard:{number}", "expr": expression} for number, expression in enumerate(asked)]
    written_rules.write_text(yaml.safe_dump({"groups": [{"name": "dashboards", "rules": group}]}))
    promtool("check", "rules", written_rules)


@each_file
def test_an_expression_uses_metrics_and_labels_that_exist(file: Path) -> None:
    known = series_labels() | recorded()
    for expression in expressions(load(file)):
        used = list(selectors(expression))
        assert used or "ALERTS" in expression
        for each in used:
            assert each.name in known, expression
            assert each.labels <= known[each.name] | TARGET_LABELS, expression
        there = frozenset().union(*(known[each.name] for each in used)) | TARGET_LABELS
        if "ALERTS" in expression:
            there |= {"alertname", "severity"}
        assert grouping_labels(expression) <= there, expression


@each_file
def test_a_legend_uses_labels_that_are_left(file: Path) -> None:
    known = series_labels() | recorded()
    for panel in shown(load(file)):
        for target in panel.get("targets", ()):
            labels = set(re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", "")))
            if not labels:
                continue
            used = [each.name for each in selectors(target["expr"])]
            summed = grouping_labels(target["expr"])
            left = summed or frozenset().union(*(known[name] for name in used)) | TARGET_LABELS
            assert labels <= left, target["expr"]


def test_nothing_is_measured_or_recorded_for_nobody() -> None:
    asked = [expression for file in FILES for expression in expressions(load(file))]
    asked += [rule["expr"] for rule in rules()]
    names = {each.name for expression in asked for each in selectors(expression)}
    assert set(recorded()) <= names
    used = {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}
    measured = {re.sub(r"_(bucket|sum|count)$", "", name) for name in series_labels()}
    assert measured - used <= {"voicepool_pool_calls"}  # what Redis counts; workers themselves say more


@pytest.fixture(scope="module")
def rested(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """What watches a pool that has never had a call."""
    directory = tmp_path_factory.mktemp("rested")
    with (
        watching(directory, hurried(RULES.read_text())) as prometheus,
        running_pool(directory, Layout(), workers=1, TELEMETRY_PORT="0") as pool,
        serving_api(pool) as api,
    ):
        prometheus.scrape(dispatcher=[port_of(pool.dispatcher)], worker=[port_of(pool.supervisor)], admin=[api])
        prometheus.wait_for('voicepool_pool_workers{state="ready"}', 1)
        prometheus.wait_for("min(up)", 1)
        prometheus.wait_for("max(voicepool:free_slots:ratio)", 1)
        prometheus.wait_for("count(rate(voicepool_audio_late_ticks_total[1m]))", 1)  # scraped twice
        yield prometheus


@pytest.mark.long
@pytest.mark.timeout(120)
@each_file
def test_a_pool_without_calls_shows_zeros_or_says_what_is_missing(rested: Prometheus, file: Path) -> None:
    for panel in shown(load(file)):
        for target in panel.get("targets", ()):
            if target["datasource"]["type"] != "prometheus":
                continue
            value = rested.value(re.sub(r"\$(?!__)\w+", ".*", target["expr"]).replace("$__rate_interval", "1m"))
            if value is None or math.isnan(value):
                assert panel["fieldConfig"]["defaults"].get("noValue", "N/A") != "N/A", panel["title"]
