"""Every Lua file keeps the contract that its header states."""

import re
from importlib.resources import files

import pytest

from shared.control import scripts

FOLDER = files("shared.control")
NAMES = sorted(entry.name.removesuffix(".lua") for entry in FOLDER.iterdir() if entry.name.endswith(".lua"))
VERBS = [name for name in NAMES if name not in scripts.SHARED]


def header_and_body(name: str) -> tuple[str, str]:
    """Returns the comment a script begins with, and the rest."""
    lines = FOLDER.joinpath(f"{name}.lua").read_text("utf-8").splitlines()
    first = next(number for number, line in enumerate(lines) if not line.startswith("--"))
    return "\n".join(lines[:first]), "\n".join(lines[first:])


def stated(kind: str, header: str) -> list[int]:
    """Returns the indexes of KEYS or ARGV that a header explains; the last may stand for many."""
    return [int(index) for index in re.findall(rf"{kind}\[(\d+)(?:\.\.)?\] ", header)]


def used(kind: str, body: str) -> set[int]:
    """Returns the indexes of KEYS or ARGV that a script names."""
    return {int(index) for index in re.findall(rf"{kind}\[(\d+)\]", body)}


def test_there_are_scripts() -> None:
    assert len(VERBS) >= 9


@pytest.mark.parametrize("name", VERBS)
def test_header_says_purpose_keys_arguments_and_answer(name: str) -> None:
    header, _ = header_and_body(name)
    lines = header.splitlines()
    assert re.match(r"-- [A-Z].*", lines[0]) and "KEYS" not in lines[0]
    assert stated("KEYS", header)
    assert any(line.startswith("-- Answer: ") for line in lines)


@pytest.mark.parametrize("kind", ["KEYS", "ARGV"])
@pytest.mark.parametrize("name", VERBS)
def test_header_explains_every_index_in_use_without_a_gap(name: str, kind: str) -> None:
    header, body = header_and_body(name)
    indexes = stated(kind, header)
    assert indexes == list(range(1, len(indexes) + 1))
    assert used(kind, body) <= set(indexes)


@pytest.mark.parametrize("name", NAMES)
def test_script_builds_no_key_names_and_takes_time_from_redis_only(name: str) -> None:
    _, body = header_and_body(name)
    assert "voicepool" not in body
    assert "os." not in body
    for command, first in re.findall(r"redis\.call\('(\w+)'(?:, *([^,)]+))?", body):
        assert command == "TIME" or re.match(r"KEYS\[\d+\]|keys\.\w+", first), f"{command} {first}"


def test_every_script_has_one_caller() -> None:
    sources = [entry.read_text("utf-8") for entry in FOLDER.iterdir() if entry.name.endswith(".py")]
    called = [name for text in sources for name in re.findall(r'Script\(redis, "(\w+)"\)', text)]
    assert sorted(called) == VERBS


@pytest.mark.parametrize("name", VERBS)
def test_script_has_the_budgets_in_front_when_it_uses_them(name: str) -> None:
    functions = re.findall(r"^local function (\w+)", FOLDER.joinpath("budgets.lua").read_text("utf-8"), re.MULTILINE)
    _, body = header_and_body(name)
    assert functions and any(f"{function}(" in body for function in functions) == (name in scripts.WITH_BUDGETS)


@pytest.mark.parametrize("name", VERBS)
def test_every_constant_of_a_script_is_one_that_it_is_given(name: str) -> None:
    _, body = header_and_body(name)
    written = set(re.findall(r"\b[A-Z]{2,}_[A-Z_]+\b", body))
    assert written <= {*scripts.CONSTANTS, *re.findall(r"^local ([A-Z_]+) =", scripts.source(name), re.MULTILINE)}
