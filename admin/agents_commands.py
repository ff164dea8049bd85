"""`voicepool agents`: reads options, prints, and sets the exit code; what it prints is made in `admin/agents.py`."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from admin import agents as views
from shared.agents.facts import CallFacts
from shared.agents.file import Agents
from shared.errors import ConfigError

_File = click.Path(dir_okay=False, path_type=Path)

_file_option = click.option("--file", "path", type=_File, help="Agent file; without it, that of AGENTS_FILE.")


@click.group()
def agents() -> None:
    """The agents: check the file, explain it, see who answers."""


@agents.command()
@click.argument("path", metavar="FILE", type=_File)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check(path: Path, as_json: bool) -> None:
    """Check an agent file; exit 0 when it is good, 1 when not."""
    problems = views.check(path)
    if as_json:
        click.echo(json.dumps({"ok": not problems, "problems": problems}, indent=2))
    else:
        for line in problems or [f"{path.name}: good"]:
            click.echo(line)
    sys.exit(1 if problems else 0)


@agents.command()
def schema() -> None:
    """Print the JSON Schema of the agent file, for editors."""
    click.echo(views.schema_text(), nl=False)


@agents.command()
def sample() -> None:
    """Print an agent file with explanations: voicepool agents sample > agents.yaml"""
    click.echo(views.sample(), nl=False)


@agents.command()
@click.argument("name", required=False)
@_file_option
def show(name: str | None, path: Path | None) -> None:
    """Show what the agents come to, or the agent NAME: defaults filled in, secrets masked."""
    found = _load(path)
    if name is not None and name not in found.agents:
        raise click.ClickException(f"there is no agent {name}; there are: {', '.join(found.agents)}")
    click.echo(views.shown(found, name), nl=False)


@agents.command()
@click.option("--called", default="", help="Number that is called.")
@click.option("--caller", default="", help="Number of the caller.")
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="Header field; may be given again.")
@click.option("--trunk", default="", help="IP address the INVITE comes from.")
@_file_option
def route(called: str, caller: str, headers: tuple[str, ...], trunk: str, path: Path | None) -> None:
    """Say which agent would answer a call, and why."""
    pairs = [header.partition("=") for header in headers]
    if not all(equals for _, equals, _ in pairs):
        raise click.BadParameter("must be NAME=VALUE", param_hint="--header")
    fields = {name.lower(): value for name, _, value in pairs}
    facts = CallFacts(called=called, caller=caller, headers=fields, trunk=trunk, at=datetime.now(UTC))
    for line in views.explained(_load(path), facts):
        click.echo(line)


@agents.command()
@click.option(
    "--into",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Write it into this file instead, between its marker lines.",
)
def table(into: Path | None) -> None:
    """Print every key of the agent file as Markdown tables."""
    if into is None:
        click.echo(views.reference())
        return
    try:
        into.write_text(views.with_reference(into.read_text("utf-8")), "utf-8")
    except ValueError as error:
        raise click.ClickException(f"{into}: {error}") from error


def _load(path: Path | None) -> Agents:
    try:
        return views.load(path)
    except ConfigError as error:
        raise click.ClickException("\n".join(error.problems)) from error
