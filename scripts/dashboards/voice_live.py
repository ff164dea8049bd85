"""The Voice Live side: is it reached, how soon does it answer, what does it cost."""

from grafana_foundation_sdk.builders import dashboard

from scripts.dashboards.parts import (
    RED,
    WHOLE,
    YELLOW,
    bars,
    board,
    by_resource,
    choice,
    lines,
    or_zero,
    percentile_95,
    percentiles,
    spread,
)

HERE = 'cluster=~"$cluster", namespace=~"$namespace"'
RESOURCE = f'{HERE}, resource=~"$resource"'
AGENT = f'{HERE}, agent=~"$agent"'
RATE = "[$__rate_interval]"


def build() -> dashboard.Dashboard:
    """Returns the dashboard."""
    made = board(
        "voicepool-voice-live",
        "voicepool: Voice Live",
        "Is Voice Live reached, how soon does it answer, what does it cost?",
        [
            choice("resource", f"label_values(voicepool_voicelive_connections_total{{{HERE}}}, resource)"),
            choice("agent", f"label_values(voicepool_calls_total{{{HERE}}}, agent)"),
        ],
    )
    _connections(made)
    _turns(made)
    _money(made)
    _acts(made)
    return made


def _connections(made: dashboard.Dashboard) -> None:
    made.with_row(dashboard.Row("Connections"))
    made.with_panel(
        lines(
            "Connections",
            "A second, by what became of them. refused: an HTTP status; failed: anything else; lost: in the call.",
            (
                or_zero(
                    by_resource(
                        f"sum by (resource, outcome) (rate(voicepool_voicelive_connections_total{{{RESOURCE}}}{RATE}))"
                    ),
                    "voicepool-worker",
                    "outcome",
                ),
                "{{resource}} {{outcome}}",
            ),
            unit="cps",
        )
    )
    made.with_panel(
        lines(
            "Connections that fail",
            "Share of those that were begun. From 10 % an alert fires, from 50 % a critical one.",
            (by_resource(f"voicepool:voicelive_failures:ratio_rate5m{{{RESOURCE}}}"), "{{resource}}"),
            unit="percentunit",
            steps=[(0.1, YELLOW), (0.5, RED)],
            nothing="No connections",
        )
    )
    made.with_panel(
        lines(
            "Time to a ready session",
            "From the begin of a connection to session.updated. It is part of the set-up time that callers hear.",
            *percentiles("voicepool_voicelive_connect_duration_seconds", RESOURCE),
            unit="s",
            steps=[(4, RED)],
            nothing="No connections",
        )
    )
    made.with_panel(
        lines(
            "Workers cut off",
            "Workers whose circuit is open: they get no call for the resource and probe by themselves.",
            (by_resource(f"sum by (resource) (voicepool_voicelive_circuit_open{{{RESOURCE}}})"), "{{resource}}"),
            unit=WHOLE,
            steps=[(1, RED)],
        )
    )
    made.with_panel(
        lines(
            "Replaced in the call",
            "A minute. Reconnects: after a loss, heard by the caller; rollovers: ahead of the end, not heard.",
            (
                _a_minute("reconnects", "no"),
                "{{resource}} reconnects",
            ),
            (
                _a_minute("rollovers", "no"),
                "{{resource}} rollovers",
            ),
        )
    )
    made.with_panel(
        lines(
            "Error events",
            "A minute, as the service sends them within sessions.",
            (_a_minute("errors", "none"), "{{resource}}"),
        )
    )
    made.with_panel(
        bars(
            "Quota used",
            "Of the limits in the settings or the agent file, for the whole pool.",
            (by_resource(f"voicepool:quota:ratio{{{RESOURCE}}}"), "{{resource}} {{kind}}"),
            unit="percentunit",
            steps=[(0.7, YELLOW), (0.85, RED)],
            nothing="No limits",
        )
    )
    made.with_panel(
        lines(
            "Quota over time",
            "connections and tokens of the last minute, sessions now, as shares of their limits.",
            (by_resource(f"voicepool:quota:ratio{{{RESOURCE}}}"), "{{resource}} {{kind}}"),
            unit="percentunit",
            steps=[(0.85, RED)],
            nothing="No limits",
            span=16,
        )
    )


def _a_minute(what: str, nobody: str) -> str:
    counted = f"60 * sum by (resource) (rate(voicepool_voicelive_{what}_total{{{RESOURCE}}}{RATE}))"
    return or_zero(by_resource(counted), "voicepool-worker", "resource", nobody)


def _turns(made: dashboard.Dashboard) -> None:
    made.with_row(dashboard.Row("Conversation"))
    made.with_panel(
        spread(
            "Time to the answer",
            "From the end of the caller's speech to the answer's first packet.",
            f"sum by (le) (increase(voicepool_turn_latency_seconds_bucket{{{AGENT}}}{RATE}))",
            nothing="No answers",
        )
    )
    made.with_panel(
        lines(
            "Time to the answer, percentiles",
            "As beside.",
            *percentiles("voicepool_turn_latency_seconds", AGENT),
            unit="s",
            steps=[(2.5, RED)],
            span=12,
            nothing="No answers",
        )
    )
    made.with_panel(
        lines(
            "... by agent (p95)",
            "Longer instructions, slower models and tools show here.",
            percentile_95("voicepool_turn_latency_seconds", AGENT, "agent"),
            unit="s",
            steps=[(2.5, RED)],
            nothing="No answers",
        )
    )
    made.with_panel(
        lines(
            "... of it the service's",
            "From its speech_stopped to the answer's first audio. The rest is network and ourselves.",
            *percentiles("voicepool_turn_service_latency_seconds", AGENT),
            unit="s",
            nothing="No answers",
        )
    )
    made.with_panel(
        lines(
            "Turns",
            "Answers a minute, by agent.",
            (
                or_zero(
                    f"60 * sum by (agent) (rate(voicepool_turn_latency_seconds_count{{{AGENT}}}{RATE}))",
                    "voicepool-worker",
                    "agent",
                ),
                "{{agent}}",
            ),
        )
    )
    made.with_panel(
        lines(
            "Barge-ins",
            "Share of the answers that the caller spoke over. Many: long answers, or noise taken for speech.",
            (
                f"(sum by (agent) (rate(voicepool_barge_ins_total{{{AGENT}}}{RATE}))"
                f" or 0 * sum by (agent) (rate(voicepool_turn_latency_seconds_count{{{AGENT}}}{RATE})))"
                f" / sum by (agent) (rate(voicepool_turn_latency_seconds_count{{{AGENT}}}{RATE}))",
                "{{agent}}",
            ),
            unit="percentunit",
            span=12,
            nothing="No answers",
        )
    )
    made.with_panel(
        lines(
            "Reaction to a barge-in",
            "From speech_started having come to the playout having been dropped.",
            *percentiles("voicepool_barge_in_reaction_seconds", HERE),
            unit="s",
            steps=[(0.04, YELLOW), (0.1, RED)],
            span=12,
            nothing="No barge-ins",
        )
    )


def _money(made: dashboard.Dashboard) -> None:
    made.with_row(dashboard.Row("Tokens and cost"))
    made.with_panel(
        lines(
            "Tokens",
            "A minute, by kind. Cached ones are among the input's.",
            (
                or_zero(
                    f"60 * sum by (kind) (rate(voicepool_tokens_total{{{HERE}}}{RATE}))", "voicepool-worker", "kind"
                ),
                "{{kind}}",
            ),
            stacked=True,
        )
    )
    made.with_panel(
        lines(
            "Cost an hour",
            "By the prices of the agent file; models without a price are missing.",
            (
                f"3600 * sum by (currency, model) (rate(voicepool_cost_total{{{HERE}}}{RATE}))",
                "{{model}} ({{currency}})",
            ),
            stacked=True,
            least=0.1,
            nothing="No prices, or no calls yet",
        )
    )
    made.with_panel(
        lines(
            "Cost of a call",
            "What was spent, by the calls that were answered, of an hour.",
            (
                f"sum by (currency) (increase(voicepool_cost_total{{{HERE}}}[1h]))"
                f" / ignoring (currency) group_left ()"
                f" sum(increase(voicepool_call_duration_seconds_count{{{HERE}}}[1h]))",
                "{{currency}}",
            ),
            least=0.01,
            nothing="No prices, or no calls yet",
        )
    )


def _acts(made: dashboard.Dashboard) -> None:
    made.with_row(dashboard.Row("Tools and transfers"))
    made.with_panel(
        lines(
            "Tools",
            "Runs a minute.",
            (
                or_zero(
                    f"60 * sum by (tool, outcome) (rate(voicepool_tool_duration_seconds_count{{{HERE}}}{RATE}))",
                    "voicepool-worker",
                    "tool",
                ),
                "{{tool}} {{outcome}}",
            ),
        )
    )
    made.with_panel(
        lines(
            "Time that tools take (p95)",
            "The caller waits for it, or hears the filler.",
            percentile_95("voicepool_tool_duration_seconds", HERE, "tool"),
            unit="s",
            steps=[(2, YELLOW), (5, RED)],
            nothing="No tools",
        )
    )
    made.with_panel(
        lines(
            "Transfers",
            "An hour, by outcome.",
            (
                or_zero(
                    f"sum by (outcome) (increase(voicepool_transfers_total{{{HERE}}}[1h]))",
                    "voicepool-worker",
                    "outcome",
                ),
                "{{outcome}}",
            ),
        )
    )
