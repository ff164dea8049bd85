"""Says what a worker would refuse in an agent file: `python -m worker.check FILE` prints a JSON list of problems.

For the operator's side, which cannot ask by an import. It makes every agent's tools ready as a worker does, functions
of other packages included, but neither clips nor credentials; it needs no pjsua2 and no Redis.
"""

import contextlib
import json
import sys
from pathlib import Path

from shared.agents import file
from shared.agents.secrets import process_secrets
from shared.errors import ConfigError
from shared.settings import WorkerSettings, load
from worker.tools import functions
from worker.tools.catalogue import Catalogue


def problems(path: Path) -> list[str]:
    """Returns everything that is wrong with the agents in a file and with their tools, one line each."""
    try:
        settings = load(WorkerSettings)
        agents = file.load(path, file.base(settings), process_secrets(settings.secrets_dir)).agents
        installed = functions.discover()
    except ConfigError as error:
        return error.problems
    found = []
    for agent in agents.values():
        try:
            Catalogue(agent, installed)
        except ConfigError as error:
            found += [f"{path.name}: {problem}" for problem in error.problems]
    return found


def main() -> None:
    """Prints the problems of the file that the command line names."""
    with contextlib.redirect_stdout(sys.stderr):  # a stranger's module may print while it is imported
        found = problems(Path(sys.argv[1]))
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
