"""Writes the state diagrams in ARCHITECTURE.md from the transition tables; `--check` says if they are up to date.

It knows no states: `shared/states.py` does.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from shared.states import CALL_TRANSITIONS, WORKER_TRANSITIONS, CallState, WorkerState

ARCHITECTURE = Path(__file__).parent.parent / "ARCHITECTURE.md"
BEGIN = "<!-- state diagrams: written by scripts/state_diagrams.py -->"
END = "<!-- end of state diagrams -->"


def diagram(transitions: Mapping[tuple[str, str], str], first: str, last: str) -> str:
    """Returns the table as a Mermaid state diagram."""
    arrows = [f"    {before} --> {after}: {event}" for (before, event), after in transitions.items()]
    return "\n".join(["```mermaid", "stateDiagram-v2", f"    [*] --> {first}", *arrows, f"    {last} --> [*]", "```"])


def with_diagrams(text: str) -> str:
    """Returns the document with the part between the markers replaced."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    body = "\n\n".join(
        [
            "A call on its worker:",
            diagram(CALL_TRANSITIONS, CallState.INCOMING, CallState.ENDED),
            "A worker:",
            diagram(WORKER_TRANSITIONS, WorkerState.STARTING, WorkerState.STOPPED),
        ]
    )
    return f"{head}{BEGIN}\n\n{body}\n\n{END}{tail}"


def main() -> int:
    """Writes the diagrams, or with --check returns 1 when they differ from the tables."""
    before = ARCHITECTURE.read_text()
    after = with_diagrams(before)
    if "--check" in sys.argv[1:]:
        return int(before != after)
    ARCHITECTURE.write_text(after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
