"""No argument changes where a request goes."""

import re
from urllib.parse import parse_qsl, unquote

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from yarl import URL

from worker.tools.context import ToolError
from worker.tools.url import UrlTemplate

TEMPLATE = UrlTemplate.parse(
    "https://api.example.com:8443/v1/{customer}/orders/{prefix}-{id}?state={state}&limit=5&q={q}"
)
TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40) | st.sampled_from(
    [
        "..",
        ".",
        "../..",
        "a/../b",
        "//evil.example",
        "@evil.example",
        "\\..\\",
        "%2e%2e",
        "?x=1",
        "#",
        "a&b=c",
        "\r\nX: y",
    ]
)


def test_arguments_stand_encoded_in_their_places() -> None:
    url = TEMPLATE.url({"customer": "Jörg & Co", "prefix": "A", "id": 7, "state": True, "q": "a+b=c&d"})
    assert str(url) == (
        "https://api.example.com:8443/v1/J%C3%B6rg%20%26%20Co/orders/A-7?state=true&limit=5&q=a%2Bb%3Dc%26d"
    )


@given(customer=TEXT, prefix=TEXT, id=TEXT, state=TEXT, q=TEXT)
@example(customer="a", prefix=".", id=".", state="", q="")
def test_whatever_the_arguments_host_segments_and_query_names_stay(
    customer: str, prefix: str, id: str, state: str, q: str
) -> None:
    try:
        url = TEMPLATE.url({"customer": customer, "prefix": prefix, "id": id, "state": state, "q": q})
    except ToolError:
        pieces = re.split(r"[/\\]", customer) + re.split(r"[/\\]", f"{prefix}-{id}")
        assert not customer or ".." in pieces or "." in pieces
        return
    assert url.origin() == URL("https://api.example.com:8443")
    assert (url.user, url.password, url.fragment) == (None, None, "")
    target = url.raw_path_qs
    assert re.fullmatch(r"[A-Za-z0-9/?&=%._~-]+", target)
    assert [unquote(part) for part in url.raw_path.split("/")] == ["", "v1", customer, "orders", f"{prefix}-{id}"]
    assert parse_qsl(url.raw_query_string, keep_blank_values=True) == [("state", state), ("limit", "5"), ("q", q)]


@given(value=TEXT)
def test_a_url_survives_being_normalised_by_a_server(value: str) -> None:
    template = UrlTemplate.parse("https://api.example.com/v1/{name}/delete")
    try:
        url = template.url({"name": value})
    except ToolError:
        assume(False)
        raise
    # The most a server may do: decode everything once, take \ for /, then resolve . and ..
    decoded = unquote(url.raw_path).replace("\\", "/")
    assert URL.build(scheme="https", host="api.example.com", path=decoded).path.startswith("/v1/")
    assert not {".", ".."} & set(decoded.split("/"))


@pytest.mark.parametrize("value", ["", ".", "..", "../admin", "a/..", "..\\x", "x/./y"])
def test_a_way_up_or_to_the_whole_collection_is_refused(value: str) -> None:
    with pytest.raises(ToolError, match=r"^id must not be empty"):
        UrlTemplate.parse("https://h/orders/{id}").url({"id": value})


@pytest.mark.parametrize("value", [None, [1], {"a": 1}])
def test_only_simple_values_stand_in_a_url(value: object) -> None:
    with pytest.raises(ToolError, match="id must be a string, a number or a boolean"):
        UrlTemplate.parse("https://h/orders/{id}").url({"id": value})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("ftp://h/x", "must begin with https"),
        ("https://{host}/x", "host must be literal"),
        ("https://h{rest}", "host must be literal"),
        ("https://h:{port}/", "host must be literal"),
        ("https://user:secret@h/", "user name or password"),
        ("https://h/x#y", "fragment"),
        ("https://h/{a b}", "spaces"),
        ("https://h/{a", "brace"),
        ("https://h/{}", "brace"),
        ("https://h/a}/{b}", "brace"),
        ("https://h/a/%2e%2e/b", "segments"),
        ("https://h/?{name}=1", "not for a name"),
        ("https://h\\@evil/", "backslashes"),
        ("https:///x", "no host"),
        ("https://h:99999/", "[Pp]ort"),
    ],
)
def test_a_template_that_is_not_safe_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        UrlTemplate.parse(text)


def test_a_template_without_path_or_with_odd_letters_works() -> None:
    assert str(UrlTemplate.parse("https://h?x={x}").url({"x": 1})) == "https://h/?x=1"
    assert str(UrlTemplate.parse("http://h/größe/{x}").url({"x": 1})) == "http://h/gr%C3%B6%C3%9Fe/1"
