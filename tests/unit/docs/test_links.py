"""Links between the documents, as viewers of repositories follow them. Those of the site are checked by `make docs`."""

import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest
from pymdownx.slugs import slugify

ROOT = Path(__file__).parents[3]

DOCUMENTS = sorted(
    file for place in (".", "docs", "bench", "simulator", "helm/voicepool") for file in (ROOT / place).glob("*.md")
)

_CODE = re.compile(r"^```.*?^```|^    .*?$|`[^`\n]*`", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)
_slug = slugify(case="lower")


@cache
def anchors(document: Path) -> frozenset[str]:
    """Returns what can stand behind # in a link to the document."""
    text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    return frozenset(_slug(heading.replace("`", ""), "-") for heading in _HEADING.findall(text))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    dead = []
    for link in _LINK.findall(_CODE.sub("", document.read_text())):
        if re.match(r"[a-z]+:", link):
            continue  # elsewhere: a test does not ask other people's servers
        path, _, anchor = unquote(link).partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert dead == []
