"""The pool overview: is there room, who is there, and how are they."""

from grafana_foundation_sdk.builders import dashboard

from scripts.dashboards.parts import (
    BLUE,
    GREEN,
    RED,
    WHOLE,
    YELLOW,
    bars,
    board,
    by_resource,
    choice,
    figure,
    lines,
    or_zero,
    percentile_95,
    percentiles,
)

HERE = 'cluster=~"$cluster", namespace=~"$namespace"'
PODS = f'{HERE}, instance=~"$instance"'
RATE = "[$__rate_interval]"
FIRING = f'ALERTS{{{HERE}, alertname=~"Voicepool.*", alertstate="firing"}}'


def build() -> dashboard.Dashboard:
    """Returns the dashboard."""
    made = board(
        "voicepool-pool",
        "voicepool: pool",
        "Is there room, who is there, and how are they?",
        [choice("instance", f"label_values(voicepool_slots{{{HERE}}}, instance)", "Worker pod")],
    )
    _now(made)
    _calls(made)
    _workers(made)
    _audio(made)
    _dispatchers(made)
    _ground(made)
    return made


def _now(made: dashboard.Dashboard) -> None:
    made.with_row(dashboard.Row("Now"))
    made.with_panel(figure("Calls", "Calls that workers carry.", f"sum(voicepool_calls_active{{{HERE}}})", lowest=BLUE))
    made.with_panel(
        figure(
            "Free slots",
            "Share of the ready workers' slots that a new call could have. At 0 callers get 503.",
            f"min(voicepool:free_slots:ratio{{{HERE}}})",
            unit="percentunit",
            steps=[(0.05, YELLOW), (0.15, GREEN)],
            lowest=RED,
        )
    )
    made.with_panel(
        figure(
            "Ready workers",
            "Workers that take calls, as dispatchers see them in Redis.",
            f'sum(max by (cluster, namespace) (voicepool_pool_workers{{{HERE}, state="ready"}}))',
            steps=[(1, GREEN)],
            lowest=RED,
        )
    )
    made.with_panel(
        figure(
            "Dispatchers",
            "Dispatchers that take calls. With one alone, its loss is heard by new callers.",
            f'sum(max by (cluster, namespace) (voicepool_pool_dispatchers{{{HERE}, state="ready"}}))',
            steps=[(1, YELLOW), (2, GREEN)],
            lowest=RED,
        )
    )
    made.with_panel(
        figure(
            "Refused",
            "Share of new calls answered 5xx in the last five minutes, without those of draining and rate limits.",
            f"max(voicepool:refusals:ratio_rate5m{{{HERE}}})",
            unit="percentunit",
            steps=[(0.01, YELLOW), (0.144, RED)],
            nothing="idle",
        )
    )
    made.with_panel(
        figure(
            "Failed",
            "Share of the calls that ended as failed or lost in the last five minutes.",
            f"max(voicepool:failures:ratio_rate5m{{{HERE}}})",
            unit="percentunit",
            steps=[(0.01, YELLOW), (0.144, RED)],
            nothing="idle",
        )
    )
    made.with_panel(
        figure(
            "Answer (p95)",
            "From the end of the caller's speech to the answer's first packet; the slowest agent's.",
            f"max(voicepool:turn_latency_seconds:p95_5m{{{HERE}}})",
            unit="s",
            steps=[(1.5, YELLOW), (2.5, RED)],
            nothing="idle",
        )
    )
    made.with_panel(
        figure(
            "Alerts",
            "Alerts of voicepool that fire.",
            f"count({FIRING}) or vector(0)",
            steps=[(1, RED)],
        )
    )
    made.with_panel(
        lines(
            "Alerts that fire",
            "By name. docs/runbook.md has an entry for each: what it means and what to do.",
            (
                f"count by (alertname, severity) ({FIRING})"
                ' or on () label_replace(vector(0), "alertname", "none", "", "")',
                "{{alertname}} {{severity}}",
            ),
            unit=WHOLE,
            stacked=True,
            aside=True,
            span=24,
            height=5,
        )
    )


def _calls(made: dashboard.Dashboard) -> None:
    made.with_row(dashboard.Row("Calls"))
    made.with_panel(
        lines(
            "Calls and slots",
            "Calls of all workers, slots of those that are ready, and what is left of these.",
            (f"sum(voicepool_calls_active{{{HERE}}})", "calls"),
            (f"sum(max by (cluster, namespace) (voicepool_pool_slots{{{HERE}}}))", "slots"),
            (f"sum(max by (cluster, namespace) (voicepool_pool_free_slots{{{HERE}}}))", "free"),
            unit=WHOLE,
        )
    )
    made.with_panel(
        lines(
            "New calls",
            "Calls a second that came to dispatchers, by what became of them there.",
            (
                or_zero(
                    f"sum by (outcome) (rate(voicepool_dispatch_calls_total{{{HERE}}}{RATE}))",
                    "voicepool-dispatcher",
                    "outcome",
                ),
                "{{outcome}}",
            ),
            unit="cps",
            stacked=True,
        )
    )
    made.with_panel(
        lines(
            "Refusals by reason",
            "Calls a second that dispatchers refused. no_capacity: add workers; no_quota: Voice Live's quota.",
            (
                or_zero(
                    f"sum by (status, reason) (rate(voicepool_dispatch_refusals_total{{{HERE}}}{RATE}))",
                    "voicepool-dispatcher",
                    "reason",
                ),
                "{{status}} {{reason}}",
            ),
            unit="cps",
            stacked=True,
        )
    )
    made.with_panel(
        lines(
            "Set-up time",
            "From INVITE to answer: callers hear ringing for that long. Workers answer when their session is ready.",
            *percentiles("voicepool_call_setup_duration_seconds", HERE),
            unit="s",
            steps=[(4, RED)],
            nothing="No calls",
        )
    )
    made.with_panel(
        lines(
            "Ends of calls",
            "Calls a second that ended, by how and why.",
            (
                or_zero(
                    f"sum by (result, reason) (rate(voicepool_calls_total{{{PODS}}}{RATE}))",
                    "voicepool-worker",
                    "result",
                ),
                "{{result}}: {{reason}}",
            ),
            unit="cps",
            stacked=True,
        )
    )
    made.with_panel(
        lines(
            "Length of calls",
            "From answer to end.",
            *percentiles("voicepool_call_duration_seconds", HERE),
            unit="s",
            nothing="No calls",
        )
    )


def _workers(made: dashboard.Dashboard) -> None:
    made.with_row(dashboard.Row("Workers"))
    made.with_panel(
        lines(
            "Workers by state",
            "As dispatchers see them in Redis. late and silent ones get no new calls.",
            (f"sum by (state) (max by (cluster, namespace, state) (voicepool_pool_workers{{{HERE}}}))", "{{state}}"),
            unit=WHOLE,
            stacked=True,
        )
    )
    made.with_panel(
        lines(
            "Load",
            "Share of its slots that each worker uses.",
            (
                f"sum by (instance, worker) (voicepool_calls_active{{{PODS}}})"
                f" / sum by (instance, worker) (voicepool_slots{{{PODS}}})",
                "{{instance}} {{worker}}",
            ),
            unit="percentunit",
            steps=[(1, RED)],
        )
    )
    made.with_panel(
        lines(
            "CPU",
            "CPU time of each worker, as a share of one core. Near 1 it gets late.",
            (f"voicepool_cpu_share{{{PODS}}}", "{{instance}} {{worker}}"),
            unit="percentunit",
            steps=[(0.85, RED)],
        )
    )
    made.with_panel(
        lines(
            "Late workers",
            "Workers that get no new call because they are behind.",
            (f"sum by (instance) (voicepool_worker_late{{{PODS}}})", "{{instance}}"),
            unit=WHOLE,
            steps=[(1, RED)],
        )
    )
    made.with_panel(
        lines(
            "Late ticks of the audio clock",
            "Of 50 a second, those that came more than 10 ms late.",
            (f"rate(voicepool_audio_late_ticks_total{{{PODS}}}{RATE})", "{{instance}} {{worker}}"),
            steps=[(0.5, RED)],
        )
    )
    made.with_panel(
        lines(
            "Lag of the event loops",
            "99th percentile of how late each event loop was in the last second; dispatchers' too.",
            (f'voicepool_loop_lag_seconds{{{HERE}, quantile="p99"}}', "{{instance}} {{worker}}"),
            unit="s",
            steps=[(0.05, RED)],
        )
    )
    made.with_panel(
        lines(
            "Restarts",
            "Workers that died or hung and were replaced, in an hour.",
            (
                f"sum by (instance, cause) (increase(voicepool_worker_restarts_total{{{PODS}}}[1h]))",
                "{{instance}} {{cause}}",
            ),
        )
    )
    made.with_panel(
        lines(
            "Leases",
            "Leases a second that came to workers. provisional: Redis was away; lost: in the middle of a call.",
            (
                or_zero(
                    f"sum by (outcome) (rate(voicepool_leases_total{{{PODS}}}{RATE}))", "voicepool-worker", "outcome"
                ),
                "{{outcome}}",
            ),
            unit="cps",
        )
    )
    made.with_panel(
        lines(
            "Telemetry dropped",
            "Spans and measurements a second that a full queue threw away. Anything but 0 makes the rest wrong.",
            (
                or_zero(
                    f"sum by (instance) (rate(voicepool_telemetry_dropped_total{{{HERE}}}{RATE}))",
                    "voicepool-worker",
                    "instance",
                ),
                "{{instance}}",
            ),
        )
    )


def _audio(made: dashboard.Dashboard) -> None:
    made.with_row(dashboard.Row("Audio"))
    made.with_panel(
        lines(
            "Calls with audio one way only",
            "Share of the answered calls without any RTP received, or sent.",
            (
                f"sum by (missing) (rate(voicepool_calls_one_way_total{{{PODS}}}[15m]))"
                f" / ignoring (missing) group_left () sum(rate(voicepool_call_duration_seconds_count{{{PODS}}}[15m]))",
                "{{missing}} missing",
            ),
            unit="percentunit",
            steps=[(0.02, RED)],
            span=6,
            nothing="No calls",
        )
    )
    made.with_panel(
        lines(
            "Lost packets",
            "Share of the callers' RTP packets that never came, of calls that have ended.",
            (or_zero(f"max(voicepool:rtp_loss:ratio_rate15m{{{HERE}}})", "voicepool-worker"), "lost"),
            unit="percentunit",
            steps=[(0.02, RED)],
            span=6,
        )
    )
    made.with_panel(
        lines(
            "Jitter",
            "Of what callers sent, a call's mean each.",
            *percentiles("voicepool_rtp_jitter_seconds", PODS),
            unit="s",
            steps=[(0.05, RED)],
            span=6,
            nothing="No calls",
        )
    )
    made.with_panel(
        lines(
            "Gaps and drops",
            "Playouts a second that ran empty in an answer; seconds of audio a second that a full queue dropped.",
            (f"sum(rate(voicepool_audio_underruns_total{{{PODS}}}{RATE}))", "underruns"),
            (
                or_zero(
                    f"sum by (direction) (rate(voicepool_audio_dropped_seconds_total{{{PODS}}}{RATE}))",
                    "voicepool-worker",
                    "direction",
                    "nothing",
                ),
                "{{direction}} dropped",
            ),
            span=6,
        )
    )


def _dispatchers(made: dashboard.Dashboard) -> None:
    made.with_row(dashboard.Row("Dispatchers"))
    made.with_panel(
        lines(
            "Dispatchers by state",
            "As they say in Redis.",
            (
                f"sum by (state) (max by (cluster, namespace, state) (voicepool_pool_dispatchers{{{HERE}}}))",
                "{{state}}",
            ),
            unit=WHOLE,
            stacked=True,
        )
    )
    made.with_panel(
        lines(
            "INVITE through the dispatcher",
            "From an INVITE having come to its being sent to a worker; with waiting in line for a quota.",
            *percentiles("voicepool_dispatch_duration_seconds", HERE),
            unit="s",
            steps=[(0.1, RED)],
            nothing="No calls",
        )
    )
    made.with_panel(
        lines(
            "Callers who wait in line",
            "They hear ringing because a quota has nothing left.",
            (f"sum(voicepool_dispatch_waiting{{{HERE}}})", "waiting"),
            unit=WHOLE,
        )
    )
    made.with_panel(
        lines(
            "SIP messages",
            "A second, of all dispatchers.",
            (
                or_zero(
                    f"sum by (direction) (rate(voicepool_sip_messages_total{{{HERE}}}{RATE}))",
                    "voicepool-dispatcher",
                    "direction",
                ),
                "{{direction}}",
            ),
            unit="cps",
        )
    )
    made.with_panel(
        lines(
            "Transactions",
            "SIP transactions under way in each dispatcher.",
            (f"voicepool_dispatch_transactions{{{HERE}}}", "{{instance}}"),
            unit=WHOLE,
        )
    )
    made.with_panel(
        lines(
            "Callers of dead workers",
            "Who was sent a BYE because the worker died, in five minutes.",
            (
                or_zero(f"sum(increase(voicepool_dispatch_orphans_total{{{HERE}}}[5m]))", "voicepool-dispatcher"),
                "callers",
            ),
        )
    )


def _ground(made: dashboard.Dashboard) -> None:
    made.with_row(dashboard.Row("Redis, quotas, certificates"))
    made.with_panel(
        lines(
            "Redis (p95)",
            "How long its operations take. From 50 ms on calls begin to be placed without asking it.",
            percentile_95("voicepool_redis_duration_seconds", HERE, "operation"),
            unit="s",
            steps=[(0.02, RED)],
            aside=True,
            span=16,
        )
    )
    made.with_panel(
        lines(
            "Processes that reach Redis",
            "Share of dispatchers and workers.",
            (f"avg by (job) (voicepool_redis_available{{{HERE}}})", "{{job}}"),
            unit="percentunit",
        )
    )
    made.with_panel(
        bars(
            "Quotas of Voice Live used",
            "Where there is a limit. From 85 % an alert fires; at 100 % callers wait in line.",
            (by_resource(f"voicepool:quota:ratio{{{HERE}}}"), "{{resource}} {{kind}}"),
            unit="percentunit",
            steps=[(0.7, YELLOW), (0.85, RED)],
            nothing="No limits",
            span=12,
        )
    )
    made.with_panel(
        lines(
            "Certificates: time left",
            "Until they end, of those that voicepool was given. From 30 days on an alert fires.",
            (f"min by (purpose) (voicepool_certificate_expiry_seconds{{{HERE}}}) - time()", "{{purpose}}"),
            unit="s",
            nothing="No certificates",
            span=12,
        )
    )
