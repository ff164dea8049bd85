"""The real SDK talks to the simulator over a WebSocket: turns, greeting, barge-in, function call, errors."""

import asyncio
import base64
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import numpy as np
import pytest
from azure.ai.voicelive.aio import ConnectionClosed, VoiceLiveConnection, connect
from azure.ai.voicelive.models import (
    AssistantMessageItem,
    AudioInputTranscriptionOptions,
    AzureSemanticVad,
    AzureStandardVoice,
    FunctionCallItem,
    FunctionCallOutputItem,
    FunctionTool,
    MCPServer,
    OutputTextContentPart,
    RequestSession,
    ResponseCreateParams,
    ResponseMCPCallItem,
    ResponseMCPListToolItem,
    ServerVad,
)
from azure.core.credentials import AzureKeyCredential

from simulator.voicelive.audio import OUTPUT_FORMATS, AudioFormat, decode, encode, resample
from simulator.voicelive.behaviour import Behaviour
from simulator.voicelive.scenario import Mcp, Say, Scenario, parse, saying
from simulator.voicelive.server import Server, ServerSettings
from simulator.voicelive.speech import Speech

INSTANT = Behaviour(pace="instant")
ULAW = OUTPUT_FORMATS["g711_ulaw"]


def test_espeak_ng_is_here() -> None:
    assert shutil.which("espeak-ng"), "these tests need espeak-ng (Debian: apt-get install espeak-ng)"


@asynccontextmanager
async def call(
    session: RequestSession | None = None, behaviour: Behaviour = INSTANT, model: str = "gpt-4.1-mini"
) -> AsyncIterator[tuple[VoiceLiveConnection, Server]]:
    """A simulator and an SDK connection to it, with the session configured and confirmed."""
    async with Server(ServerSettings(behaviour=behaviour)) as server:
        async with connect(credential=AzureKeyCredential("key"), endpoint=server.url, model=model) as connection:
            assert (await connection.recv()).type == "session.created"
            await connection.session.update(session=session or RequestSession())
            assert (await connection.recv()).type == "session.updated"
            yield connection, server


async def stream(connection: VoiceLiveConnection, audio: bytes, fmt: AudioFormat, pause_s: float = 0.0) -> None:
    """Append audio in frames of 20 ms."""
    step = 20 * fmt.bytes_per_ms
    for at in range(0, len(audio), step):
        await connection.input_audio_buffer.append(audio=base64.b64encode(audio[at : at + step]).decode())
        if pause_s:
            await asyncio.sleep(pause_s)


async def until(connection: VoiceLiveConnection, last: str) -> list[Any]:
    """All events up to the first of type `last`."""
    events: list[Any] = []
    async with asyncio.timeout(20):
        while not events or events[-1].type != last:
            events.append(await connection.recv())
    return events


def audio_of(events: list[Any]) -> bytes:
    return b"".join(event.delta for event in events if event.type == "response.audio.delta")


def kinds(events: list[Any]) -> list[str]:
    return [str(event["type"]) for event in events]


async def spoken(fmt: AudioFormat, text: str = "The quick brown fox jumps over the lazy dog.") -> bytes:
    return await Speech().render(text, fmt)


def silence(ms: int, fmt: AudioFormat) -> bytes:
    return encode(np.zeros(ms * fmt.rate // 1000, dtype=np.int16), fmt)


@pytest.mark.parametrize("model", ["gpt-4.1-mini", "gpt-realtime"])
@pytest.mark.parametrize("name", ["g711_ulaw", "g711_alaw", "pcm16"])
async def test_a_parrot_says_back_the_speech_it_heard(name: str, model: str) -> None:
    fmt = OUTPUT_FORMATS[name]
    audio = silence(400, fmt) + await spoken(fmt) + silence(700, fmt)
    session = RequestSession(input_audio_format=name, output_audio_format=name, turn_detection=ServerVad())
    async with call(session, model=model) as (connection, _):
        await stream(connection, audio, fmt)
        events = await until(connection, "response.done")
    started = next(event for event in events if event.type == "input_audio_buffer.speech_started")
    stopped = next(event for event in events if event.type == "input_audio_buffer.speech_stopped")
    said = audio[started.audio_start_ms * fmt.bytes_per_ms : stopped.audio_end_ms * fmt.bytes_per_ms]
    assert audio_of(events) == said
    loud = np.flatnonzero(np.abs(decode(audio, fmt)) > 1000)
    assert started.audio_start_ms < loud[0] * 1000 / fmt.rate
    assert stopped.audio_end_ms > loud[-1] * 1000 / fmt.rate
    assert events[-1].response.status == "completed"


@pytest.mark.parametrize("rate", [8000, 16000])
async def test_a_parrot_resamples_what_it_heard(rate: int) -> None:
    fmt = AudioFormat("pcm16", rate)
    audio = silence(400, fmt) + await spoken(fmt) + silence(700, fmt)
    session = RequestSession(
        input_audio_format="pcm16",
        input_audio_sampling_rate=rate,
        output_audio_format="pcm16",
        turn_detection=AzureSemanticVad(),
    )
    async with call(session) as (connection, _):
        await stream(connection, audio, fmt)
        events = await until(connection, "response.done")
    started = next(event for event in events if event.type == "input_audio_buffer.speech_started").audio_start_ms
    said = decode(audio_of(events), OUTPUT_FORMATS["pcm16"])
    back = resample(said, 24000, rate).astype(float)
    heard = decode(audio, fmt)[started * rate // 1000 :][: len(back)].astype(float)
    assert np.corrcoef(heard, back)[0, 1] > 0.999


async def test_the_greeting_is_spoken_by_espeak() -> None:
    text = "Good morning, how can I help you?"
    message = AssistantMessageItem(content=[OutputTextContentPart(text=text)])
    async with call(RequestSession(output_audio_format="g711_ulaw")) as (connection, _):
        params = ResponseCreateParams(pre_generated_assistant_message=message)
        await connection.response.create(response=params)
        events = await until(connection, "response.done")
    assert audio_of(events) == await spoken(ULAW, text)
    assert next(e for e in events if e.type == "response.audio_transcript.done").transcript == text
    assert events[-1].response.output[0].content[0].transcript == text


async def test_texts_are_said_in_turn() -> None:
    behaviour = Behaviour(scenario=saying(("First answer.", "Second answer.")), pace="instant")
    async with call(RequestSession(output_audio_format="g711_ulaw"), behaviour) as (connection, _):
        said = []
        for _ in range(3):
            await connection.response.create()
            said.append(audio_of(await until(connection, "response.done")))
    first, second = await spoken(ULAW, "First answer."), await spoken(ULAW, "Second answer.")
    assert said == [first, second, first]


async def test_speaking_over_the_model_cancels_its_response() -> None:
    behaviour = Behaviour(scenario=saying(("This is a rather long answer. " * 5,)), realtime_factor=1.0)
    session = RequestSession(
        input_audio_format="g711_ulaw",
        output_audio_format="g711_ulaw",
        turn_detection=ServerVad(auto_truncate=True),
    )
    async with call(session, behaviour) as (connection, _):
        await connection.response.create()
        await until(connection, "response.audio.delta")
        await stream(connection, await spoken(ULAW), ULAW)
        events = await until(connection, "conversation.item.truncated")
    assert "input_audio_buffer.speech_started" in kinds(events)
    done = next(event for event in events if event.type == "response.done")
    assert done.response.status == "cancelled"
    assert done.response.status_details.reason == "client_cancelled"
    assert events[-1].audio_end_ms > 0


async def test_a_function_call_is_answered_and_the_conversation_goes_on() -> None:
    scenario = parse("""
        steps:
          - call: {name: get_weather, arguments: {city: London}}
          - expect_output: rain
          - say: It rains.
    """)
    tool = FunctionTool(name="get_weather", parameters={"type": "object"})
    async with call(RequestSession(tools=[tool]), Behaviour(scenario=scenario, pace="instant")) as (connection, server):
        await connection.response.create()
        done = (await until(connection, "response.function_call_arguments.done"))[-1]
        await until(connection, "response.done")
        assert (done.name, done.arguments) == ("get_weather", '{"city": "London"}')
        await connection.conversation.item.create(item=FunctionCallOutputItem(call_id=done.call_id, output="rain"))
        created = (await until(connection, "conversation.item.created"))[-1]
        assert created.item.call_id == done.call_id
        await connection.response.create()
        events = await until(connection, "response.done")
        (session,) = (await sessions(server))["sessions"]
    assert next(e for e in events if e.type == "response.audio_transcript.done").transcript == "It rains."
    assert session["script"]["failures"] == []


async def test_a_lost_call_goes_on_in_a_second_session() -> None:
    scenario = parse("""
        steps:
          - fault: {kind: abort, on: response.done, nth: 2}
          - answer: {say: One moment., calls: [{name: weather}]}
          - say: This one is cut off.
          - expect_output: rain
          - say: It rains.
    """)
    behaviour = Behaviour(scenario=scenario, pace="instant", script_scope="process", reveal=True)
    async with call(behaviour=behaviour) as (connection, server):
        await connection.response.create()
        done = (await until(connection, "response.function_call_arguments.done"))[-1]
        await until(connection, "response.done")
        await connection.response.create()
        with pytest.raises(ConnectionClosed):
            await until(connection, "no more")
        async with connect(credential=AzureKeyCredential("k"), endpoint=server.url, model="gpt-4.1-mini") as second:
            asked = FunctionCallItem(id="asked", name="weather", call_id=done.call_id, arguments="{}")
            await second.conversation.item.create(item=asked)
            output = FunctionCallOutputItem(call_id=done.call_id, output="rain")
            await second.conversation.item.create(item=output, previous_item_id="asked")
            await second.response.create()
            await until(second, "response.done")
            lost, found = (await sessions(server))["sessions"]
    assert lost["said"] == ["One moment.", "This one is cut off."]
    assert (found["said"], found["script"]["failures"]) == (["It rains."], [])
    assert [item["type"] for item in found["items"]] == ["function_call", "function_call_output", "message"]


async def test_the_service_calls_an_mcp_server_itself() -> None:
    mcp = Mcp("crm", "find", {"who": "me"}, output="found")
    scenario = Scenario(steps=(mcp, Say("Found you.")))
    server = MCPServer(server_label="crm", server_url="https://crm.example/mcp", require_approval="never")
    async with call(RequestSession(tools=[server]), Behaviour(scenario=scenario, pace="instant")) as (connection, _):
        listed: Any = (await until(connection, "mcp_list_tools.completed"))[0]
        await connection.response.create()
        events = await until(connection, "response.done")
    assert (type(listed.item), listed.item.server_label) == (ResponseMCPListToolItem, "crm")
    called, message = events[-1].response.output
    assert (type(called), called.output) == (ResponseMCPCallItem, "found")
    assert message.content[0].transcript == "Found you."


async def test_manual_turns_are_committed_by_the_client() -> None:
    audio = await spoken(ULAW)
    manual = RequestSession(input_audio_format="g711_ulaw", output_audio_format="g711_ulaw", turn_detection=None)
    async with call(manual) as (connection, _):
        await stream(connection, audio, ULAW)
        await connection.input_audio_buffer.commit()
        await connection.response.create()
        events = await until(connection, "response.done")
    assert audio_of(events) == audio
    assert "input_audio_buffer.speech_started" not in kinds(events)


async def test_errors_reach_the_sdk_and_leave_the_connection_up() -> None:
    async with call() as (connection, _):
        await connection.session.update(session={"input_audio_format": "mp3"}, event_id="mine")
        await connection.response.cancel()
        await connection.input_audio_buffer.commit()
        await connection.send({"type": "no.such.event"})
        answers: list[Any] = [await connection.recv() for _ in range(4)]
    bad_format, not_active, empty, unknown = (answer.error for answer in answers)
    assert (bad_format.param, bad_format.event_id) == ("session.input_audio_format", "mine")
    assert not_active.code == "response_cancel_not_active"
    assert empty.code == "input_audio_buffer_commit_empty"
    assert unknown.param == "type"


async def test_a_frame_that_is_not_json_gets_an_error() -> None:
    async with call() as (connection, _):
        await connection._connection.send_str("{")
        await connection._connection.send_bytes(b"\xff\x00")
        assert [(await connection.recv()).type for _ in range(2)] == ["error", "error"]


async def test_a_full_session_is_echoed_to_the_sdk() -> None:
    async with Server(ServerSettings(behaviour=INSTANT)) as server:
        async with connect(credential=AzureKeyCredential("k"), endpoint=server.url, model="gpt-realtime") as connection:
            created: Any = await connection.recv()
            wanted = RequestSession(
                modalities=["text", "audio"],
                instructions="Be brief.",
                voice=AzureStandardVoice(name="en-US-AvaNeural"),
                input_audio_format="g711_alaw",
                output_audio_format="g711_alaw",
                input_audio_transcription=AudioInputTranscriptionOptions(model="azure-speech"),
                turn_detection=ServerVad(threshold=0.4, silence_duration_ms=600),
                max_response_output_tokens=500,
            )
            await connection.session.update(session=wanted)
            updated: Any = await connection.recv()
    assert created.session.id == updated.session.id
    assert created.session.model == "gpt-realtime-global-standard"
    for name, value in wanted.as_dict().items():
        shown = updated.session.as_dict()[name]
        assert shown == value or value.items() <= shown.items()


@pytest.mark.parametrize("prefix", ["", "/a", "/a/b.c"])
async def test_the_endpoint_may_have_any_prefix(prefix: str) -> None:
    async with Server(ServerSettings()) as server:
        endpoint = server.url.replace("ws://", "http://") + prefix
        async with connect(credential=AzureKeyCredential("k"), endpoint=endpoint, model="gpt-4.1-mini") as connection:
            assert (await connection.recv()).type == "session.created"


async def test_many_calls_at_once_do_not_share_anything() -> None:
    async def one(server: Server, number: int) -> None:
        text = f"This is caller number {number}."
        audio = silence(300, ULAW) + await spoken(ULAW, text) + silence(700, ULAW)
        async with connect(credential=AzureKeyCredential("k"), endpoint=server.url, model="gpt-4.1-mini") as connection:
            session = {"input_audio_format": "g711_ulaw", "output_audio_format": "g711_ulaw"}
            await connection.session.update(session={**session, "turn_detection": {"type": "server_vad"}})
            await stream(connection, audio, ULAW)
            assert audio_of(await until(connection, "response.done")) in audio

    async with Server(ServerSettings(behaviour=INSTANT)) as server:
        await asyncio.gather(*(one(server, number) for number in range(8)))
        shown = (await sessions(server))["sessions"]
    assert len({session["id"] for session in shown}) == 8
    assert all(session["sent"]["response.done"] == 1 for session in shown)


async def sessions(server: Server) -> dict[str, Any]:
    async with aiohttp.ClientSession() as client:
        async with client.get(f"http://127.0.0.1:{server.port}/simulator/sessions") as response:
            shown: dict[str, Any] = await response.json()
            return shown
