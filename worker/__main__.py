"""`python -m worker`: a supervisor and its worker processes. Everything else is in the settings."""

import sys

import click

from shared import logs
from shared.errors import ConfigError
from shared.settings import WorkerSettings, load


@click.command()
def main() -> None:
    """Run the workers of one pod until SIGTERM, then let their calls end.

    All settings come from the environment and `.env`; `voicepool config sample` lists them.
    """
    try:
        settings = load(WorkerSettings)
    except ConfigError as error:
        for problem in error.problems:
            click.echo(f"voicepool worker: {problem}", err=True)
        sys.exit(2)
    logs.configure(settings.log_level, settings.voice_live_log_file)
    from worker.supervisor import Supervisor  # after the settings: a bad one is reported in a blink

    sys.exit(Supervisor(settings).run())


if __name__ == "__main__":
    main()
