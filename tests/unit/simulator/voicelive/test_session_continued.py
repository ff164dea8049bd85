"""A conversation that goes on in another session: one script for both, and the history sent again."""

from simulator.voicelive.behaviour import Behaviour
from simulator.voicelive.scenario import Scenario, parse
from simulator.voicelive.script import Script
from tests.unit.simulator.voicelive.driving import G711, Drive, audio_of

STEPS = """
steps:
  - say: First.
  - call: {name: weather}
  - expect_output: rain
  - say: It rains.
"""


def sessions(scenario: Scenario) -> tuple[Drive, Drive]:
    behaviour, script = Behaviour(scenario=scenario, pace="instant", reveal=True), Script(scenario)
    first, second = (Drive(behaviour=behaviour, script=script) for _ in range(2))
    return first.start(**G711), second


def test_the_second_session_goes_on_where_the_first_one_stopped() -> None:
    first, second = sessions(parse("steps: [{say: One.}, {say: Two.}]"))
    first.send("response.create")
    second.start(**G711).send("response.create")
    assert second.last("response.audio_transcript.done")["transcript"] == "Two."


def test_an_output_may_come_in_the_second_session() -> None:
    first, second = sessions(parse(STEPS))
    for _ in range(2):
        first.send("response.create")
    call = first.last("response.done")["response"]["output"][0]
    second.start(**G711)
    create = "conversation.item.create"
    content = [{"type": "text", "text": "First."}]
    second.send(create, item={"id": "said_1", "type": "message", "role": "assistant", "content": content})
    function = {"type": "function_call", "name": "weather", "call_id": call["call_id"], "arguments": "{}"}
    second.send(create, item={"id": "call_item", **function}, previous_item_id="said_1")
    output = {"id": "result", "type": "function_call_output", "call_id": call["call_id"], "output": "rain"}
    second.send(create, item=output, previous_item_id="call_item")
    second.send("response.create")
    assert second.last("response.audio_transcript.done")["transcript"] == "It rains."
    shown = second.session.shown()
    assert shown["script"] == {"position": 4, "failures": []}
    assert [item["id"] for item in shown["items"][:3]] == ["said_1", "call_item", "result"]


def test_a_parrot_knows_what_was_said_in_the_first_session() -> None:
    first, second = sessions(parse("steps: []"))
    said = audio_of(first.say())
    second.start(**G711)
    assert audio_of(second.send("response.create")) == said != b""
