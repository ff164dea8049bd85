"""`voicepool telemetry`, and the document that its tables stand in."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from admin.cli import main
from admin.telemetry_commands import BEGIN, END, with_tables
from shared.telemetry.catalogue import METRICS, prometheus_name

DOCUMENT = Path(__file__).parents[3] / "docs" / "telemetry.md"


def test_the_document_has_the_tables_as_they_are() -> None:
    text = DOCUMENT.read_text("utf-8")
    assert text == with_tables(text), "run: voicepool telemetry table --into docs/telemetry.md"


def test_the_tables_have_every_metric() -> None:
    shown = CliRunner().invoke(main, ["telemetry", "table"]).output
    for metric in METRICS.values():
        assert f"| `{prometheus_name(metric)}` | `{metric.name}`" in shown


def test_the_tables_are_written_between_the_marker_lines(tmp_path: Path) -> None:
    document = tmp_path / "telemetry.md"
    document.write_text(f"Before.\n\n{BEGIN}\nold\n{END}\n\nAfter.\n")
    assert CliRunner().invoke(main, ["telemetry", "table", "--into", str(document)]).exit_code == 0
    text = document.read_text()
    assert text.startswith("Before.") and text.endswith("After.\n") and "old" not in text


@pytest.mark.parametrize("text", ["", BEGIN, f"{END}\n{BEGIN}"])
def test_a_document_without_marker_lines_is_left_alone(tmp_path: Path, text: str) -> None:
    document = tmp_path / "other.md"
    document.write_text(text)
    result = CliRunner().invoke(main, ["telemetry", "table", "--into", str(document)])
    assert result.exit_code == 1 and "it has no lines" in result.output
    assert document.read_text() == text
