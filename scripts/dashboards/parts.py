"""What our dashboards are made of: panels that need little said, the variables and marks that all of them have.

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
GREEN, YELLOW, RED, BLUE = "green", "yellow", "red", "blue"

Line = tuple[str, str]
"""A PromQL expression, and how its series are called in the legend."""

Steps = Sequence[tuple[float, str]]
"""From which value on a panel has which colour; below the first one it is green."""

WHOLE = "none"
"""The unit of what is counted one by one: an axis without halves."""

_LEAST = {WHOLE: 1.0, "short": 1.0, "cps": 0.1, "percentunit": 0.1, "s": 0.01}
"""What an axis reaches at least, by unit: of zeros alone Grafana would make one from 0 to 100, or to 10,000 %."""

_MEANINGS = (
    (GREEN, "ready|placed|claimed|ok|completed"),
    (BLUE, "starting|draining|cancelled"),
    (YELLOW, "late|provisional|warning"),
    (RED, "refused|failed|lost|silent|died|hung|critical"),
)
_MEANT_BY = ("{{state}}", "{{outcome}}", "{{result}}", "{{cause}}", "{{severity}}")
"""Values of these labels have the colour of what they mean; several in one graph have shades of it."""


def lines(
    title: str,
    about: str,
    *queries: Line,
    unit: str = "short",
    steps: Steps = (),
    stacked: bool = False,
    least: float | None = None,
    nothing: str = "",
    aside: bool = False,
    span: int = 8,
    height: int = 8,
) -> timeseries.Panel:
    """Returns a graph over time.

    `least` is what the axis reaches at least, else it goes by the unit; `nothing` is what stands there instead of "No
    data"; `aside` puts a long legend beside the graph; `span` is in 24ths of the width.
    """
    placement = options.LegendPlacement.RIGHT if aside else options.LegendPlacement.BOTTOM
    panel = (
        timeseries.Panel()
        .title(title)
        .description(about)
        .datasource(METRICS)
        .unit(unit)
        .min(0)
        .axis_soft_max(_LEAST[unit] if least is None else least)
        .span(span)
        .height(height)
        .line_width(0 if stacked else 1)  # a line would lie on top of the stack where its series is 0
        .fill_opacity(70 if stacked else 0)
        .show_points(options.VisibilityMode.NEVER)
        .legend(common.VizLegendOptions().show_legend(True).placement(placement))
        .tooltip(common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI).sort(options.SortOrder.DESCENDING))
    )
    for number, (expression, legend) in enumerate(queries):
        panel.with_target(_query(expression, number).legend_format(legend))
    if unit == WHOLE:
        panel.decimals(0)
    if nothing:
        panel.no_value(nothing)
    if stacked:
        panel.stacking(common.StackingConfig().mode(options.StackingMode.NORMAL))
    if any(label in legend for _, legend in queries for label in _MEANT_BY):
        for color, names in _MEANINGS:
            panel.override_by_regexp(rf"/\b({names})(:|$)/", [_shades_of(color)])
    if steps:
        panel.thresholds(_thresholds(steps))
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(options.GraphThresholdsStyleMode.DASHED))
    return panel


def figure(
    title: str,
    about: str,
    expression: str,
    *,
    unit: str = "short",
    steps: Steps = (),
    lowest: str = GREEN,
    nothing: str = "N/A",
) -> stat.Panel:
    """Returns what is so now, as a figure with its colour; `lowest` is that below the first step.

    Now means at the end of the time that is looked at: the last value in it could be hours old. `nothing` stands there
    without a value; longer words do not fit.
    """
    return (
        stat.Panel()
        .title(title)
        .description(about)
        .datasource(METRICS)
        .unit(unit)
        .span(3)
        .height(4)
        .color_mode(options.BigValueColorMode.BACKGROUND)
        .graph_mode(options.BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(_thresholds(steps, lowest))
        .no_value(nothing)
        .with_target(_query(expression).instant())
    )


def bars(
    title: str, about: str, query: Line, *, unit: str, steps: Steps, nothing: str, span: int = 8
) -> bargauge.Panel:
    """Returns horizontal bars of what is so now; they are full at 1. `nothing` stands there without any."""
    expression, legend = query
    return (
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
        .max_viz_height(40)
        .text(common.VizTextDisplayOptions().title_size(14).value_size(18))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(_thresholds(steps))
        .no_value(nothing)
        .with_target(_query(expression).instant().legend_format(legend))
    )


def spread(title: str, about: str, buckets: str, *, nothing: str, span: int = 12) -> heatmap.Panel:
    """Returns how the values of a histogram are spread over time, in seconds. `nothing` stands there without any."""
    return (
        heatmap.Panel()
        .title(title)
        .description(about)
        .datasource(METRICS)
        .span(span)
        .height(8)
        .calculate(False)
        .scale_distribution(common.ScaleDistributionConfig().type(options.ScaleDistribution.LINEAR))
        .no_value(nothing)
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
        .link(
            dashboard.DashboardLink("Dashboards")
            .type(model.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .include_vars(True)
            .keep_time(True)
        )
    )
    for name, expression, about_it, color in _HAPPENINGS:
        made.annotation(_Mark(about_it).name(name).datasource(METRICS).expr(expression).icon_color(color).enable(True))
    for variable in own:
        made.with_variable(variable)
    return made


_HERE = 'cluster=~"$cluster", namespace=~"$namespace"'
_HAPPENINGS = (
    (
        "New version",
        f"count by (job, version) (voicepool_build{{{_HERE}}})"
        f" unless count by (job, version) (voicepool_build{{{_HERE}}} offset 5m)",
        "{{job}} {{version}} is new",
        BLUE,
    ),
    ("Dispatcher drains", f"voicepool_dispatch_draining{{{_HERE}}} == 1", "{{instance}} drains", YELLOW),
    ("Workers drain", f'voicepool_workers{{{_HERE}, state="draining"}} > 0', "{{instance}} drains", YELLOW),
    (
        "Critical alert",
        f'ALERTS{{{_HERE}, alertname=~"Voicepool.*", alertstate="firing", severity="critical"}}',
        "{{alertname}}",
        RED,
    ),
)
"""What is marked in all graphs: its name, when it is so, what is read at the mark, and its colour."""


class _TitledMark(model.AnnotationQuery):
    """What Grafana's library has no field for: the title that its Prometheus data source gives to marks."""

    title = ""

    def to_json(self) -> dict[str, object]:
        return super().to_json() | {"titleFormat": self.title}


class _Mark(dashboard.AnnotationQuery):
    def __init__(self, title: str) -> None:
        super().__init__()
        self._internal = _TitledMark()
        self._internal.title = title


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


def percentiles(metric: str, selector: str) -> tuple[Line, ...]:
    """Returns the 50th, 95th and 99th percentile of a histogram (named without `_bucket`)."""
    return tuple(
        (_quantile(q, metric, selector, "le"), name) for q, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
    )


def percentile_95(metric: str, selector: str, by: str) -> Line:
    """Returns the 95th percentile for each value of a label."""
    return _quantile(0.95, metric, selector, f"{by}, le"), f"{{{{{by}}}}}"


def or_zero(expression: str, job: str, label: str = "", name: str = "none") -> str:
    """Returns the expression, or 0 as long as it has no series but processes of the job are seen.

    A counter has no series before it first counts, and "No data" would leave open whether anybody looks. The 0 has
    the `label` of this `name`, for the legend.
    """
    zero = f'0 * count(voicepool_build{{{_HERE}, job="{job}"}})'
    if label:
        zero = f'label_replace({zero}, "{label}", "{name}", "", "")'
    return f"{expression} or on () {zero}"


def by_resource(expression: str) -> str:
    """Returns the expression with a name for the resource of the settings, which has none; the same as in alerts."""
    return f'label_replace({expression}, "resource", "(settings)", "resource", "")'


def _quantile(q: float, metric: str, selector: str, by: str) -> str:
    return f"histogram_quantile({q}, sum by ({by}) (rate({metric}_bucket{{{selector}}}[$__rate_interval])))"


def _query(expression: str, number: int = 0) -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(expression).datasource(METRICS).ref_id(chr(ord("A") + number))


def _shades_of(color: str) -> model.DynamicConfigValue:
    return model.DynamicConfigValue(
        id_val="color", value=model.FieldColor(mode=model.FieldColorModeId.SHADES, fixed_color=color)
    )


def _thresholds(steps: Steps, lowest: str = GREEN) -> dashboard.ThresholdsConfig:
    return (
        dashboard.ThresholdsConfig()
        .mode(model.ThresholdsMode.ABSOLUTE)
        .steps([model.Threshold(color=lowest), *(model.Threshold(value=value, color=color) for value, color in steps)])
    )
