"""`voicepool telemetry`: which metrics there are. It shows no values: `/metrics` does, of each process."""

from pathlib import Path

import click

from admin.marked import with_part
from shared.telemetry.catalogue import GROUPS, Metric, prometheus_name

BEGIN, END = "<!-- metrics: written by voicepool telemetry table -->", "<!-- end of metrics -->"
"""Between these lines of a document stand the tables; `voicepool telemetry table --into FILE` writes them there."""


@click.group()
def telemetry() -> None:
    """What the processes measure."""


@telemetry.command()
@click.option(
    "--into",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Write them into this file instead, between its marker lines.",
)
def table(into: Path | None) -> None:
    """Print all metrics as Markdown tables."""
    if into is None:
        click.echo(tables())
        return
    try:
        into.write_text(with_tables(into.read_text("utf-8")), "utf-8")
    except ValueError as error:
        raise click.ClickException(f"{into}: {error}") from error


def tables() -> str:
    """Returns a Markdown table of each group of metrics."""
    lines = []
    for group, metrics in GROUPS.items():
        lines += [f"**{group}**", "", "| in Prometheus | in OTLP | kind | by | what it says |", "|---|---|---|---|---|"]
        lines += [_row(metric) for metric in metrics]
        lines.append("")
    return "\n".join(lines)


def with_tables(document: str) -> str:
    """Returns the document with the tables as they are now between its marker lines; raises ValueError without them."""
    return with_part(document, BEGIN, END, tables())


def _row(metric: Metric) -> str:
    unit = f", {metric.unit}" if metric.unit else ""
    by = ", ".join(f"`{name}`" for name in metric.attributes)
    otlp = f"`{metric.name}`{unit}"
    return f"| `{prometheus_name(metric)}` | {otlp} | {metric.kind} | {by} | {metric.description} |"
