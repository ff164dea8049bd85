"""Reading scenarios and walking through them."""

from pathlib import Path

import pytest

from simulator.voicelive.faults import SessionFault
from simulator.voicelive.recordings import read
from simulator.voicelive.scenario import (
    BadScenario,
    Call,
    Close,
    ExpectOutput,
    Fault,
    Hang,
    Parrot,
    Play,
    Say,
    Scenario,
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
          - expect_output: rain
          - expect_output:
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
            ExpectOutput("rain"),
            ExpectOutput(),
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


def test_an_expected_output_goes_on_without_complaint() -> None:
    script = Script(Scenario(steps=(Call("f"), ExpectOutput("rain"), Say("a"))))
    script.called("call_1")
    script.output("call_1", "light rain")
    assert (script.step, script.failures) == (Say("a"), [])


@pytest.mark.parametrize(
    ("call_id", "output", "failure"),
    [
        ("call_2", "light rain", "step 2: the output is for another call"),
        ("call_1", "sunshine", "step 2: the output lacks the expected text"),
    ],
)
def test_an_unexpected_output_is_noted_and_the_script_goes_on(call_id: str, output: str, failure: str) -> None:
    script = Script(Scenario(steps=(Call("f"), ExpectOutput("rain"), Say("a"))))
    script.called("call_1")
    script.output(call_id, output)
    assert (script.step, script.failures) == (Say("a"), [failure])


def test_an_output_nobody_waits_for_changes_nothing() -> None:
    script = Script(Scenario(steps=(Say("a"),)))
    script.output("call_1", "x")
    assert (script.step, script.failures) == (Say("a"), [])
