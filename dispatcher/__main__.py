"""Starts a dispatcher: `python -m dispatcher`.

It holds no logic but the reading of settings. Exit code 2 means that they are wrong, or that a port is taken.
"""

import argparse
import faulthandler
import sys

import uvloop
from pydantic import AliasChoices

from dispatcher.app import serve
from dispatcher.telemetry import Telemetry
from shared import garbage, logs
from shared.errors import ConfigError
from shared.settings import DispatcherSettings, load


def main(arguments: list[str] | None = None) -> int:
    """Runs a dispatcher until SIGTERM or SIGINT and returns the exit code."""
    argparse.ArgumentParser(
        prog="python -m dispatcher",
        description="Takes SIP calls and hands them to the workers of the pool. Set it up in the environment:",
        epilog=_settings_table(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args(arguments)
    try:
        settings = load(DispatcherSettings)
        logs.configure(settings.log_level)
        faulthandler.enable()  # one that hangs is sent SIGABRT by systemd, and leaves its stacks behind
        telemetry = Telemetry(settings)
        garbage.settle()
        garbage.make_full_collections_rare()
        try:
            uvloop.run(serve(settings, telemetry))
        finally:
            telemetry.close()
    except ConfigError as error:
        sys.stderr.write("".join(f"{problem}\n" for problem in error.problems))
        return 2
    return 0


def _settings_table() -> str:
    lines = []
    for field in DispatcherSettings.model_fields.values():
        if isinstance(field.validation_alias, AliasChoices):
            lines.append(f"  {field.validation_alias.choices[0]!s:20} {field.description}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
