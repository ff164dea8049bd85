"""What the documents say of the code is what the code says."""

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_state_diagrams_are_those_of_the_transition_tables() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "state_diagrams.py"))
    text = (ROOT / "ARCHITECTURE.md").read_text()
    assert script["with_diagrams"](text) == text
