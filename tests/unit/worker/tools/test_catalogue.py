"""What the model is told of an agent's tools, and what it is told when it calls them wrongly."""

import json
from typing import Any

import pytest
from azure.ai.voicelive.models import RequestSession
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from shared.agents.model import Agent, HangUpTool, HttpTool, McpTool
from shared.errors import ConfigError
from worker.tools.catalogue import MAX_ARGUMENTS_BYTES, MAX_MESSAGE_CHARS, BadCall, Catalogue
from worker.tools.functions import PythonFunction, read

LOOKUP = {
    "type": "http_request",
    "name": "lookup",
    "description": "Looks an order up.",
    "url": "https://api.example.com/orders/{id}",
    "parameters": {
        "type": "object",
        "properties": {"id": {"type": "integer"}, "pin": {"type": "string", "pattern": "^[0-9]{4}$"}},
        "required": ["id"],
    },
}


def opening_hours(day: str) -> str:
    """Says when we are open."""
    return day


FUNCTIONS: dict[str, PythonFunction] = {"opening_hours": read("opening_hours", opening_hours)}


def catalogue(*tools: Any, **more: Any) -> Catalogue:
    return Catalogue(Agent(name="reception", model="gpt-4.1-mini", tools=tools, **more), FUNCTIONS)


def problems(*tools: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        catalogue(*tools)
    return caught.value.problems


def test_the_built_in_tools_say_what_they_are_for_and_what_they_take() -> None:
    definitions = catalogue(
        "hang_up",
        "transfer_call",
        "send_dtmf",
        "collect_digits",
        transfers={"sales": {"uri": "sip:1@h", "description": "Orders and prices"}, "night": "sip:2@h"},
    ).definitions()
    parameters = {tool["name"]: tool["parameters"] for tool in definitions}
    assert [tool["type"] for tool in definitions] == ["function"] * 4
    assert all(len(tool["description"]) > 50 for tool in definitions)
    assert list(parameters["hang_up"]["properties"]) == ["farewell"]
    assert parameters["transfer_call"]["required"] == ["target"]
    assert parameters["transfer_call"]["properties"]["target"] == {
        "type": "string",
        "enum": ["sales", "night"],
        "description": "Who takes the caller over. sales: Orders and prices; night",
    }
    assert list(parameters["collect_digits"]["properties"]) == ["max_digits", "terminator", "timeout_s", "sensitive"]


def test_a_transfer_goes_only_where_the_agent_knows_somebody() -> None:
    tools = catalogue("transfer_call", transfers={"sales": "sip:1@h"})
    assert tools.check("transfer_call", '{"target": "sales"}') == {"target": "sales"}
    assert tools.check("transfer_call", '{"target": "sip:me@evil"}') == BadCall("target: must be one of: sales")


@pytest.mark.parametrize("digits", ["", "12a", "1" * 33, "1 2", "12\n"])
def test_only_keys_of_a_telephone_can_be_sent(digits: str) -> None:
    tools = catalogue("send_dtmf")
    assert tools.check("send_dtmf", '{"digits": "1,2#A"}') == {"digits": "1,2#A"}
    assert isinstance(tools.check("send_dtmf", json.dumps({"digits": digits})), BadCall)


def test_http_and_python_tools_are_functions_with_their_own_parameters() -> None:
    http, python = catalogue(LOOKUP, {"type": "python", "name": "opening_hours"}).definitions()
    assert http["description"] == "Looks an order up."
    assert http["parameters"] == {"additionalProperties": False, **LOOKUP["parameters"]}  # type: ignore[dict-item]
    assert python == {
        "type": "function",
        "name": "opening_hours",
        "description": "Says when we are open.",
        "parameters": {
            "type": "object",
            "properties": {"day": {"type": "string"}},
            "required": ["day"],
            "additionalProperties": False,
        },
    }


def test_an_mcp_server_is_passed_on_to_the_service() -> None:
    full = McpTool(
        type="mcp",
        label="crm",
        url="https://crm.example.com/mcp",
        authorization=SecretStr("Bearer s"),
        headers={"X-A": SecretStr("t"), "X-B": "plain"},
        allowed_tools=("find",),
    )
    tools = catalogue(full, {"type": "mcp", "label": "docs", "url": "https://docs.example.com"})
    assert tools.definitions() == [
        {
            "type": "mcp",
            "server_label": "crm",
            "server_url": "https://crm.example.com/mcp",
            "require_approval": "never",
            "authorization": "Bearer s",
            "headers": {"X-A": "t", "X-B": "plain"},
            "allowed_tools": ["find"],
        },
        {
            "type": "mcp",
            "server_label": "docs",
            "server_url": "https://docs.example.com",
            "require_approval": "never",
        },
    ]
    assert isinstance(tools.check("crm", "{}"), BadCall)


def test_the_sdk_knows_the_definitions_by_their_types() -> None:
    tools = catalogue("hang_up", {"type": "mcp", "label": "docs", "url": "https://docs.example.com"})
    kinds = [type(tool).__name__ for tool in RequestSession({"tools": tools.definitions()}).tools or []]
    assert kinds == ["FunctionTool", "MCPServer"]


def test_the_kind_of_a_tool_is_its_entry_in_the_agent() -> None:
    tools = catalogue("hang_up", LOOKUP)
    assert tools.kind("hang_up") == HangUpTool()
    assert isinstance(tools.kind("lookup"), HttpTool)
    assert tools.kind("other") is None


@pytest.mark.parametrize(
    ("arguments", "checked"),
    [
        ("", {}),
        (" \r\n\t", {}),
        ("{}", {}),
        ('\ufeff\n { "farewell" :\u0020"Bye\nnow" }\u00a0\n', {"farewell": "Bye\nnow"}),
    ],
)
def test_odd_white_space_is_normal(arguments: str, checked: dict[str, Any]) -> None:
    assert catalogue("hang_up").check("hang_up", arguments) == checked


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("end_call", "{}", "There is no tool 'end_call'. Known tools: hang_up, lookup."),
        ("lookup", '{"id": 5', "The arguments are not valid JSON: Expecting ',' delimiter at character 8."),
        ("lookup", "[5]", "The arguments must be a JSON object."),
        ("lookup", "{}", "the arguments: 'id' is missing"),
        ("lookup", '{"id": "five"}', "id: must be of type integer"),
        ("lookup", '{"id": NaN}', "The arguments are not valid JSON: NaN is no number."),
        ("lookup", '{"id": 1e999}', "The arguments are not valid JSON: 1e999 is no number."),
        ("lookup", '{"id": "\\ud800"}', "The arguments are not valid JSON: a \\u escape is half of a character."),
        ("lookup", "[" * 20_000, "The arguments are not valid JSON: they are nested too deeply."),
        ("lookup", '"' + "x" * MAX_ARGUMENTS_BYTES, f"The arguments are larger than {MAX_ARGUMENTS_BYTES} bytes."),
    ],
)
def test_a_bad_call_is_told_what_to_do_better(name: str, arguments: str, message: str) -> None:
    assert catalogue("hang_up", LOOKUP).check(name, arguments) == BadCall(message)


@given(st.text(max_size=200) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_no_arguments_whatever_raise_anything(arguments: str) -> None:
    checked = catalogue("hang_up").check("hang_up", arguments)
    assert isinstance(checked, dict) or len(checked.message) <= MAX_MESSAGE_CHARS + 3


def test_a_message_is_bounded() -> None:
    keys = {"x" * 300 + str(number): 1 for number in range(50)}
    checked = catalogue("hang_up").check("hang_up", json.dumps(keys))
    assert isinstance(checked, BadCall)
    assert len(checked.message) <= MAX_MESSAGE_CHARS + 3


def test_digits_behind_a_placeholder_are_checked_and_not_shown() -> None:
    tools = catalogue(LOOKUP)
    call = '{"id": 1, "pin": "<digits-1>"}'
    assert tools.check("lookup", call, {"<digits-1>": "1234"}) == {"id": 1, "pin": "<digits-1>"}
    assert tools.check("lookup", call, {"<digits-1>": "12345"}) == BadCall(
        "pin: must match the regular expression ^[0-9]{4}$"
    )


def test_everything_wrong_with_the_tools_is_said_at_once() -> None:
    assert problems(
        {**LOOKUP, "name": "a", "url": "https://{host}/"},
        {**LOOKUP, "name": "b", "parameters": {"type": "object", "properties": {"id": {"type": "text"}}}},
        {**LOOKUP, "name": "c", "parameters": {"type": "object", "properties": {"id": {}}}},
        {**LOOKUP, "name": "d", "url": "https://h/{id}?pin=1"},
        {**LOOKUP, "name": "e", "headers": {"X Y": "1", "X-Z": SecretStr("top\nsecret")}},
        {"type": "python", "name": "closing_hours"},
    ) == [
        "agents.reception.tools.a.url: the host must be literal: an argument may stand in the path or the query only",
        "agents.reception.tools.b.parameters: properties.id.type: 'text' is not valid under any of the given schemas",
        "agents.reception.tools.c.url: {id} must be a required property of parameters",
        "agents.reception.tools.d.parameters: pin would be set twice, by the url's query and by the argument",
        "agents.reception.tools.e.headers.'X Y': is no name of a header",
        "agents.reception.tools.e.headers.X-Z: has a character that cannot stand in a header",
        "agents.reception.tools.closing_hours.name: no such function is installed; there are: opening_hours",
    ]


def test_an_agent_without_tools_has_none() -> None:
    tools = catalogue()
    assert tools.definitions() == []
    assert tools.check("hang_up", "{}") == BadCall("There is no tool 'hang_up'. Known tools: none.")
