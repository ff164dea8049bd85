"""What is said about schemas that cannot be used, and about arguments that do not fit."""

from typing import Any

import pytest

from worker.tools.schema import Schema

ORDER = {
    "type": "object",
    "properties": {
        "id": {"type": "integer", "minimum": 1},
        "size": {"enum": ["small", "large"]},
        "code": {"type": "string", "pattern": "^[0-9]{4}$", "maxLength": 4},
        "items": {"type": "array", "items": {"type": "object", "required": ["name"]}, "maxItems": 2},
        "day": {"type": "string", "format": "date"},
    },
    "required": ["id"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({}, "the arguments: 'id' is missing"),
        ({"id": "1"}, "id: must be of type integer"),
        ({"id": 0}, "id: must be at least 1"),
        ({"id": 1, "size": "huge"}, "size: must be one of: small, large"),
        ({"id": 1, "code": "12a4"}, "code: must match the regular expression ^[0-9]{4}$"),
        ({"id": 1, "items": [{"name": "x"}, {}]}, "items.1: 'name' is missing"),
        ({"id": 1, "items": [{"name": "x"}] * 3}, "items: most items: 2"),
        (
            {"id": 1, "colour": "red"},
            "the arguments: Additional properties are not allowed ('colour' was unexpected); "
            "known: id, size, code, items, day",
        ),
    ],
)
def test_a_complaint_names_the_field_and_what_was_expected(arguments: dict[str, Any], complaint: str) -> None:
    assert Schema(ORDER).complaints(arguments) == [complaint]


@pytest.mark.parametrize("text", ["a$]\n", "a$]x", "$]"])
def test_a_pattern_ends_where_the_text_ends(text: str) -> None:
    schema = Schema({"type": "object", "properties": {"a": {"pattern": r"^a\$[$\]]$"}}})
    assert schema.complaints({"a": "a$]"}) == []
    assert schema.complaints({"a": text}) == [r"a: must match the regular expression ^a\$[$\]]$"]


def test_a_complaint_never_repeats_the_value() -> None:
    complaints = Schema(ORDER).complaints({"id": "4111222233334444", "code": "98765", "size": "55555"})
    assert len(complaints) == 4
    assert not any(value in "".join(complaints) for value in ("4111", "98765", "55555"))


def test_arguments_that_fit_bring_no_complaint() -> None:
    assert Schema(ORDER).complaints({"id": 1, "size": "small", "code": "1234", "items": [{"name": "x"}]}) == []


def test_formats_are_not_checked() -> None:
    assert Schema(ORDER).complaints({"id": 1, "day": "tomorrow"}) == []


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ({"type": "object", "properties": []}, "properties: .* is not of type 'object'"),
        ({"type": "object", "properties": {"a": {"type": "text"}}}, "properties.a.type"),
        ({"type": "object", "properties": {"a": {"pattern": "["}}}, "properties.a.pattern"),
        ({"type": "array"}, 'must have "type": "object"'),
        ({"properties": {}}, 'must have "type": "object"'),
        ({"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1:9/x"}}}, "outside itself: http"),
        ({"type": "object", "properties": {"a": {"$ref": "#/$defs/b"}}}, "has nothing at #/\\$defs/b"),
        ({"type": "object", "allOf": [{"$ref": "#"}]}, "refers to itself without end"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused(schema: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Schema(schema)


def test_a_schema_may_refer_to_its_own_definitions() -> None:
    tree = {
        "type": "object",
        "properties": {"root": {"$ref": "#/$defs/node"}},
        "$defs": {
            "node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}, "n": {"type": "integer"}}}
        },
    }
    assert Schema(tree).complaints({"root": {"next": {"next": {"n": "x"}}}}) == [
        "root.next.next.n: must be of type integer"
    ]
