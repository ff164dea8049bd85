"""Writes what can be said of the Helm chart's values elsewhere: the table in its README, descriptions in its schema.

`--check` says if they are up to date. The descriptions are the comments in values.yaml that begin with `# --`. Which
settings may stand under the `settings` of each part is what its model reads, as far as the chart does not set it itself
and it is no secret. What else a value may be is written by hand, in the schema.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import AliasChoices, SecretStr

from admin.webhooks.settings import WebhookSettings
from shared.settings import DispatcherSettings, PoolSettings, RedisSettings, WorkerSettings

CHART = Path(__file__).parent.parent / "helm" / "voicepool"
VALUES, SCHEMA, README = CHART / "values.yaml", CHART / "values.schema.json", CHART / "README.md"

BEGIN, END = "<!-- values: written by scripts/helm_values.py -->", "<!-- end of values -->"

SETTINGS: dict[tuple[str, ...], type[RedisSettings]] = {
    ("settings",): PoolSettings,
    ("dispatcher", "settings"): DispatcherSettings,
    ("worker", "settings"): WorkerSettings,
    ("webhooks", "settings"): WebhookSettings,
}
"""Where settings may be given, and who reads them."""

_COMMENT = re.compile(r"^ *# -- (?P<text>.*)$")
_KEY = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z]\w*):")
_SET = re.compile(r'[vV]ariable" \(list "([A-Z_0-9]+)"')

Keys = tuple[str, ...]


def descriptions(text: str) -> Iterator[tuple[Keys, str]]:
    """Yields each key of values.yaml that has a description, with it, in order."""
    path: list[str] = []
    pending = ""
    for line in text.splitlines():
        if comment := _COMMENT.match(line):
            pending = comment["text"]
        elif key := _KEY.match(line):
            path = [*path[: len(key["indent"]) // 2], key["key"]]
            if pending:
                yield tuple(path), pending
            pending = ""


def set_by_the_chart() -> set[str]:
    """Returns the environment variables that the templates set."""
    return {name for file in CHART.glob("templates/**/*") if file.is_file() for name in _SET.findall(file.read_text())}


def settings_of(model: type[RedisSettings]) -> dict[str, str]:
    """Returns name and description of each setting that values may give to who reads `model`."""
    taken = set_by_the_chart()
    found = {}
    for field in model.model_fields.values():
        assert isinstance(field.validation_alias, AliasChoices)
        name = str(field.validation_alias.choices[0])
        if name not in taken and SecretStr not in (field.annotation, *getattr(field.annotation, "__args__", ())):
            found[name] = field.description or ""
    return dict(sorted(found.items()))


def table() -> str:
    """Returns the values as a Markdown table."""
    values = yaml.safe_load(VALUES.read_text())
    lines = ["| value | default | what it is |", "|---|---|---|"]
    for path, description in descriptions(VALUES.read_text()):
        default = json.dumps(_at(values, path), ensure_ascii=False)
        lines.append(f"| `{'.'.join(path)}` | `{default}` | {description.replace('|', chr(92) + '|')} |")
    return "\n".join(lines)


def readme() -> str:
    """Returns the README with the table of now between its markers."""
    head, _, rest = README.read_text().partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n\n{table()}\n\n{END}{tail}"


def schema() -> str:
    """Returns the schema with the descriptions, and the names of settings, of now."""
    tree = json.loads(SCHEMA.read_text())
    for path, description in descriptions(VALUES.read_text()):
        _node(tree, path)["description"] = description
    for path, model in SETTINGS.items():
        _node(tree, path)["properties"] = {
            name: {"$ref": "#/definitions/setting", "description": description}
            for name, description in settings_of(model).items()
        }
    return json.dumps(tree, indent=2, ensure_ascii=False) + "\n"


def _at(tree: Any, path: Keys) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _node(tree: Any, path: Keys) -> dict[str, Any]:
    for key in path:
        tree = tree["properties"][key]
    return tree  # type: ignore[no-any-return]


def main() -> int:
    """Writes both, or with --check returns 1 when one of them is not up to date."""
    wanted = {README: readme(), SCHEMA: schema()}
    if "--check" in sys.argv[1:]:
        return int(any(file.read_text() != text for file, text in wanted.items()))
    for file, text in wanted.items():
        file.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
