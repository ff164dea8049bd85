"""The tools an agent can be given. It does not run them, nor check their schemas; `worker/tools/` does."""

from typing import Annotated, Any, Literal

from pydantic import Field

from shared.agents.parts import Line, Name, Part, Secret, Shorthand, Spoken, TextOrSecret, WebAddress

ToolSeconds = Annotated[float, Field(gt=0, le=300)]

Mask = Annotated[tuple[Line, ...], Field()]


class HangUpTool(Part):
    """Ends the call."""

    type: Literal["hang_up"] = "hang_up"
    """The model may hang up."""
    name: Literal["hang_up"] = "hang_up"
    """What the model calls it; fixed."""


class TransferTool(Part):
    """Hands the caller over to one of the agent's `transfers`."""

    type: Literal["transfer_call"] = "transfer_call"
    """The model may transfer the caller."""
    name: Literal["transfer_call"] = "transfer_call"
    """What the model calls it; fixed."""
    timeout_s: ToolSeconds = 30.0
    """Longest wait for the other side to take the call, in seconds."""


class SendDtmfTool(Part):
    """Sends digits to the caller's side."""

    type: Literal["send_dtmf"] = "send_dtmf"
    """The model may send DTMF."""
    name: Literal["send_dtmf"] = "send_dtmf"
    """What the model calls it; fixed."""


class CollectDigitsTool(Part):
    """Has the caller type digits, which may be kept from the model."""

    type: Literal["collect_digits"] = "collect_digits"
    """The model may ask for digits."""
    name: Literal["collect_digits"] = "collect_digits"
    """What the model calls it; fixed."""


class HttpTool(Part):
    """Makes one HTTP request."""

    type: Literal["http_request"]
    """An HTTP request."""
    name: Name
    """What the model calls it."""
    description: Spoken
    """What the model is told it does, and when to use it."""
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    """Method of the request."""
    url: WebAddress
    """Where to; {argument} in path or query stands for that argument, the host is literal."""
    parameters: dict[str, Any] = Field(default_factory=lambda: {"type": "object", "properties": {}})
    """JSON Schema of the arguments: an object."""
    headers: dict[Line, TextOrSecret] = Field(default_factory=dict)
    """Header fields to send; {secret: NAME} for what must not stand in the file."""
    body: Literal["json", "form", "none"] = "json"
    """How arguments that are not in the URL travel with POST, PUT and PATCH."""
    timeout_s: ToolSeconds = 10.0
    """Longest time for the whole request, in seconds."""
    max_bytes: int = Field(default=65_536, ge=1, le=1_048_576)
    """Longest answer that is read, in bytes."""
    mask: Mask = ()
    """Names of arguments that are not kept in the call record."""


class PythonTool(Part):
    """Calls a Python function that an installed package offers as entry point in `voicepool.tools`."""

    type: Literal["python"]
    """A Python function."""
    name: Name
    """Name of the entry point, and what the model calls it."""
    timeout_s: ToolSeconds = 30.0
    """Longest time it may run, in seconds."""
    mask: Mask = ()
    """Names of arguments that are not kept in the call record."""


class McpTool(Part):
    """An MCP server, which the service itself asks for its tools and calls."""

    type: Literal["mcp"]
    """An MCP server."""
    label: Name
    """What the model knows the server as."""
    url: WebAddress
    """Where the service reaches it."""
    authorization: Secret | None = None
    """Sent to the server as it is, as {secret: NAME}."""
    headers: dict[Line, TextOrSecret] = Field(default_factory=dict)
    """Header fields the service sends; {secret: NAME} for what must not stand in the file."""
    allowed_tools: tuple[Line, ...] = ()
    """The only tools of the server that may be used; empty allows all."""

    @property
    def name(self) -> str:
        """The label: servers are told apart by it, as other tools are by their names."""
        return self.label


_BUILT_IN = ("hang_up", "transfer_call", "send_dtmf", "collect_digits")

Tool = Annotated[
    Annotated[
        HangUpTool | TransferTool | SendDtmfTool | CollectDigitsTool | HttpTool | PythonTool | McpTool,
        Field(discriminator="type"),
    ],
    Shorthand(lambda kind: {"type": kind}, _BUILT_IN),
]
