"""What is kept of a call: its memory as the fields of a call record, as far as the agent's `keep` says.

It does no IO and does not decide when a call is over; `worker/call.py` puts the fields into the record.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import msgpack

from shared.agents.facts import CallFacts
from shared.agents.model import Agent, CollectDigitsTool, HangUpTool, Price, SendDtmfTool, TransferTool
from shared.messages import KeptDigits, KeptToolCall, KeptTurn, KeptUsage, KeptUtterance, Tokens
from worker.tools.masking import masked
from worker.voicelive.memory import Memory, ToolCall, Turn, Typed, Usage, Utterance

TRANSCRIPT_MAX = 2_000
"""Utterances kept: an hour of them."""

ENTRIES_MAX = 500
"""Of everything else: so many that they leave at least a quarter of KEPT_BYTES_MAX to text."""

TOOL_TEXT_MAX = 4096
"""Characters kept of the arguments and of the output of one tool call."""

NAME_MAX = 128
"""Characters kept of names and ids, which come from the model, the service and the caller's headers."""

KEPT_BYTES_MAX = 240 * 1024
"""All of it as msgpack: with marks and counters a record stays below 256 kB."""

SPOKEN_ARGUMENTS = ("farewell", "announcement")
"""Arguments of built-in tools that are said to the caller: they belong to the transcript."""

_TOKENS = tuple(asdict(Tokens()))
_MILLION = 1_000_000
_MOST = {"transcript": TRANSCRIPT_MAX}


def kept(
    memory: Memory,
    agent: Agent,
    prices: Mapping[str, Price],
    answered_at: float | None,
    facts: CallFacts,
    currency: str = "",
) -> dict[str, Any]:
    """Returns the fields of CallRecord that say who spoke and what was said and done.

    `answered_at` is when the call was answered, in the memory's time; a call that never was counts from its INVITE.
    `prices` are by model, "*" for all others, in `currency`. Texts beyond KEPT_BYTES_MAX are left out, oldest first.
    """
    since = facts.at.timestamp() if answered_at is None else answered_at
    everything: dict[str, list[Any]] = {
        "transcript": [_utterance(e, since) for e in memory.entries if isinstance(e, Utterance)]
        if agent.keep.transcript
        else [],
        "turns": [_turn(each, since) for each in memory.turns],
        "tools": [_tool_call(e, agent, since) for e in memory.entries if isinstance(e, ToolCall)],
        "dtmf": [_digits(e, since) for e in memory.entries if isinstance(e, Typed)] if agent.keep.dtmf else [],
        "usage": [_usage(each, since) for each in memory.usage],
    }
    lists = {name: all_of_it[-_MOST.get(name, ENTRIES_MAX) :] for name, all_of_it in everything.items()}
    left_out = [f"the oldest {name}" for name in lists if len(lists[name]) < len(everything[name])]
    if _leave_out_text(lists):
        left_out.append("the oldest texts")
    cost = _cost(memory.usage, prices)
    return lists | {
        "agent": agent.name,
        "model": agent.foundry_agent.name if agent.foundry_agent else agent.model,
        "caller": _clean(facts.caller)[:NAME_MAX] if agent.keep.numbers else "",
        "called": _clean(facts.called)[:NAME_MAX] if agent.keep.numbers else "",
        "usage_total": Tokens(**{name: sum(getattr(each, name) for each in memory.usage) for name in _TOKENS}),
        "cost": cost,
        "currency": currency if cost is not None else "",
        "note": f"too long to be kept whole, left out: {', '.join(left_out)}" if left_out else "",
    }


def _utterance(said: Utterance, since: float) -> KeptUtterance:
    return KeptUtterance(
        role=said.role,
        at_ms=_ms(said.at - since),
        text=_clean(said.text),
        audio_ms=round(said.audio_ms),
        heard_ms=None if said.heard_ms is None else round(said.heard_ms),
    )


def _turn(turn: Turn, since: float) -> KeptTurn:
    end, packet, audio = turn.speech_end, turn.first_packet, turn.first_audio
    return KeptTurn(
        at_ms=_ms((turn.speech_stopped if end is None else end) - since),
        latency_ms=None if end is None or packet is None else _ms(packet - end),
        service_ms=None if audio is None else _ms(audio - turn.speech_stopped),
        barged_in=turn.barged_in,
    )


def _tool_call(call: ToolCall, agent: Agent, since: float) -> KeptToolCall:
    tool = next((tool for tool in agent.tools if tool.name == call.name), None)
    arguments = output = ""
    if agent.keep.tools:
        hidden = list(getattr(tool, "mask", ()))
        if isinstance(tool, HangUpTool | TransferTool) and not agent.keep.transcript:
            hidden += SPOKEN_ARGUMENTS
        if agent.keep.dtmf or not isinstance(tool, SendDtmfTool | CollectDigitsTool):
            arguments, output = masked(call.arguments, hidden), call.output or ""
    return KeptToolCall(
        name=_clean(call.name)[:NAME_MAX],
        at_ms=_ms(call.at - since),
        took_ms=None if call.done_at is None else _ms(call.done_at - call.at),
        arguments=_cut(_clean(arguments)),
        output=_cut(_clean(output)),
        failed=call.failed,
    )


def _digits(typed: Typed, since: float) -> KeptDigits:
    digits = "*" * len(typed.digits) if typed.sensitive else typed.digits
    return KeptDigits(at_ms=_ms(typed.at - since), digits=digits)


def _usage(usage: Usage, since: float) -> KeptUsage:
    tokens = {name: getattr(usage, name) for name in _TOKENS}
    return KeptUsage(response_id=_clean(usage.response_id)[:NAME_MAX], at_ms=_ms(usage.at - since), **tokens)


def _cost(usage: Sequence[Usage], prices: Mapping[str, Price]) -> float | None:
    """Returns what all responses cost; None when there is one whose model has no price, or no prices at all."""
    if not prices:
        return None
    cost = 0.0
    for each in usage:
        price = prices.get(each.model) or prices.get("*")
        if price is None:
            return None
        cost += (each.input_text - each.cached_text) * price.input_text + each.cached_text * price.cached_text
        cost += (each.input_audio - each.cached_audio) * price.input_audio + each.cached_audio * price.cached_audio
        cost += each.output_text * price.output_text + each.output_audio * price.output_audio
    return round(cost / _MILLION, 6)


def _leave_out_text(lists: dict[str, list[Any]]) -> bool:
    """Empties the oldest texts in place until all of it has KEPT_BYTES_MAX; True when it had to."""
    packed = {name: [asdict(each) for each in values] for name, values in lists.items()}
    excess = len(msgpack.packb(packed)) - KEPT_BYTES_MAX
    if excess <= 0:
        return False
    texts = [(each.at_ms, name, number) for name in ("transcript", "tools") for number, each in enumerate(lists[name])]
    for _, name, number in sorted(texts):
        each = lists[name][number]
        emptied = replace(each, text="") if name == "transcript" else replace(each, arguments="", output="")
        lists[name][number] = emptied
        excess -= len(msgpack.packb(asdict(each))) - len(msgpack.packb(asdict(emptied)))
        if excess <= 0:
            break
    return True


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _clean(text: str) -> str:
    """Returns the text without lone surrogates, which JSON can carry and msgpack cannot."""
    return text.encode("utf-8", "replace").decode()


def _cut(text: str) -> str:
    return text if len(text) <= TOOL_TEXT_MAX else f"{text[:TOOL_TEXT_MAX]}… ({len(text)} characters)"
