"""What our dashboards are made of: panels that need little said, the variables and links that all of them have.

It knows neither metrics nor dashboards. Grafana's own library (grafana-foundation-sdk) knows how JSON has to look.
"""

from collections.abc import Sequence

from grafana_foundation_sdk.builders import bargauge, common, dashboard, heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import heatmap as heat
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

TAG = "voicepool"
METRICS = model.DataSourceRef(type_val="prometheus", uid="${metrics}")
RUNBOOK = "docs/runbook.md"
"""Where alerts and dashboards say the runbook is; the Helm chart puts a URL in its place."""

GREEN, YELLOW, RED, BLUE = "green", "yellow", "red", "blue"

Line = tuple[str, str]
"""A PromQL expression, and how its series are called in the legend."""

Steps = Sequence[tuple[float, str]]
"""From which value on a panel has which colour; below the first one it is green."""


def lines(
    title: str, about: str, *queries: Line, unit: str = "short", steps: Steps = (), stacked: bool = False, span: int = 8
) -> timeseries.Panel:
    """Returns a graph over time. `span` is in 24ths of the width."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(about)
        .datasource(METRICS)
        .unit(unit)
        .min(0)
        .span(span)
        .height(8)
        .line_width(1)
        .fill_opacity(30 if stacked else 8)
        .show_points(options.VisibilityMode.NEVER)
        .legend(common.VizLegendOptions().show_legend(True).placement(options.LegendPlacement.BOTTOM))
        .tooltip(common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI).sort(options.SortOrder.DESCENDING))
    )
    for expression, legend in queries:
        panel.with_target(_query(expression).legend_format(legend))
    if stacked:
        panel.stacking(common.StackingConfig().mode(options.StackingMode.NORMAL))
    if steps:
        panel.thresholds(_thresholds(steps))
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(options.GraphThresholdsStyleMode.DASHED))
    return panel


def figure(
    title: str, about: str, expression: str, *, unit: str = "short", steps: Steps = (), lowest: str = GREEN
) -> stat.Panel:
    """Returns one figure with its colour; `lowest` is that below the first step."""
    return (
        stat.Panel()
        .title(title)
        .description(about)
        .datasource(METRICS)
        .unit(unit)
        .span(3)
        .height(4)
        .color_mode(options.BigValueColorMode.BACKGROUND)
        .graph_mode(options.BigValueGraphMode.AREA)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(_thresholds(steps, lowest))
        .with_target(_query(expression))
    )


def bars(title: str, about: str, *queries: Line, unit: str, steps: Steps, span: int = 8) -> bargauge.Panel:
    """Returns horizontal bars of what is so now; they are full at 1."""
    panel = (
        bargauge.Panel()
        .title(title)
        .description(about)
        .datasource(METRICS)
        .unit(unit)
        .min(0)
        .max(1)
        .span(span)
        .height(8)
        .orientation(options.VizOrientation.HORIZONTAL)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(_thresholds(steps))
    )
    for expression, legend in queries:
        panel.with_target(_query(expression).instant().legend_format(legend))
    return panel


def spread(title: str, about: str, buckets: str, *, span: int = 12) -> heatmap.Panel:
    """Returns how the values of a histogram are spread over time; in seconds."""
    return (
        heatmap.Panel()
        .title(title)
        .description(about)
        .datasource(METRICS)
        .span(span)
        .height(8)
        .calculate(False)
        .y_axis(heatmap.YAxisConfig().unit("s"))
        .color(heatmap.HeatmapColorOptions().mode(heat.HeatmapColorMode.SCHEME).scheme("Oranges").steps(64))
        .with_target(_query(buckets).format(PromQueryFormat.HEATMAP).legend_format("{{le}}"))
    )


def board(uid: str, title: str, about: str, own: Sequence[Builder[model.VariableModel]] = ()) -> dashboard.Dashboard:
    """Returns an empty dashboard with what all of ours have: variables, links, marks of what was done to the pool."""
    made = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(about)
        .tags([TAG])
        .readonly()
        .timezone("browser")
        .refresh("30s")
        .time("now-6h", "now")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("metrics").label("Prometheus").type("prometheus"))
        .with_variable(choice("cluster", "label_values(voicepool_build, cluster)"))
        .with_variable(choice("namespace", 'label_values(voicepool_build{cluster=~"$cluster"}, namespace)'))
        .with_variable(dashboard.ConstantVariable("runbook").value(RUNBOOK))
        .link(_link("Dashboards", model.DashboardLinkType.DASHBOARDS).tags([TAG]).include_vars(True).keep_time(True))
        .link(_link("Runbook", model.DashboardLinkType.LINK).url("${runbook}").icon("doc").target_blank(True))
    )
    for name, expression, color in _HAPPENINGS:
        made.annotation(
            dashboard.AnnotationQuery().name(name).datasource(METRICS).expr(expression).icon_color(color).enable(True)
        )
    for variable in own:
        made.with_variable(variable)
    return made


_HERE = 'cluster=~"$cluster", namespace=~"$namespace"'
_HAPPENINGS = (
    (
        "New version",
        f"count by (job, version) (voicepool_build{{{_HERE}}})"
        f" unless count by (job, version) (voicepool_build{{{_HERE}}} offset 5m)",
        BLUE,
    ),
    ("Dispatcher drains", f"voicepool_dispatch_draining{{{_HERE}}} == 1", YELLOW),
    ("Workers drain", f'voicepool_workers{{{_HERE}, state="draining"}} > 0', YELLOW),
    ("Critical alert", f'ALERTS{{{_HERE}, alertname=~"Voicepool.*", alertstate="firing", severity="critical"}}', RED),
)
"""What is marked in all graphs."""


def choice(name: str, query: str, label: str = "") -> dashboard.QueryVariable:
    """Returns a variable with the values of a label; All also means series that do not have the label."""
    return (
        dashboard.QueryVariable(name)
        .label(label or name.capitalize())
        .datasource(METRICS)
        .query(query)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(model.VariableOption(selected=True, text="All", value="$__all"))
    )


def percentiles(metric: str, selector: str, by: str = "") -> tuple[Line, ...]:
    """Returns the 50th, 95th and 99th percentile of a histogram (named without `_bucket`), if need be `by` a label."""
    grouping, called = (f"{by}, le", f"{{{{{by}}}}} ") if by else ("le", "")
    return tuple(
        (
            f"histogram_quantile({q}, sum by ({grouping}) (rate({metric}_bucket{{{selector}}}[$__rate_interval])))",
            f"{called}{name}",
        )
        for q, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
    )


def percentile_95(metric: str, selector: str, by: str = "") -> Line:
    """Returns the 95th percentile alone."""
    return percentiles(metric, selector, by)[1]


def _query(expression: str) -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(expression).datasource(METRICS)


def _link(title: str, kind: model.DashboardLinkType) -> dashboard.DashboardLink:
    return dashboard.DashboardLink(title).type(kind)


def _thresholds(steps: Steps, lowest: str = GREEN) -> dashboard.ThresholdsConfig:
    return (
        dashboard.ThresholdsConfig()
        .mode(model.ThresholdsMode.ABSOLUTE)
        .steps([model.Threshold(color=lowest), *(model.Threshold(value=value, color=color) for value, color in steps)])
    )
