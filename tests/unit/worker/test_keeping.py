"""What is kept of a call, and what is not."""

from datetime import UTC, datetime
from typing import Any

import msgpack
import pytest

from shared.agents.facts import CallFacts
from shared.agents.model import (
    Agent,
    CollectDigitsTool,
    FoundryAgent,
    HangUpTool,
    HttpTool,
    Keep,
    Price,
    SendDtmfTool,
)
from shared.ids import CallId, LeaseId, WorkerId
from shared.messages import CallRecord, KeptDigits, KeptTurn, KeptUtterance, Tokens
from worker.keeping import ENTRIES_MAX, KEPT_BYTES_MAX, TOOL_TEXT_MAX, TRANSCRIPT_MAX, kept
from worker.voicelive.memory import Memory, Role, ToolCall, Turn, Typed, Usage, Utterance

T = 1_700_000_000.0
FACTS = CallFacts(
    caller="+4930123456",
    called="+4989654321",
    headers={"x-secret": "hunter2"},
    trunk="192.0.2.1",
    at=datetime.fromtimestamp(T - 5, UTC),
)
PRICE = Price(input_text=1.0, input_audio=10.0, cached_text=0.1, cached_audio=0.5, output_text=4.0, output_audio=20.0)
BOOKING = HttpTool(type="http_request", name="book", description="Books.", url="https://a.example/", mask=("card",))


def agent(**fields: Any) -> Agent:
    return Agent(**{"name": "reception", "model": "gpt-realtime", "tools": (BOOKING,), **fields})


def a_call() -> Memory:
    """A caller asks, types a number and a PIN, the model books, and is cut off while it says so."""
    return Memory(
        entries=[
            Utterance(Role.AGENT, "i1", T + 0.1, "Hello, how can I help?", True, audio_ms=1500.4),
            Utterance(Role.CALLER, "i2", T + 2.0, "A table for two.", True),
            Typed("4711", T + 4.0),
            Typed("8642", T + 5.0, sensitive=True),
            ToolCall("c1", "book", '{"people": 2, "card": "4111"}', T + 5.5, '{"ok": true}', T + 6.25),
            Utterance(Role.AGENT, "i3", T + 7.0, "Your table", True, audio_ms=3000.0, heard_ms=812.6),
        ],
        turns=[
            Turn(T + 3.6, speech_end=T + 3.1, first_audio=T + 4.0, first_packet=T + 4.1),
            Turn(T + 9.0, barged_in=True),
        ],
        usage=[
            Usage("r1", T + 4.5, "gpt-realtime", 1000, 2000, 400, 500, 100, 300),
            Usage("r2", T + 8.0, "gpt-realtime", 10, 20, 0, 0, 1, 3),
        ],
    )


def fields(
    memory: Memory | None = None, answering: Agent | None = None, answered_at: float | None = T, **more: Any
) -> dict[str, Any]:
    return kept(memory or a_call(), answering or agent(), more.pop("prices", {}), answered_at, FACTS, **more)


def record(values: dict[str, Any]) -> CallRecord:
    return CallRecord(
        call_id=CallId("call"),
        lease_id=LeaseId("lease"),
        worker_id=WorkerId("one"),
        result="completed",
        reason="caller_hangup",
        invite_at_ms=0,
        ended_at_ms=1,
        **values,
    )


def everything_in(values: dict[str, Any]) -> str:
    return repr(record(values))


def test_what_is_kept_is_read_back_as_it_was() -> None:
    written = record(fields(prices={"*": PRICE}, currency="EUR"))
    assert CallRecord.unpack(written.pack()) == written


def test_the_dialogue_has_times_from_the_answer_and_says_what_was_heard() -> None:
    assert fields()["transcript"] == [
        KeptUtterance(role="agent", at_ms=100, text="Hello, how can I help?", audio_ms=1500),
        KeptUtterance(role="caller", at_ms=2000, text="A table for two."),
        KeptUtterance(role="agent", at_ms=7000, text="Your table", audio_ms=3000, heard_ms=813),
    ]


def test_a_call_that_was_never_answered_counts_from_its_invite() -> None:
    assert fields(answered_at=None)["transcript"][0].at_ms == 5100


def test_latency_is_from_the_real_end_of_speech_and_unknown_without_it() -> None:
    assert fields()["turns"] == [
        KeptTurn(at_ms=3100, latency_ms=1000, service_ms=400),
        KeptTurn(at_ms=9000, barged_in=True),
    ]
    guessed = Memory(turns=[Turn(T + 1, first_audio=T + 2, first_packet=T + 2)])
    assert fields(guessed)["turns"] == [KeptTurn(at_ms=1000, service_ms=1000)]


def test_a_tool_call_has_its_arguments_masked_as_the_tool_says() -> None:
    [call] = fields()["tools"]
    assert (call.name, call.at_ms, call.took_ms, call.failed) == ("book", 5500, 750, False)
    assert call.output == '{"ok": true}'
    assert "4111" not in call.arguments
    assert '"people": 2' in call.arguments


def test_a_tool_that_was_still_running_has_no_duration_and_no_output() -> None:
    [call] = fields(Memory(entries=[ToolCall("c", "book", "{}", T)]))["tools"]
    assert (call.took_ms, call.output) == (None, "")


def test_a_sensitive_digit_is_a_star() -> None:
    assert fields()["dtmf"] == [KeptDigits(at_ms=4000, digits="4711"), KeptDigits(at_ms=5000, digits="****")]
    assert "8642" not in everything_in(fields())


def test_headers_of_the_invite_are_not_kept() -> None:
    assert "hunter2" not in everything_in(fields())


def test_without_a_transcript_no_text_is_kept() -> None:
    memory = a_call()
    memory.entries.append(ToolCall("c2", "hang_up", '{"farewell": "So long, Mister Smith."}', T + 9))
    answering = agent(keep=Keep(transcript=False), tools=(BOOKING, HangUpTool()))
    text = everything_in(fields(memory, answering))
    for said in ("how can I help", "table for two", "Your table", "Smith"):
        assert said not in text
    assert fields(memory, answering)["transcript"] == []
    assert len(fields(memory, answering)["turns"]) == 2


def test_without_tools_their_names_and_times_are_kept_only() -> None:
    values = fields(answering=agent(keep=Keep(tools=False)))
    [call] = values["tools"]
    assert (call.name, call.took_ms, call.arguments, call.output) == ("book", 750, "", "")


def test_without_dtmf_no_digit_is_kept_anywhere() -> None:
    memory = a_call()
    memory.entries += [
        ToolCall("c2", "collect_digits", '{"max_digits": 4}', T + 9, '{"digits": "9876"}', T + 12),
        ToolCall("c3", "send_dtmf", '{"digits": "7788"}', T + 13, "{}", T + 14),
    ]
    tools = (BOOKING, CollectDigitsTool(), SendDtmfTool())
    values = fields(memory, agent(keep=Keep(dtmf=False), tools=tools))
    assert values["dtmf"] == []
    assert not any(digits in everything_in(values) for digits in ("4711", "9876", "7788"))
    assert [call.name for call in values["tools"]] == ["book", "collect_digits", "send_dtmf"]
    assert "9876" in everything_in(fields(memory, agent(tools=tools)))


def test_numbers_are_kept_only_where_they_may_be() -> None:
    assert (fields()["caller"], fields()["called"]) == ("+4930123456", "+4989654321")
    values = fields(answering=agent(keep=Keep(numbers=False)))
    assert (values["caller"], values["called"]) == ("", "")


def test_agent_and_model_are_named() -> None:
    assert (fields()["agent"], fields()["model"]) == ("reception", "gpt-realtime")
    foundry = Agent(name="a", foundry_agent=FoundryAgent(name="helper", project="p"))
    assert fields(answering=foundry)["model"] == "helper"


def test_usage_is_kept_for_each_response_and_in_all() -> None:
    values = fields()
    assert [each.response_id for each in values["usage"]] == ["r1", "r2"]
    assert values["usage"][0].at_ms == 4500
    assert values["usage_total"] == Tokens(
        input_text=1010, input_audio=2020, cached_text=400, cached_audio=500, output_text=101, output_audio=303
    )


def test_cached_tokens_cost_what_cached_tokens_cost() -> None:
    memory = Memory(usage=[Usage("r", T, "gpt-realtime", 1000, 2000, 400, 500, 100, 300)])
    cost = (600 * 1.0 + 400 * 0.1 + 1500 * 10.0 + 500 * 0.5 + 100 * 4.0 + 300 * 20.0) / 1_000_000
    values = fields(memory, prices={"gpt-realtime": PRICE}, currency="EUR")
    assert values["cost"] == pytest.approx(cost, abs=1e-6)
    assert values["currency"] == "EUR"


def test_the_price_of_the_model_goes_before_that_of_any_model() -> None:
    free = Price(input_text=0, input_audio=0, cached_text=0, cached_audio=0, output_text=0, output_audio=0)
    assert fields(prices={"*": PRICE, "gpt-realtime": free})["cost"] == 0
    assert fields(prices={"*": PRICE})["cost"] > 0


@pytest.mark.parametrize("prices", [{}, {"gpt-4.1": PRICE}])
def test_without_a_price_the_cost_is_unknown(prices: dict[str, Price]) -> None:
    values = fields(prices=prices, currency="EUR")
    assert (values["cost"], values["currency"]) == (None, "")


def test_text_that_cannot_be_written_does_not_lose_the_record() -> None:
    memory = Memory(entries=[Utterance(Role.CALLER, "i", T, "a\ud83d"), ToolCall("c", "x\ud83d", "\ud83d", T)])
    written = record(fields(memory))
    assert CallRecord.unpack(written.pack()).transcript[0].text == "a?"


def test_a_long_tool_output_is_cut_and_says_so() -> None:
    [call] = fields(Memory(entries=[ToolCall("c", "book", "{}", T, "x" * 10_000, T)]))["tools"]
    assert call.output == "x" * TOOL_TEXT_MAX + "… (10000 characters)"


def test_of_too_many_entries_the_newest_are_kept_and_the_record_says_so() -> None:
    memory = Memory(
        entries=[Utterance(Role.CALLER, "i", T + n, "a") for n in range(TRANSCRIPT_MAX + 5)],
        usage=[Usage("r", T, "m", 1)] * (ENTRIES_MAX + 5),
    )
    values = fields(memory)
    assert (len(values["transcript"]), values["transcript"][-1].at_ms) == (TRANSCRIPT_MAX, (TRANSCRIPT_MAX + 4) * 1000)
    assert len(values["usage"]) == ENTRIES_MAX
    assert values["usage_total"].input_text == ENTRIES_MAX + 5
    assert "the oldest transcript, the oldest usage" in values["note"]
    assert fields()["note"] == ""


def test_a_record_keeps_its_size_and_leaves_out_the_oldest_text_first() -> None:
    memory = Memory(
        entries=[
            entry
            for n in range(ENTRIES_MAX)
            for entry in (
                Utterance(Role.AGENT, "i", T + n, f"{n:04d}" + "ä" * 300),
                ToolCall("c", "book", '{"a": "' + "b" * 300 + '"}', T + n, "o" * 300, T + n),
            )
        ],
        turns=[Turn(T + n, T + n, T + n, T + n, True) for n in range(ENTRIES_MAX)],
        usage=[Usage("r" * 40, T + n, "m", *[100_000] * 6) for n in range(ENTRIES_MAX)],
    )
    values = fields(memory)
    assert len(record(values).pack()) < KEPT_BYTES_MAX + 2048
    assert len(record(values).pack()) > KEPT_BYTES_MAX - 2048, "more was left out than had to be"
    said, done = ([bool(text) for text in texts] for texts in (
        [each.text for each in values["transcript"]], [each.output for each in values["tools"]]
    ))  # fmt: skip
    assert said == sorted(said) and said[-1] and not said[0]
    assert done == sorted(done) and abs(done.index(True) - said.index(True)) <= 1
    assert "the oldest texts" in values["note"]


def test_entries_without_any_text_leave_room_to_text() -> None:
    typing, calling = Typed("123456", T + 3600), ToolCall("c", "n" * 64, "", T + 3600, "", T + 3700)
    memory = Memory(
        entries=[typing, calling] * ENTRIES_MAX,
        turns=[Turn(T + 3600, T + 3600, T + 3601, T + 3602, True)] * ENTRIES_MAX,
        usage=[Usage("resp_" + "r" * 22, T + 3600, "m", *[100_000] * 6)] * ENTRIES_MAX,
    )
    assert len(record(fields(memory)).pack()) < KEPT_BYTES_MAX * 0.75


def test_a_part_written_by_a_newer_release_is_read_without_what_is_new() -> None:
    raw = msgpack.unpackb(record(fields()).pack())
    raw["transcript"][0]["mood"] = "fine"
    raw["weather"] = "rain"
    assert CallRecord.unpack(msgpack.packb(raw)) == record(fields())
