"""Reading scenarios and walking through them."""

from pathlib import Path

import pytest

from simulator.voicelive.faults import SessionFault
from simulator.voicelive.recordings import read
from simulator.voicelive.scenario import (
    BadScenario,
    Call,
    Close,
    Compound,
    ExpectMessage,
    ExpectOutput,
    ExpectRequest,
    Fault,
    Function,
    Hang,
    Mcp,
    Parrot,
    Play,
    Say,
    Scenario,
    Stall,
    Step,
    Wait,
    load,
    parse,
    playing,
    saying,
)
from simulator.voicelive.script import Script
from tests.unit.simulator.voicelive.driving import tone, write_wav

EXAMPLES = sorted((Path(__file__).parents[4] / "simulator" / "scenarios").glob("*.yaml"))


def test_every_step_is_read() -> None:
    read = parse("""
        name: everything
        at_end: repeat
        steps:
          - say: Hello.
          - say: {text: Hello again., heard: Hi.}
          - parrot:
          - parrot: {heard: Again.}
          - call: {name: f, arguments: {a: 1}}
          - call: {name: f, arguments: '{ "a" : 1 }'}
          - answer: {say: One moment., calls: [{name: f}, {name: g, arguments: {a: 1}}], heard: Hi.}
          - answer: {mcp: {server: s, name: t}, say: Done.}
          - stall: 2.5
          - stall:
          - mcp: {server: crm, name: find, arguments: {who: me}, output: "[]", seconds: 1}
          - expect_output: rain
          - expect_output:
          - expect_output: {name: g, contains: sun}
          - expect_message: typed
          - expect_request: say goodbye
          - wait: 1.5
          - fault: {kind: abort, on: response.audio.delta, nth: 3}
          - hang:
          - close: {code: 1001, reason: bye}
    """)
    assert read == Scenario(
        name="everything",
        at_end="repeat",
        steps=(
            Say("Hello."),
            Say("Hello again.", heard="Hi."),
            Parrot(),
            Parrot(heard="Again."),
            Call("f", {"a": 1}),
            Call("f", '{ "a" : 1 }'),
            Compound(say="One moment.", calls=(Function("f"), Function("g", {"a": 1})), heard="Hi."),
            Compound(mcp=Mcp("s", "t"), say="Done."),
            Stall(2.5),
            Stall(),
            Mcp("crm", "find", {"who": "me"}, output="[]", seconds=1),
            ExpectOutput("rain"),
            ExpectOutput(),
            ExpectOutput("sun", name="g"),
            ExpectMessage("typed"),
            ExpectRequest("say goodbye"),
            Wait(1.5),
            Fault(SessionFault("abort", on="response.audio.delta", nth=3)),
            Hang(),
            Close(1001, "bye"),
        ),
    )


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_can_be_read(path: Path) -> None:
    assert load(path).steps


def test_yaml_words_for_yes_and_no_are_words() -> None:
    read = parse("steps: [{say: No}, {call: {name: f, arguments: {sure: true}}}]")
    assert read.steps == (Say("No"), Call("f", {"sure": True}))


def test_there_are_examples() -> None:
    assert EXAMPLES


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("steps: [{sing: la}]", "step 1: unknown step 'sing'"),
        ("steps: [{say: a, wait: 1}]", "step 1: expected one key"),
        ("steps: [{say: a}, {wait: -1}]", r"step 2 \(wait\)"),
        ("steps: [{say: ''}]", r"step 1 \(say\)"),
        ("steps: [{say: {text: a, loud: true}}]", "unknown field `loud`"),
        ("steps: [{call: {arguments: {}}}]", "missing required field `name`"),
        ("steps: [{answer: {heard: a}}]", "nothing to answer with: mcp, say or calls"),
        ("steps: [{answer: {calls: [{name: f, heard: a}]}}]", "unknown field `heard`"),
        ("steps: [{stall: -1}]", r"step 1 \(stall\)"),
        ("steps: [{stall: 1}]\nat_end: repeat", "needs a step that answers"),
        ("steps: [{mcp: {server: s}}]", "missing required field `name`"),
        ("steps: [{fault: {kind: flood}}]", "Invalid enum value 'flood'"),
        ("steps: [{play: gone.wav}]", r"step 1 \(play\): gone.wav: No such file"),
        ("steps: [{play:}]", "missing required field `file`"),
        ("steps: [{fault:}]", "missing required field `kind`"),
        ("steps: [{wait: 1}]\nat_end: repeat", "needs a step that answers"),
        ("steps: [{say: a}]\nat_end: stop", "at_end"),
        ("steps: [{say: a}]\nspeed: 3", "unknown field `speed`"),
        ("steps: {say: a}", "Expected `array`"),
        ("[", "flow node"),
        ("", "Expected `object`"),
    ],
)
def test_a_bad_scenario_is_refused_with_the_reason(text: str, complaint: str) -> None:
    with pytest.raises(BadScenario, match=complaint):
        parse(text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadScenario, match=r"gone\.yaml"):
        load(tmp_path / "gone.yaml")


def test_recordings_lie_beside_the_scenario(tmp_path: Path) -> None:
    wav = write_wav(tmp_path / "hello.wav", tone(100))
    (tmp_path / "scenario.yaml").write_text("steps: [{play: hello.wav}, {play: {file: hello.wav, heard: Hi.}}]")
    assert load(tmp_path / "scenario.yaml").steps == (Play(read(wav)), Play(read(wav), heard="Hi."))


def test_recordings_are_played_in_turn(tmp_path: Path) -> None:
    files = tuple(write_wav(tmp_path / name, tone(100)) for name in ("a.wav", "b.wav"))
    scenario = playing(files)
    assert scenario.steps == tuple(Play(read(file)) for file in files)
    assert scenario.at_end == "repeat"


def test_a_recording_that_cannot_be_played_is_a_bad_scenario(tmp_path: Path) -> None:
    with pytest.raises(BadScenario, match=r"gone\.wav: No such file"):
        playing((tmp_path / "gone.wav",))


def test_a_repeating_script_starts_again() -> None:
    script = Script(saying(("a", "b")))
    said = []
    for _ in range(5):
        said.append(script.step)
        script.done()
    assert said == [Say("a"), Say("b"), Say("a"), Say("b"), Say("a")]


def test_a_finished_script_parrots() -> None:
    script = Script(Scenario(steps=(Say("a"),)))
    script.done()
    script.done()
    assert (script.step, script.position) == (Parrot(), 1)


def test_the_caller_is_heard_as_the_next_answer_says() -> None:
    script = Script(Scenario(steps=(Wait(1), Say("a", heard="first"), Say("b"), Parrot(heard="third"))))
    heard = []
    for _ in range(5):
        heard.append(script.heard)
        script.done()
    assert heard == ["first", "first", None, "third", None]


def called(*steps: Step, calls: dict[str, str] | None = None) -> Script:
    """A script whose answer with function calls has been given: `calls` (call_1 of f), then these steps."""
    script = Script(Scenario(steps=(Call("f"), *steps)))
    script.answered(calls or {"call_1": "f"})
    return script


def test_an_expected_output_goes_on_without_complaint() -> None:
    script = called(ExpectOutput("rain"), Say("a"))
    assert not script.settle()
    script.output("call_1", "light rain")
    assert script.settle()
    assert (script.step, script.failures) == (Say("a"), [])


@pytest.mark.parametrize(
    ("call_id", "output", "failure"),
    [
        ("call_2", "light rain", "step 2: the output is for another call"),
        ("call_1", "sunshine", "step 2: the output lacks the expected text"),
    ],
)
def test_an_unexpected_output_is_noted_and_the_script_goes_on(call_id: str, output: str, failure: str) -> None:
    script = called(ExpectOutput("rain"), Say("a"))
    script.output(call_id, output)
    script.settle()
    assert (script.step, script.failures) == (Say("a"), [failure])


def test_an_output_nobody_waits_for_changes_nothing() -> None:
    script = Script(Scenario(steps=(Say("a"),)))
    script.output("call_1", "x")
    assert (script.step, script.failures) == (Say("a"), [])


def settle_all(script: Script) -> None:
    while script.settle():
        pass


@pytest.mark.parametrize("order", [["call_1", "call_2"], ["call_2", "call_1"]])
def test_the_outputs_of_parallel_calls_may_come_in_any_order(order: list[str]) -> None:
    outputs = {"call_1": "rain", "call_2": "half past nine"}
    script = called(ExpectOutput("rain"), ExpectOutput("nine"), Say("a"), calls={"call_1": "f", "call_2": "g"})
    for call_id in order:
        script.output(call_id, outputs[call_id])
        settle_all(script)
    assert (script.step, script.failures) == (Say("a"), [])


def test_an_expectation_may_name_the_function() -> None:
    calls = {"call_1": "f", "call_2": "g"}
    script = called(ExpectOutput(name="g"), ExpectOutput("rain", name="f"), Say("a"), calls=calls)
    script.output("call_1", "sunshine")
    assert not script.settle()
    script.output("call_2", "")
    settle_all(script)
    assert (script.step, script.failures) == (Say("a"), ["step 3: the output lacks the expected text"])


def test_something_may_be_said_before_the_output_is_expected() -> None:
    script = called(Say("One moment."), ExpectOutput("rain"), Say("a"))
    script.output("call_1", "rain")
    script.answered({})
    settle_all(script)
    assert (script.step, script.failures) == (Say("a"), [])


def test_an_output_that_is_sent_again_in_another_session_counts_once() -> None:
    script = called(ExpectOutput("rain"), Call("g"), ExpectOutput("nine"), Say("a"))
    script.output("call_1", "rain")
    settle_all(script)
    script.answered({"call_2": "g"})
    script.output("call_1", "rain")
    assert (script.settle(), script.failures) == (False, [])
    script.output("call_2", "nine")
    settle_all(script)
    assert script.step == Say("a")


@pytest.mark.parametrize("kind", [ExpectMessage, ExpectRequest])
def test_words_are_waited_for_and_may_come_early_but_not_before_the_answer(
    kind: type[ExpectMessage] | type[ExpectRequest],
) -> None:
    script = Script(Scenario(steps=(Say("a"), Wait(1), kind("typed 1"), Say("b"))))
    note = script.message if kind is ExpectMessage else script.request
    note("typed 12")
    script.answered({})
    note("typed 2")
    script.done()
    assert not script.settle()
    note("they typed 1, then 2")
    assert script.settle()
    assert (script.step, script.failures) == (Say("b"), [])
