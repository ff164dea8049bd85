"""`voicepool`: the operator's command line.

It reads options, prints, and sets the exit code; what it prints is made elsewhere.
"""

import json
import sys
from pathlib import Path

import click
from rich.markup import escape
from rich.table import Table

from admin import settings
from admin.act_commands import drain, hangup, say, transfer, undrain
from admin.agents_commands import agents
from admin.api_commands import api
from admin.control import EXIT_CODES
from admin.look_commands import calls, events, ps, quota, top
from admin.native import build_native
from admin.records_commands import call, records
from admin.telemetry_commands import telemetry
from admin.terminal import make_console, make_table
from admin.webhooks.command import webhooks


@click.group(epilog=EXIT_CODES)
@click.version_option(package_name="voicepool", message="%(prog)s %(version)s")
def main() -> None:
    """A pool that answers telephone calls with Azure Voice Live."""


for command in (agents, api, ps, top, calls, call, records, quota, events, drain, undrain, hangup, transfer, say):
    main.add_command(command)
main.add_command(webhooks)
main.add_command(telemetry)
main.add_command(build_native)


@main.group()
def config() -> None:
    """The settings: check them, explain them."""


@config.command("check")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def config_check(as_json: bool) -> None:
    """Check the settings in the environment and `.env`; exit 0 when all are good, 2 when not."""
    report = settings.check()
    if as_json:
        click.echo(json.dumps(report.as_json(), indent=2))
    else:
        _print_report(report)
    sys.exit(0 if report.ok else 2)


@config.command("sample")
def config_sample() -> None:
    """Print a `.env` with every setting explained: voicepool config sample > .env"""
    click.echo(settings.sample(), nl=False)


@config.command("table")
@click.option("--markdown", is_flag=True, help="Print Markdown.")
@click.option(
    "--into",
    "files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Write the Markdown table into this file instead, between its marker lines; may be given several times.",
)
def config_table(markdown: bool, files: tuple[Path, ...]) -> None:
    """Print all settings as a table."""
    for file in files:
        try:
            file.write_text(settings.with_table(file.read_text("utf-8")), "utf-8")
        except ValueError as error:
            raise click.ClickException(f"{file}: {error}") from error
    if markdown:
        click.echo(settings.markdown_table())
    elif not files:
        make_console().print(_settings_view())


@main.command()
@click.option("--once", is_flag=True, help="End after the test call: exit 0 when it was good.")
@click.option("--keep-going", is_flag=True, help="Serve even when the test call was bad.")
@click.option("--json", "as_json", is_flag=True, help="Print the test call as one JSON object on stdout.")
@click.option(
    "--run-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("run"),
    show_default=True,
    help="Directory for logs, recording and picture.",
)
def run(once: bool, keep_going: bool, as_json: bool, run_dir: Path) -> None:
    """Run a whole pool on this machine, place a test call, and serve until Ctrl-C."""
    try:
        import admin.run  # matplotlib takes a second to import: not for `config` and `ps`
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("matplotlib"):
            raise
        raise click.UsageError("it draws pictures, with matplotlib: pip install 'voicepool[run]'") from None

    sys.exit(admin.run.run(admin.run.Options(once=once, keep_going=keep_going, as_json=as_json, run_dir=run_dir)))


def _print_report(report: settings.Report) -> None:
    console = make_console()
    for problem in report.problems:
        console.print(escape(problem), style="red", soft_wrap=True)
    for warning in report.warnings:
        console.print(escape(warning), style="yellow", soft_wrap=True)
    if report.values:
        table = make_table("variable", "value", "from")
        for value in report.values:
            style = "dim" if value.source == "default" else ""
            table.add_row(value.name, escape(value.value), value.source, style=style)
        console.print(table)


def _settings_view() -> Table:
    table = make_table("variable", "default", "what it is")
    for group in settings.Group:
        table.add_row(f"[bold]{group}[/bold]")
        for setting in (s for s in settings.all_settings() if s.group is group):
            default = "[red]required[/red]" if setting.required else escape(setting.default)
            table.add_row(setting.name, default, escape(setting.description))
    return table
