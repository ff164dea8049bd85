"""Reads scenarios: what the simulated model does, step by step. Does not carry them out (see `script`).

A scenario is a YAML mapping of `steps` and, optionally, `name` and `at_end`. Each step is a mapping of one key:

    say: TEXT                       answer the next request for a response with TEXT, spoken
    play: FILE                      answer it with a recording (WAV); the path is relative to the scenario's file
    parrot:                         answer it with the caller's last utterance
    call: {name, arguments}         answer it with a function call; arguments are a mapping, or a string sent as it is
    answer: {mcp, say, calls}       answer it with several outputs: MCP call, message, function calls, in this order
    stall: SECONDS                  begin the answer, but say nothing for so long (for ever without a number)
    mcp: {server, name, …}          begin the answer with a call the service makes itself; the next step goes on with it
    expect_output: {contains, name} go on when the client has sent the output of one of the answer's calls
    expect_message: TEXT            go on when the client has created a user message that contains TEXT
    expect_request: TEXT            go on when the client has asked for a response in words that contain TEXT
    wait: SECONDS                   let time pass
    fault: {kind, …}                a session fault, see `faults`
    hang:                           answer nothing more; the connection stays open
    close: {code, reason}           close the WebSocket

`say`, `play`, `parrot`, `call` and `answer` may carry `heard: TEXT`, the transcript of the caller's turn they answer;
then they are mappings (`say: {text, heard}`, `play: {file, heard}`). After the last step `at_end` says how to go on:
`parrot` (default) or `repeat`.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import yaml

from simulator.voicelive.faults import BadFault, SessionFault, parse_session_fault
from simulator.voicelive.recordings import BadRecording, Recording, read


class BadScenario(ValueError):
    """A scenario that cannot be read; the message names the step."""


Text = Annotated[str, msgspec.Meta(min_length=1)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]


class Say(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    text: Text
    heard: str | None = None


class Play(msgspec.Struct, frozen=True):
    recording: Recording
    heard: str | None = None


class Parrot(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    heard: str | None = None


class Function(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Text
    arguments: dict[str, Any] | str = msgspec.field(default_factory=dict)


class Call(Function, frozen=True, forbid_unknown_fields=True):
    heard: str | None = None


class Mcp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    server: Text
    name: Text
    arguments: dict[str, Any] | str = msgspec.field(default_factory=dict)
    output: str = ""
    seconds: Seconds = 0.0


class Compound(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`answer`: one response of several outputs."""

    mcp: Mcp | None = None
    say: Text | None = None
    calls: tuple[Function, ...] = ()
    heard: str | None = None

    def __post_init__(self) -> None:
        if self.mcp is None and self.say is None and not self.calls:
            raise ValueError("nothing to answer with: mcp, say or calls")


class Stall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    seconds: Seconds | None = None


class ExpectOutput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    contains: str = ""
    name: str | None = None


class ExpectMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    contains: str = ""


class ExpectRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    contains: str = ""


class Wait(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    seconds: Seconds


class Fault(msgspec.Struct, frozen=True):
    fault: SessionFault


class Hang(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class _PlayFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    file: Text
    heard: str | None = None


class Close(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    code: Annotated[int, msgspec.Meta(ge=1000, le=4999)] = 1000
    reason: Annotated[str, msgspec.Meta(max_length=120)] = ""


# What answers a request for a response, what only begins the answer, and what waits for the client.
Answer = Say | Play | Parrot | Call | Compound
Opener = Mcp | Stall
Expectation = ExpectOutput | ExpectMessage | ExpectRequest
Step = Answer | Opener | Expectation | Wait | Fault | Hang | Close

# The kinds of step, and the field a step written as a plain value fills.
_STEPS: dict[str, tuple[type[Any], str | None]] = {
    "say": (Say, "text"),
    "play": (_PlayFile, "file"),
    "parrot": (Parrot, None),
    "call": (Call, None),
    "answer": (Compound, None),
    "stall": (Stall, "seconds"),
    "mcp": (Mcp, None),
    "expect_output": (ExpectOutput, "contains"),
    "expect_message": (ExpectMessage, "contains"),
    "expect_request": (ExpectRequest, "contains"),
    "wait": (Wait, "seconds"),
    "hang": (Hang, None),
    "close": (Close, None),
}


class Scenario(msgspec.Struct, frozen=True):
    """What the model does in every session: `steps` in order, then `at_end`."""

    steps: tuple[Step, ...] = ()
    at_end: Literal["parrot", "repeat"] = "parrot"
    name: str = ""


class _Loader(yaml.SafeLoader):
    """YAML in which only true and false are booleans: `on:` is a key of a fault, and `say: No` says "No"."""


_BOOLEAN = "tag:yaml.org,2002:bool"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOLEAN]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOLEAN, re.compile("^(?:true|false)$"), list("tf"))


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    steps: list[dict[str, Any]]
    at_end: Literal["parrot", "repeat"] = "parrot"
    name: str = ""


PARROT = Scenario(name="parrot")


def saying(texts: tuple[str, ...]) -> Scenario:
    """The scenario that says `texts` in turn, over and over."""
    return Scenario(steps=tuple(Say(text) for text in texts), at_end="repeat", name="say")


def playing(files: tuple[Path, ...]) -> Scenario:
    """The scenario that plays WAV files in turn, over and over; raises BadScenario for one that cannot be played."""
    try:
        steps = tuple(Play(read(file)) for file in files)
    except BadRecording as error:
        raise BadScenario(str(error)) from error
    return Scenario(steps=steps, at_end="repeat", name="play")


def load(path: Path) -> Scenario:
    """The scenario in a file; raises BadScenario, also when the file cannot be read."""
    try:
        return parse(path.read_text(encoding="utf-8"), path.parent)
    except (OSError, UnicodeDecodeError, BadScenario) as error:
        raise BadScenario(f"{path}: {error}") from error


def parse(text: str, directory: Path = Path()) -> Scenario:
    """The scenario in a YAML text, which names files relative to `directory`; raises BadScenario."""
    try:
        document = msgspec.convert(yaml.load(text, _Loader), _Document)
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise BadScenario(str(error)) from error
    steps = tuple(_step(number, step, directory) for number, step in enumerate(document.steps, start=1))
    if document.at_end == "repeat" and not any(isinstance(step, Answer) for step in steps):
        raise BadScenario("a scenario that repeats needs a step that answers: say, play, parrot, call or answer")
    return Scenario(steps=steps, at_end=document.at_end, name=document.name)


def _step(number: int, step: dict[str, Any], directory: Path) -> Step:
    if len(step) != 1:
        raise BadScenario(f"step {number}: expected one key, found {len(step)}")
    ((kind, value),) = step.items()
    if kind != "fault" and kind not in _STEPS:
        raise BadScenario(f"step {number}: unknown step '{kind}'; there are {', '.join(_STEPS)}, fault")
    try:
        return _parsed(kind, value, directory)
    except (BadFault, BadRecording, msgspec.ValidationError) as error:
        raise BadScenario(f"step {number} ({kind}): {error}") from error


def _parsed(kind: str, value: object, directory: Path) -> Step:
    if kind == "fault":
        return Fault(parse_session_fault(value if isinstance(value, dict) else {}))
    step_type, plain_field = _STEPS[kind]
    if value is None:
        value = {}
    elif plain_field is not None and not isinstance(value, dict):
        value = {plain_field: value}
    step: Step | _PlayFile = msgspec.convert(value, step_type)
    return Play(read(directory / step.file), step.heard) if isinstance(step, _PlayFile) else step
