"""One call: its trace, its log lines, and how its worker was meanwhile.

Metrics know no single call (their labels have few values), so the worker's in the time of the call stand beside it.
"""

from grafana_foundation_sdk.builders import dashboard, logs, loki, tempo, text
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.text import TextMode

from scripts.dashboards.parts import RED, WHOLE, board, choice, lines, or_zero

HERE = 'cluster=~"$cluster", namespace=~"$namespace"'
POD = f'{HERE}, job="voicepool-worker", instance=~"$instance"'
WORKER = f'{POD}, worker=~"$worker"'
RATE = "[$__rate_interval]"

TRACES = model.DataSourceRef(type_val="tempo", uid="${traces}")
LOGS = model.DataSourceRef(type_val="loki", uid="${logs}")

HOW_TO = """\
1. `voicepool records --since 1h` finds the call, `voicepool call ID` shows its dialogue; while it runs, its worker too.
2. Put the call's id into **Call id**. The log lines appear, each with `trace_id`: put it into **Trace id**.
3. Choose the worker pod and the worker that the lines name, and zoom to the time of the call.

No call id, but a complaint about a time? Leave both empty, zoom to the time, and look at the log lines with `warning`.
Numbers of callers stand in call records alone (where the agent keeps them), never in logs, traces or metrics.\
"""


def build() -> dashboard.Dashboard:
    """Returns the dashboard."""
    made = board(
        "voicepool-one-call",
        "voicepool: one call",
        "The trace and the log lines of one call, and how its worker was meanwhile.",
        [
            dashboard.DatasourceVariable("traces").label("Traces").type("tempo"),
            dashboard.DatasourceVariable("logs").label("Logs").type("loki"),
            dashboard.TextBoxVariable("call_id").label("Call id"),
            dashboard.TextBoxVariable("trace_id").label("Trace id"),
            dashboard.TextBoxVariable("streams").label("Log streams").default_value('service_name=~"voicepool-.*"'),
            choice("instance", f"label_values(voicepool_slots{{{HERE}}}, instance)", "Worker pod"),
            choice("worker", f'label_values(voicepool_slots{{{HERE}, instance=~"$instance"}}, worker)'),
        ],
    )
    made.with_row(dashboard.Row("The call"))
    made.with_panel(text.Panel().title("How to find a call").mode(TextMode.MARKDOWN).content(HOW_TO).span(24).height(6))
    made.with_panel(
        dashboard.Panel()
        .type("traces")
        .title("Trace")
        .description(
            "From the INVITE at the dispatcher to the end: lease, admission, connection, each turn, each tool."
        )
        .datasource(TRACES)
        .span(24)
        .height(12)
        .with_target(tempo.TempoQuery().query_type("traceql").query("$trace_id").datasource(TRACES).ref_id("A"))
    )
    made.with_panel(
        logs.Panel()
        .title("Log lines")
        .description("Of all processes, with the call's id and the trace's in them.")
        .datasource(LOGS)
        .span(24)
        .height(12)
        .show_time(True)
        .wrap_log_message(True)
        .enable_log_details(True)
        .prettify_log_message(False)
        .with_target(
            loki.Dataquery()
            .expr('{$streams} |= "$call_id" |= "$trace_id"')
            .max_lines(1000)
            .datasource(LOGS)
            .ref_id("A")
        )
    )
    _worker(made)
    return made


def _worker(made: dashboard.Dashboard) -> None:
    made.with_row(dashboard.Row("Its worker meanwhile"))
    made.with_panel(
        lines(
            "Calls",
            "How many it carried, and has room for.",
            (f"voicepool_calls_active{{{WORKER}}}", "{{instance}} {{worker}} calls"),
            (f"voicepool_slots{{{WORKER}}}", "{{instance}} {{worker}} slots"),
            unit=WHOLE,
        )
    )
    made.with_panel(
        lines(
            "CPU",
            "As a share of one core.",
            (f"voicepool_cpu_share{{{WORKER}}}", "{{instance}} {{worker}}"),
            unit="percentunit",
            steps=[(0.85, RED)],
        )
    )
    made.with_panel(
        lines(
            "Lag of the event loop",
            "In the last second.",
            (f"voicepool_loop_lag_seconds{{{WORKER}}}", "{{instance}} {{worker}} {{quantile}}"),
            unit="s",
            steps=[(0.05, RED)],
        )
    )
    made.with_panel(
        lines(
            "Late ticks of the audio clock",
            "Of 50 a second. Callers hear them as gaps.",
            (f"rate(voicepool_audio_late_ticks_total{{{WORKER}}}{RATE})", "{{instance}} {{worker}}"),
            steps=[(0.5, RED)],
        )
    )
    made.with_panel(
        lines(
            "Gaps and drops",
            "Playouts a second that ran empty; seconds of audio a second that a full queue dropped.",
            (f"rate(voicepool_audio_underruns_total{{{WORKER}}}{RATE})", "{{instance}} {{worker}} underruns"),
            (
                or_zero(
                    f"rate(voicepool_audio_dropped_seconds_total{{{WORKER}}}{RATE})",
                    "voicepool-worker",
                    "direction",
                    "nothing",
                ),
                "{{instance}} {{worker}} {{direction}} dropped",
            ),
        )
    )
    made.with_panel(
        lines(
            "Voice Live",
            "Connections of its pod that were lost or replaced, a minute.",
            (
                or_zero(
                    "60 * sum by (outcome)"
                    f' (rate(voicepool_voicelive_connections_total{{{POD}, outcome!="ok"}}{RATE}))',
                    "voicepool-worker",
                    "outcome",
                ),
                "{{outcome}}",
            ),
            (
                or_zero(
                    f"60 * sum(rate(voicepool_voicelive_reconnects_total{{{POD}}}{RATE}))",
                    "voicepool-worker",
                ),
                "reconnects",
            ),
        )
    )
