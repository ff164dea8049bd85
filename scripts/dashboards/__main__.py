"""Writes Grafana's dashboards into the Helm chart; `--check` says if they are up to date.

    python -m scripts.dashboards

What is on them is in the modules beside this one.
"""

import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from scripts.dashboards import one_call, pool, voice_live

FOLDER = Path(__file__).parents[2] / "helm" / "voicepool" / "files" / "dashboards"


def written() -> dict[str, str]:
    """Returns the files by name."""
    builders = {"pool.json": pool.build(), "voice-live.json": voice_live.build(), "one-call.json": one_call.build()}
    boards = {name: builder.build() for name, builder in builders.items()}
    for board in boards.values():
        for number, panel in enumerate(board.panels or (), start=1):
            panel.id_val = number  # links to a panel go by it
    encoder = JSONEncoder(sort_keys=True, indent=2, ensure_ascii=False)
    return {name: encoder.encode(board) + "\n" for name, board in boards.items()}


def main() -> int:
    """Writes them, or with --check returns 1 when they differ."""
    stale = {name: text for name, text in written().items() if _read(FOLDER / name) != text}
    if "--check" in sys.argv[1:]:
        return 1 if stale else 0
    for name, text in stale.items():
        (FOLDER / name).write_text(text)
    return 0


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


if __name__ == "__main__":
    sys.exit(main())
