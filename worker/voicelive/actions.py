"""What the session decides is to be done. `worker/conversation.py` does it; nothing here does anything.

Connections are numbered from 1 in the order in which they are asked for.
"""

from dataclasses import dataclass
from typing import Any

from shared.ending import CallEnd
from shared.errors import UpstreamError


@dataclass(frozen=True, slots=True)
class Connect:
    """Open this connection, `after_s` from now, and keep it until it is lost or `Disconnect`ed."""

    connection: int
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Close this connection; nothing more of it is wanted."""

    connection: int


@dataclass(frozen=True, slots=True)
class UpdateSession:
    """Send session.update with this session, before anything else."""

    connection: int
    session: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Send:
    """Send this client event."""

    connection: int
    message: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ready:
    """The first connection is set up: the call may be answered."""

    session_id: str


@dataclass(frozen=True, slots=True)
class Fail:
    """There will be no session: the call cannot be answered."""

    error: UpstreamError


@dataclass(frozen=True, slots=True)
class Listen:
    """Caller audio goes to this connection from now on, beginning with what was retained."""

    connection: int


@dataclass(frozen=True, slots=True)
class Hold:
    """Caller audio goes nowhere for now; it is retained, as far as there is room."""


@dataclass(frozen=True, slots=True)
class Deafen:
    """Caller audio is thrown away until the next `Listen`: the greeting may not be interrupted."""


@dataclass(frozen=True, slots=True)
class Retain:
    """Keep what the caller says from now on, and a little of before, so that it can be sent again; or no longer."""

    utterance: bool


@dataclass(frozen=True, slots=True)
class Play:
    """Queue this audio of an item for the caller."""

    item_id: str
    audio: bytes


@dataclass(frozen=True, slots=True)
class FinishAnswer:
    """The answer's audio is complete: running empty now is no underrun. `Session.playout_over` is awaited."""


@dataclass(frozen=True, slots=True)
class FlushPlayout:
    """Drop what the caller has not heard yet, and say what it was: `Session.cut_off`."""


@dataclass(frozen=True, slots=True)
class PlayFiller:
    """Play the agent's filler, over and over, until the playout is flushed."""


@dataclass(frozen=True, slots=True)
class PlayApology:
    """Play the agent's apology once; `Session.playout_over` is awaited."""


@dataclass(frozen=True, slots=True)
class RunTool:
    """Run a tool of the agent with arguments that were checked; the answer goes to `Session.tool_done`."""

    call_id: str
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SendDigits:
    """Send DTMF to the caller's side; the answer goes to `Session.tool_done`."""

    call_id: str
    digits: str


@dataclass(frozen=True, slots=True)
class Transfer:
    """Refer the caller to `target` (a SIP URI); the outcome goes to `Session.transferred`."""

    target: str


@dataclass(frozen=True, slots=True)
class OrderOver:
    """The transfer that an operator has ordered (`Session.transfer`) has its outcome: `failure`, empty for none."""

    failure: str


@dataclass(frozen=True, slots=True)
class Spend:
    """A response took so many tokens, of input and of output."""

    tokens: int


@dataclass(frozen=True, slots=True)
class HangUp:
    """End the call."""

    end: CallEnd


@dataclass(frozen=True, slots=True)
class Mark:
    """Something worth a line in the call's timeline happened."""

    name: str


Action = (
    Connect
    | Disconnect
    | UpdateSession
    | Send
    | Ready
    | Fail
    | Listen
    | Hold
    | Deafen
    | Retain
    | Play
    | FinishAnswer
    | FlushPlayout
    | PlayFiller
    | PlayApology
    | RunTool
    | SendDigits
    | Transfer
    | OrderOver
    | Spend
    | HangUp
    | Mark
)
