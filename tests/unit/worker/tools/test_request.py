"""What is sent for a call of an HTTP tool."""

from typing import Any

import pytest
from pydantic import SecretStr

from shared.agents.model import HttpTool
from worker.tools.context import ToolError
from worker.tools.request import build

FREE = {"type": "object", "properties": {"id": {}}, "required": ["id"]}


def tool(**fields: Any) -> HttpTool:
    values = {"type": "http_request", "name": "t", "description": "d", "url": "https://h/x/{id}", "parameters": FREE}
    return HttpTool.model_validate(values | fields)


@pytest.mark.parametrize("fields", [{"method": "GET"}, {"method": "DELETE"}, {"method": "POST", "body": "none"}])
def test_without_a_body_what_the_url_does_not_name_goes_to_the_query(fields: dict[str, Any]) -> None:
    request = build(
        tool(**fields), {"id": 5, "q": "a b", "tags": ["x", "y"], "deep": {"a": 1}, "none": None, "t": True}
    )
    assert str(request.url) == "https://h/x/5?q=a+b&tags=x&tags=y&deep=%7B%22a%22%3A+1%7D&t=true"
    assert request.body is None
    assert "Content-Type" not in request.headers


def test_a_json_body_has_what_the_url_does_not_name() -> None:
    request = build(tool(method="POST"), {"id": 5, "name": "Köln", "deep": {"a": [1, None]}})
    assert str(request.url) == "https://h/x/5"
    assert request.body == '{"name": "Köln", "deep": {"a": [1, null]}}'.encode()
    assert request.headers["Content-Type"] == "application/json"


def test_a_form_has_what_the_url_does_not_name() -> None:
    request = build(tool(method="PUT", body="form"), {"id": 5, "name": "a&b=c", "n": 1.5})
    assert request.body == b"name=a%26b%3Dc&n=1.5"
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"


def test_the_operators_headers_win_whatever_their_case() -> None:
    headers = {"authorization": SecretStr("Bearer s"), "content-type": "application/vnd.x+json", "ACCEPT": "text/csv"}
    request = build(tool(method="POST", headers=headers), {"id": 5})
    assert dict(request.headers) == {
        "authorization": "Bearer s",
        "content-type": "application/vnd.x+json",
        "ACCEPT": "text/csv",
        "Accept-Encoding": "identity",
    }


def test_an_argument_cannot_override_what_the_urls_query_sets() -> None:
    with pytest.raises(ToolError, match="limit cannot be set"):
        build(tool(url="https://h/x/{id}?limit=5"), {"id": 5, "limit": 1000})


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_half_of_a_character_cannot_be_sent(method: str) -> None:
    with pytest.raises(ToolError, match="a character that cannot be sent"):
        build(tool(method=method), {"id": 5, "name": "\ud800"})
    with pytest.raises(ToolError, match="a character that cannot be sent"):
        build(tool(method=method), {"id": "\ud800"})
