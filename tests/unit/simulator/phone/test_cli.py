"""The telephone's command line: what a call is asked to be, and what is refused before anything is dialled."""

import pytest
from click.testing import CliRunner

from simulator.phone.cli import main


def test_help_names_every_option() -> None:
    shown = CliRunner().invoke(main, ["call", "--help"])
    assert shown.exit_code == 0
    for option in (
        "--say --wav --codec --calls --talk-over-after --cancel-after --record --json --dtmf --dtmf-after "
        "--dtmf-method --refer --cough --noise-after --hold --header --from-user"
    ).split():
        assert option in shown.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["call"],
        ["call", "sip:bot@127.0.0.1", "--codec", "G729"],
        ["call", "sip:bot@127.0.0.1", "--calls", "0"],
        ["call", "sip:bot@127.0.0.1", "--say", "  "],
        ["call", "sip:bot@127.0.0.1", "--say", "one turn only", "--talk-over-after", "1"],
        ["call", "sip:bot@127.0.0.1", "--dtmf", "12x"],
        ["call", "sip:bot@127.0.0.1", "--header", "no colon"],
        ["call", "sip:bot@127.0.0.1", "--header", "X-Broken: a\r\nX-Other: b"],
        ["call", "tel:123"],
    ],
)
def test_wrong_usage_ends_with_2(arguments: list[str], tmp_path: object) -> None:
    result = CliRunner().invoke(main, [*arguments, *(["--record", str(tmp_path)] if len(arguments) > 1 else [])])
    assert result.exit_code == 2
