"""What docs/debian.md says to type and to write, by section, as it stands there."""

import re
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).parents[3]
GUIDE = ROOT / "docs" / "debian.md"


def blocks(section: int) -> list[str]:
    """Returns the indented blocks of a section, in order."""
    (text,) = re.findall(rf"^## {section}\. .*?\n(.*?)(?=^## |\Z)", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    return [dedent(block).strip("\n") + "\n" for block in re.findall(r"(?:^ {4}.*\n|^\n(?= {4}))+", text, re.MULTILINE)]
