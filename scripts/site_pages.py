"""What mkdocs has to be told of pages that are not in docs/: where they are, and where their links lead on the site.

The site has every page at its place in the tree, but for docs/, whose pages are at the top. Words stay, except that
state diagrams become lists of transitions: what draws them is 3 MB of script from somebody else's server.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]

ELSEWHERE = ("ARCHITECTURE.md", "CHANGELOG.md", "bench", "simulator", "helm/voicepool")
"""Pages, and directories with a README.md and perhaps more pages and their pictures."""

_LINK = re.compile(r"(?P<before>!?\[[^\]]*\]\()(?P<path>[^)\s:#]+)(?P<anchor>#[^)\s]*)?\)")
_DIAGRAM = re.compile(r"```mermaid\nstateDiagram-v2\n(?P<lines>.*?)```\n", re.DOTALL)
_TRANSITION = re.compile(r"(?P<state>\S+) --> (?P<next>[^\s:]+)(?:: (?P<event>\w+))?")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are elsewhere, with their pictures."""
    for name in ELSEWHERE:
        place = ROOT / name
        for path in [place] if place.is_file() else sorted([*place.glob("*.md"), *place.glob("*.png")]):
            uri = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Returns the page with links that lead from its place on the site to that of what they name."""
    here = page.file.src_uri
    in_docs = page.file.generated_by is None
    directory = posixpath.dirname(f"docs/{here}" if in_docs else here)

    def relinked(link: re.Match[str]) -> str:
        named = posixpath.normpath(posixpath.join(directory, link["path"]))
        on_site = posixpath.relpath(named.removeprefix("docs/"), posixpath.dirname(here) or ".")
        return f"{link['before']}{on_site}{link['anchor'] or ''})"

    return _DIAGRAM.sub(_as_list, _LINK.sub(relinked, markdown))


def _as_list(diagram: re.Match[str]) -> str:
    rows = ["| state | event | next |", "|---|---|---|"]
    for found in _TRANSITION.finditer(diagram["lines"]):
        state, following = ("" if name == "[*]" else f"`{name}`" for name in (found["state"], found["next"]))
        rows.append(f"| {state} | {found['event'] or ''} | {following} |")
    return "\n".join([*rows, ""])
