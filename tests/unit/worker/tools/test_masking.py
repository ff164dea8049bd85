"""Arguments that are not kept."""

import json

from worker.tools.masking import masked


def test_named_arguments_are_hidden_at_any_depth() -> None:
    arguments = '{"pin": "1234", "order": {"pin": 7, "id": 5}, "cards": [{"pin": {"a": 1}}], "city": "Köln"}'
    assert json.loads(masked(arguments, ["pin"])) == {
        "pin": "***",
        "order": {"pin": "***", "id": 5},
        "cards": [{"pin": "***"}],
        "city": "Köln",
    }
    assert "Köln" in masked(arguments, ["pin"])


def test_without_names_arguments_stay_as_the_model_sent_them() -> None:
    assert masked(' {"a":1}', ()) == ' {"a":1}'
    assert masked("", ["pin"]) == ""


def test_what_is_no_json_is_hidden_altogether() -> None:
    assert masked('{"pin": "1234"', ["pin"]) == '"***"'
    assert masked("[" * 100_000, ["pin"]) == '"***"'
    assert masked('{"pin": ' + "1" * 5_000 + "}", ["pin"]) == '"***"'


def test_half_of_a_character_does_not_get_into_the_record() -> None:
    assert masked('{"name": "\\ud800"}', ["pin"]).encode() == b'{"name": "?"}'
