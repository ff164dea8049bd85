"""Results as people read them: tables for the terminal, RESULTS.md and pictures.

It reads the plain values that `--json` prints and results.json holds, and measures nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table as RichTable

from bench import machine, plots
from bench.baselines import BASELINES
from bench.density import THREADS

Result = Mapping[str, Any]

POINT_WORDS = {"tls": "TLS", "srtp": "SRTP", "turns": "turns"}
"""What a density point is called beside format and chunk, by its fields."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of texts; a heading that begins with > is one of numbers."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]

    def as_rich(self) -> RichTable:
        """Returns the table for a terminal."""
        table = RichTable(title=self.title, title_justify="left", box=None, pad_edge=False, padding=(0, 2))
        for heading in self.headings:
            table.add_column(heading.lstrip(">"), justify="right" if heading.startswith(">") else "left")
        for row in self.rows:
            table.add_row(*row)
        return table

    def as_markdown(self) -> str:
        """Returns the table in Markdown, title left out."""
        rule = ["---:" if heading.startswith(">") else "---" for heading in self.headings]
        lines = [[heading.lstrip(">") for heading in self.headings], rule, *self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def point_name(point: Result) -> str:
    """Returns what a density point is called: format, chunk, what is encrypted, and whether there are turns."""
    words = "".join(f", {word}" for name, word in POINT_WORDS.items() if point[name])
    return f"{point['format']} {point['uplink_ms']} ms{words}"


def tables(name: str, result: Result) -> list[Table]:
    """Returns the tables of one benchmark's result, or of all of them."""
    makers = {
        "density": lambda: [
            density_table([result]),
            thread_table([result]),
            *([baseline_table(result)] if result["baselines"] else []),
            *([telemetry_table([result])] if "telemetry" in result else []),
        ],
        "latency": lambda: [latency_table([result])],
        "dispatch": lambda: [dispatch_table(result)],
        "churn": lambda: [churn_table(result)],
        "audio": lambda: [audio_table(result)],
        "bargein": lambda: [bargein_table(result)],
        "reconnect": lambda: [reconnect_table(result)],
        "rollover": lambda: [rollover_table(result)],
        "chaos": lambda: [chaos_table(result), fault_table(result), *finding_tables(result)],
        "failover": lambda: [failover_table(result), *failure_tables(result)],
        "overload": lambda: [overload_table(result)],
    }
    if name != "all":
        return makers[name]()
    points = list(result["density"].values())
    return [
        density_table(points),
        baseline_table(points[0]),
        telemetry_table([point for point in points if "telemetry" in point]),
        thread_table(points),
        search_table(result["search"]),
        latency_table(list(result["latency"].values())),
        bargein_table(result["bargein"]),
        reconnect_table(result["reconnect"]),
        rollover_table(result["rollover"]),
        dispatch_table(result["dispatch"]),
        churn_table(result["churn"]),
        audio_table(result["audio"]),
    ]


def density_table(points: Sequence[Result]) -> Table:
    """Returns what a call costs at each point."""
    names = [name for name in BASELINES if all(name in point["baselines"] for point in points)]
    headings = ["format, chunk", ">calls", ">CPU per call", *(f">x {name}" for name in names)]
    headings += [">kB per call", ">idle MB", ">RTP p50", ">p99", ">max", ">underruns", ">loop lag max", ">load core"]
    rows = []
    for point in points:
        spacing, ratios = point["rtp_spacing_ms"], [point["baselines"][name]["ratio"] for name in names]
        rows.append(
            [
                point_name(point),
                f"{point['calls']:.0f}",
                f"{point['cpu_percent_per_call']:.3f} %",
                *(f"{ratio:.2f}" for ratio in ratios),
                f"{point['rss_kb_per_call']:.0f}",
                f"{point['idle_rss_mb']:.0f}",
                *(f"{spacing[name]:.2f} ms" for name in ("p50", "p99", "max")),
                f"{point['underruns']:.0f}",
                f"{point['loop_lag_ms']['max']:.1f} ms",
                f"{point['load']['core_percent']:.0f} %",
            ]
        )
    title = "Density: one worker process on one core, both sides speaking all the time (turns: in turns)"
    return Table(title, headings, rows)


def baseline_table(point: Result) -> Table:
    """Returns what the worker is compared with."""
    rows = [
        [
            f"{name}: {BASELINES[name].what}",
            f"{baseline['calls']:.0f}",
            f"{baseline['cpu_percent_per_call']:.3f} %",
            f"{baseline['worker_cpu_percent_per_call']:.3f} %",
            f"{baseline['ratio']:.2f}",
            f"{baseline['rtp_spacing_ms']['p99']:.2f} ms",
        ]
        for name, baseline in point["baselines"].items()
    ]
    headings = ["baseline", ">calls", ">CPU per call", ">worker's, as many calls", ">ratio", ">RTP p99"]
    return Table("Baselines, same run and load", headings, rows)


def telemetry_table(points: Sequence[Result]) -> Table:
    """Returns what it costs to show and send everything."""
    rows = [
        [
            point_name(point),
            telemetry,
            f"{measured['cpu_percent_per_call']:.3f} %",
            f"{measured['threads']['event loop']:.3f} %",
            f"{measured['supervisor_percent']:.2f} %",
            f"{measured['idle_rss_mb']:.0f}",
            f"{measured['rtp_spacing_ms']['p99']:.2f} ms",
            ratio,
        ]
        for point in points
        for telemetry, measured, ratio in (
            ("off", point, ""),
            ("on", point["telemetry"], f"{point['telemetry']['ratio']:.3f}"),
        )
    ]
    headings = ["format, chunk", "telemetry", ">CPU per call", ">of it the event loop", ">supervisor", ">idle MB"]
    title = "Telemetry: every call traced, worker and supervisor together"
    return Table(title, [*headings, ">RTP p99", ">ratio"], rows)


def thread_table(points: Sequence[Result]) -> Table:
    """Returns where the CPU time of a call goes."""
    names = list(THREADS.values())
    rows = [[point_name(point), *(f"{point['threads'][name]:.3f} %" for name in names)] for point in points]
    title = "Where it goes: CPU per call by thread of the worker"
    return Table(title, ["format, chunk", *(f">{name}" for name in names)], rows)


def search_table(searches: Sequence[Result]) -> Table:
    """Returns how many calls fitted."""
    rows = [
        [
            point_name(found),
            f"{found['calls']:.0f}",
            f"{found['calls'] * found['cpu_percent_per_call']:.0f} %",
            f"{found['rtp_spacing_ms']['p99']:.2f} ms",
            f"{found['underruns']:.0f}",
            found["search_ended_by"],
        ]
        for found in searches
    ]
    headings = ["format, chunk", ">calls", ">of the core", ">RTP p99", ">underruns", "what ended the search"]
    return Table("Most calls on one core, doubling until quality broke", headings, rows)


def latency_table(results: Sequence[Result]) -> Table:
    """Returns what callers feel."""
    rows = []
    for result in results:
        setup = result["setup_ms"]
        figures = {
            "uplink: packet sent -> append received": result["uplink_ms"],
            "downlink: audio delta sent -> first packet": result["downlink_ms"],
            "barge-in: speech_started sent -> last old packet": result["bargein_ms"],
            "INVITE -> 100": setup["trying"],
            "INVITE -> 200": setup["answered"],
            "INVITE -> greeting's first packet": setup["greeting"],
            "simulator's own handshake": result["simulator_handshake_ms"],
        }
        for name, figure in figures.items():
            values = (f"{figure[each]:.1f} ms" for each in ("p50", "p95", "max"))
            rows.append([f"{result['calls']:.0f}", name, *values, f"{figure['count']:.0f}"])
    return Table("Latency, G.711, 20 ms chunks", [">calls", "what", ">p50", ">p95", ">max", ">times"], rows)


def bargein_table(result: Result) -> Table:
    """Returns what barge-ins cost."""
    figures = {
        "what the model was told was heard, against what was": result["truncate_error_ms"],
        "speech_started sent -> last packet of the old answer": result["flush_ms"],
    }
    rows = [[name, *_milliseconds(figure), f"{figure['count']:.0f}"] for name, figure in figures.items()]
    for name, key in (
        ("error events", "protocol_errors"),
        ("cut off, and the model was not told", "untold"),
        ("calls lost", "lost_calls"),
    ):
        rows.append([name, "", "", "", f"{result[key]:.0f}"])
    title = f"Barge-in: at any moment of answers of 2 to 20 s, {result['calls']:.0f} calls at once"
    return Table(title, ["what", ">p50", ">p95", ">max", ">times"], rows)


def reconnect_table(result: Result) -> Table:
    """Returns what a broken connection costs."""
    figures = {
        "longest silence for a caller who waits": result["gap_ms"],
        "reset -> next session ready": result["reconnect_ms"],
    }
    rows = [[name, *_milliseconds(figure), f"{figure['count']:.0f}"] for name, figure in figures.items()]
    rows.append(["turns under way", "", "", "", f"{result['turns_under_way']:.0f}"])
    rows.append(["... answered after it", "", "", "", f"{result['answered_after']:.0f}"])
    rows.append(["calls lost", "", "", "", f"{result['lost_calls']:.0f}"])
    title = f"Reconnect: {result['count']:.0f} connections reset at random moments, {result['calls']:.0f} calls at once"
    return Table(title, ["what", ">p50", ">p95", ">max", ">times"], rows)


def rollover_table(result: Result) -> Table:
    """Returns what callers notice of sessions that end."""
    rows = [
        ["rollovers", f"{result['rollovers']:.0f}"],
        ["... while an answer was heard", f"{result['during_answers']:.0f}"],
        ["times a caller spoke", f"{result['turns']:.0f}"],
        ["answers the model sent to their end", f"{result['answers']:.0f}"],
        ["... never heard of them", f"{result['missing_ms']:.1f} ms"],
        ["... heard twice of them", f"{result['repeated_ms']:.1f} ms"],
        ["answers broken off, and another one asked for", f"{result['broken_off']:.0f}"],
        ["sessions not left in time", f"{result['expired']:.0f}"],
        ["calls lost", f"{result['lost_calls']:.0f}"],
    ]
    title = f"Rollover: sessions of {result['max_session_s']:.0f} s, {result['calls']:.0f} calls at once"
    return Table(title, ["what", ">value"], rows)


def _milliseconds(figure: Result) -> list[str]:
    return [f"{figure[each]:.1f} ms" for each in ("p50", "p95", "max")]


def dispatch_table(result: Result) -> Table:
    """Returns what one dispatcher does."""
    invite = result["invite_ms"]
    rows = [
        ["new calls per second, sustained", f"{result['calls_per_s']:.0f}"],
        ["INVITE in -> INVITE out at 100/s, p50", f"{invite['p50']:.2f} ms"],
        ["... p95", f"{invite['p95']:.2f} ms"],
        ["... max", f"{invite['max']:.2f} ms"],
        ["dispatcher's CPU per call at the highest rate", f"{result['cpu_ms_per_call']:.2f} ms"],
        ["limited by", f"{result['limited_by']}" + (f" ({result['reason']})" if result.get("reason") else "")],
    ]
    return Table("Dispatch: one dispatcher process, leases in Redis", ["what", ">value"], rows)


def churn_table(result: Result) -> Table:
    """Returns what many calls left behind."""
    rows = [["calls", f"{result['calls']:.0f}", f"{result['failed']:.0f} failed, {result['records']:.0f} records"]]
    for name, unit in (("rss_mb", "MB"), ("descriptors", ""), ("threads", "")):
        figure = result[name]
        rows.append([name.removesuffix("_mb"), f"{figure['start']:g} {unit}", f"{figure['end']:g} {unit}"])
    title = f"Churn: {result['calls_per_s']:.0f} calls/s for {result['seconds']:.0f} s"
    return Table(title, ["what", ">start", ">end"], rows)


def chaos_table(result: Result) -> Table:
    """Returns what came of calls under faults; the first rows must be 0."""
    rows = [
        [name, str(result[key])]
        for name, key in (
            ("leases left over", "leaked_leases"),
            ("calls on two workers at once", "double_assignments"),
            ("calls without record", "calls_without_record"),
            ("leases with two records", "duplicate_records"),
            ("calls lost on workers that nobody harmed", "calls_lost_elsewhere"),
            ("calls lost with their worker", "calls_lost_with_worker"),
            ("faults", "faults"),
            ("calls", "calls"),
            ("records", "records"),
        )
    ]
    rows += [[f"... {ending}", str(count)] for ending, count in result["endings"].items()]
    rows += [[f"not answered: {cause}", str(count)] for cause, count in result["failed_setups"].items()]
    rows += [[f"left over: {kind}", str(count)] for kind, count in result["left_over"].items()]
    for name, key, unit in (("worker killed -> caller released", "released_s", "s"), ("RTP gap", "rtp_gap_ms", "ms")):
        if figure := result[key]:
            rows.append([f"{name}, p50 and max", f"{figure['p50']} / {figure['max']} {unit}"])
    title = f"Chaos: {result['seconds']:.0f} s, seed {result['seed']}, {'BROKEN' if result['broken'] else 'all holds'}"
    return Table(title, ["what", ">value"], rows)


def fault_table(result: Result) -> Table:
    """Returns how often which fault was committed."""
    rows = [[kind, str(count)] for kind, count in result["faults_by_kind"].items()]
    return Table("Faults", ["fault", ">times"], rows)


def finding_tables(result: Result) -> list[Table]:
    """Returns a table for each call that broke an invariant: the faults around it, and what the logs say of it."""
    return [
        Table(
            f"{finding['broken']}: call {finding['call_id']}, {finding['what']}",
            ["what happened"],
            [[line] for line in (*finding["faults"], *finding["log"])],
        )
        for finding in result["findings"]
    ]


def failover_table(result: Result) -> Table:
    """Returns what calls noticed of dispatchers that died."""
    keys = ("calls", "failed_calls", "kills", "sent_again", "tried_another")
    rows = [
        [name, *(str(way[key]) for key in keys), *_milliseconds(way["setup_ms"])]
        for name, way in result["ways"].items()
    ]
    title = f"Failover: 3 dispatchers, {result['rate']:.0f} calls/s for {result['seconds']:.0f} s each"
    headings = ["way", *(f">{key.replace('_', ' ')}" for key in keys), ">INVITE -> 200, p50", ">p95", ">max"]
    return Table(title, headings, rows)


def failure_tables(result: Result) -> list[Table]:
    """Returns a table for each call that failed: what the logs say of it."""
    return [
        Table(
            f"{name}: call {failure['call_id']}, {failure['why']}",
            ["what happened"],
            [[line] for line in failure["log"]],
        )
        for name, way in result["ways"].items()
        for failure in way["failures"]
    ]


def overload_table(result: Result) -> Table:
    """Returns what calls in progress and refused ones noticed of an overload."""
    rows = [
        ["calls offered", f"{result['calls']:.0f}"],
        ["... answered", f"{result['answered']:.0f}"],
        *([f"... refused with {status}", f"{count:.0f}"] for status, count in result["refused"].items()),
        ["... failed", f"{result['failed']:.0f}"],
        ["RTP spacing of calls in progress, p99", f"{result['rtp_spacing_p99_ms']:.2f} ms"],
        ["INVITE -> refusal, p50", f"{result['refusal_p50_ms']:.2f} ms"],
        ["... p99", f"{result['refusal_p99_ms']:.2f} ms"],
        ["... max", f"{result['refusal_max_ms']:.2f} ms"],
        ["calls at once afterwards, all answered", "yes" if result["full_again"] else "no"],
    ]
    title = f"Overload: three times the {result['capacity']:.0f} slots for {result['seconds']:.0f} s"
    return Table(title, ["what", ">value"], rows)


def audio_table(result: Result) -> Table:
    """Returns what the path does to the audio."""
    rows = []
    paths = [(f"{fmt} {way}", result[fmt][way]) for fmt in ("g711", "pcm16") for way in ("uplink", "downlink")]
    for name, figures in [*paths, ("G.711 alone, no telephone", result["g711_only"])]:
        own = "as G.711" if "delay_ms" not in figures else "bit-exact" if figures.get("bit_exact") else ""
        if "bit_exact" in figures and not figures["bit_exact"]:
            own = f"{figures['bytes_changed']} of {figures['bytes_compared']} bytes differ"
        if "resampler_snr_db" in figures:
            own = f"resampler {figures['resampler_snr_db']:.1f} dB"
        rows.append(
            [
                name,
                *(f"{figures[each]:.1f} dB" for each in ("sine_snr_db", "sine_thd_db", "chirp_snr_db")),
                f"{figures['pesq']:.2f}",
                f"{figures['slips']:.0f}" if "slips" in figures else "",
                f"{figures['delay_ms']:.1f} ms" if "delay_ms" in figures else "",
                own,
            ]
        )
    headings = [
        "path",
        ">sine SNR",
        ">THD",
        ">chirp SNR",
        ">PESQ",
        ">slips",
        ">delay, this call",
        "the pool's own part",
    ]
    return Table("Audio: telephone to model and back", headings, rows)


def write(results: Result, into: Path) -> None:
    """Writes RESULTS.md and its pictures."""
    pictures = plots.draw_all(results, into)
    pictures["Audio"] = ["audio.png"]  # drawn from the audio itself, when it is measured
    described = results["machine"]
    parts = [
        "# Results",
        "Written by `make bench` (`python -m bench all`); what is measured and how is in [README.md](README.md).",
        f"{described['date']}, {machine.in_one_line(described)}; {_packages(described)}. "
        f"Medians of {results['runs']} pass(es), except search, barge-in, reconnect, rollover, audio and churn, which "
        "ran once; `max`, `underruns` and the like are the worst of all passes. Everything in one table was measured "
        "side by side on the same machine.",
    ]
    for table in tables("all", results):
        parts += [f"## {table.title}", table.as_markdown()]
        parts += [f"![{table.title}]({picture})" for picture in pictures.get(table.title.split(":")[0], [])]
    (into / "RESULTS.md").write_text("\n\n".join(parts) + "\n", "utf-8")


def _packages(described: Result) -> str:
    return ", ".join(f"{name} {version}" for name, version in described["packages"].items())
