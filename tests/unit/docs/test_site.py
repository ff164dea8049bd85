"""The documentation as a site: built without a warning, and no page asks anybody else's server for anything."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_site_is_whole_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    pages = {file: file.read_text() for file in tmp_path.rglob("*.html")}
    assert len(pages) > 20
    for file, page in pages.items():
        loaded = re.findall(r"""<(?:script|img|iframe|link)\b[^>]*(?:src|href)=["']?(?:https?:)?//""", page)
        assert (file.name, loaded, 'class="mermaid"' in page) == (file.name, [], False)
