"""Bearer tokens and their file."""

import os
from pathlib import Path

import pytest

from admin.api.tokens import PREFIX, Role, TokenFile, mint, parse
from shared.errors import ConfigError


def test_a_new_token_is_long_random_and_not_in_its_line() -> None:
    (one, line), (two, _) = mint("a", Role.READ), mint("a", Role.READ)
    assert one != two
    assert one.startswith(PREFIX)
    assert len(one) >= len(PREFIX) + 43
    assert one.removeprefix(PREFIX) not in line
    [token] = parse(line)
    assert (token.name, token.role) == ("a", Role.READ)


@pytest.mark.parametrize("name", ["", "a b", "-a", "a" * 65, "a\n"])
def test_a_name_that_would_break_the_file_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="must be 1 to 64"):
        mint(name, Role.READ)


GOOD = mint("good", Role.READ)[1]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "has no tokens"),
        ("# nobody", "has no tokens"),
        (f"{GOOD}\n{GOOD}", "line 2: there is another good"),
        ("a admin sha256:" + "0" * 64, "line 1: must be"),
        ("a read sha256:0", "line 1: must be"),
        ("a read vp_plain", "line 1: must be"),
        ("a read", "line 1: must be"),
    ],
)
def test_a_file_that_is_no_good_is_refused_by_line_and_not_shown(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        parse(text)
    assert "vp_plain" not in str(refused.value)


def test_a_token_is_found_by_itself_only(tmp_path: Path) -> None:
    secret, line = mint("a", Role.OPERATE)
    path = tmp_path / "tokens"
    path.write_text(f"{GOOD}\n{line}\n")
    tokens = TokenFile(path)
    found = tokens.find(secret)
    assert found is not None
    assert (found.name, found.role) == ("a", Role.OPERATE)
    for wrong in ("", secret[:-1], secret + "x", line, "\udcff"):
        assert tokens.find(wrong) is None


def test_a_changed_file_is_read_and_a_broken_or_missing_one_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    (one, first), (two, second) = mint("one", Role.READ), mint("two", Role.READ)
    path.write_text(first)
    tokens = TokenFile(path)
    path.write_text(f"{second}\n")
    assert (tokens.find(one), tokens.find(two) is not None) == (None, True)
    path.write_text("broken")
    assert tokens.find(two) is not None
    os.remove(path)
    assert tokens.find(two) is not None
    path.write_text(first)
    assert tokens.find(one) is not None
    assert tokens.find(two) is None


def test_a_missing_file_is_a_bad_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ADMIN_TOKENS_FILE: cannot be read"):
        TokenFile(tmp_path / "nowhere")
