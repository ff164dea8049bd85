"""What the documents say of the code is what the code says."""

import re
import runpy
from pathlib import Path

from shared.agents.file import Base, parse
from shared.agents.model import Resource
from shared.agents.secrets import Secrets

ROOT = Path(__file__).parents[3]


def test_the_state_diagrams_are_those_of_the_transition_tables() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "state_diagrams.py"))
    text = (ROOT / "ARCHITECTURE.md").read_text()
    assert script["with_diagrams"](text) == text


def test_the_agents_in_the_readme_can_be_loaded() -> None:
    (example,) = re.findall(r"```yaml\n(agents.*?|transfers.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    below = Base({"model": "gpt-4.1-mini"}, Resource(endpoint="https://example.org"))
    agents = parse(example.encode(), ROOT / "agents.yaml", below, Secrets({}))
    assert set(agents.agents) == {"reception", "night"}


def test_the_figures_for_planning_are_those_of_the_last_benchmark() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "capacity_table.py"))
    page = (ROOT / "docs" / "capacity.md").read_text()
    assert script["with_table"](page) == page
