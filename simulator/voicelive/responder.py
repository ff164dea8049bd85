"""Carries out one response at a time: its events in order, its pace, its end. Does not choose what it says.

response.created -> outputs, one after the other: (audio rendered) -> beats of `reply` -> … -> response.done
                 -> cancelled or failed at any point
"""

import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from simulator.voicelive import reply, shapes
from simulator.voicelive.actions import Render
from simulator.voicelive.agenda import Agenda
from simulator.voicelive.audio import OUTPUT_FORMATS, AudioFormat, Clip
from simulator.voicelive.behaviour import Manner
from simulator.voicelive.conversation import Conversation
from simulator.voicelive.ids import Ids
from simulator.voicelive.outlet import Outlet
from simulator.voicelive.output import (
    Called,
    FunctionCall,
    McpCall,
    McpCalled,
    Output,
    Part,
    Speech,
    Spoken,
    Timed,
    Written,
)
from simulator.voicelive.record import Record
from simulator.voicelive.recordings import Recording
from simulator.voicelive.reply import Beat
from simulator.voicelive.shapes import Event, Item

# Audio tokens: 20 a second spoken, 10 a second heard.
_SPOKEN_MS_PER_TOKEN = 50
_HEARD_MS_PER_TOKEN = 100

# Texts of responses that are remembered for those who may see them.
_MAX_SAID = 1_000


@dataclass(slots=True, eq=False)
class Response:
    """A response under way. `origin` is the time its beats count from; `complete` says that no parts will be added."""

    body: dict[str, Any]
    format: AudioFormat
    timed: bool
    input_text_tokens: int
    cached_text_tokens: int
    input_ms: float
    origin: float
    parts: deque[Part] = field(default_factory=deque)
    complete: bool = False
    output: Output | None = None
    finished: list[tuple[Output, Item]] = field(default_factory=list)
    audio_ms: float = 0.0
    beats: deque[Beat] = field(default_factory=deque)

    @property
    def id(self) -> str:
        return str(self.body["id"])

    @property
    def busy(self) -> bool:
        """Whether it needs nobody to say how it goes on."""
        return self.complete or self.output is not None or bool(self.parts)

    @property
    def outputs(self) -> list[Output]:
        """All its outputs so far, also one under way."""
        return [*(output for output, _ in self.finished), *([self.output] if self.output else [])]


class Responder:
    """The model's side of the conversation; `active` is the response under way.

    `heard_until` is the time at which a client that plays in real time has played all audio sent so far; `said` holds
    the texts of the last responses. `on_open` is called when the response under way has no more parts and is not
    complete, `after_done` when it is over.
    """

    def __init__(
        self, manner: Manner, ids: Ids, outlet: Outlet, agenda: Agenda, conversation: Conversation, record: Record
    ) -> None:
        self._manner = manner
        self._ids = ids
        self._outlet = outlet
        self._agenda = agenda
        self._conversation = conversation
        self._record = record
        self._conversation_id = ids.new("conv")
        self._known_text_tokens = 0
        self.active: Response | None = None
        self.heard_until = 0.0
        self.said: deque[str] = deque(maxlen=_MAX_SAID)
        self.on_open: Callable[[float], None] = lambda _now: None
        self.after_done: Callable[[float], None] = lambda _now: None

    def begin(
        self, options: dict[str, Any], *, timed: bool, text_tokens: int, input_ms: float, origin: float, now: float
    ) -> Response:
        """Create the response; what it consists of follows through `add`. `timed` asks for the times of its words."""
        body = shapes.response(self._ids.new("resp"), self._manner.profile, options, self._conversation_id)
        self.active = Response(
            body=body,
            format=OUTPUT_FORMATS[options["output_audio_format"] or "pcm16"],
            timed=timed,
            input_text_tokens=text_tokens,
            cached_text_tokens=min(text_tokens, self._known_text_tokens),
            input_ms=input_ms,
            origin=origin,
        )
        self._known_text_tokens = text_tokens
        self._outlet.send(shapes.response_event("response.created", body), now)
        self._record.mark("response_created", now, response_id=body["id"])
        return self.active

    def add(self, response: Response, parts: Iterable[Part], now: float, *, complete: bool) -> None:
        """Give the response its next parts; it ends after them when that makes it complete."""
        response.parts.extend(parts)
        response.complete = complete
        self._go_on(response, now)

    def rendered(self, ref: str, data: bytes, now: float) -> None:
        """The audio of response `ref` is ready; nothing happens when that response is over."""
        response = self.active
        if response is None or response.id != ref or response.output is not None:
            return
        speech = response.parts[0]
        assert isinstance(speech, Speech)  # nothing else is rendered
        manner, words = self._manner, reply.split_words(speech.text)
        first_audio_s = manner.first_audio_s + random.uniform(0.0, manner.jitter_s)
        clip = Clip(data, response.format)
        beats = reply.spoken(manner.profile, manner.pace, first_audio_s, words, clip, timed=response.timed)
        self._play_all(response, (Timed if response.timed else Spoken)(*self._place(response)), beats, now)

    def cancel(self, reason: str, now: float) -> None:
        """End the active response as cancelled, `client_cancelled` or `turn_detected`."""
        response = self.active
        if response is None:
            return
        closes = self._manner.cancel_reason == "turn_detected"
        items = [item for _, item in response.finished] if closes else []
        if response.output is not None and response.output.added:
            item = response.output.item("incomplete")
            if closes:
                self._close(response.output, item, "incomplete", now)
                items.append(item)
            self._conversation.replace(item)
        details = {"type": "cancelled", "reason": reason}
        nothing = shapes.usage(input_text=0, input_audio=0, output_text=0, output_audio=0)
        self._finish(response, "cancelled", details, items, nothing, now)

    def fail(self, ref: str, message: str, now: float) -> None:
        """End response `ref` as failed."""
        response = self.active
        if response is None or response.id != ref:
            return
        error = {"type": "server_error", "code": "server_error", "message": message}
        self._finish(response, "failed", {"type": "failed", "error": error}, [], None, now)

    def _go_on(self, response: Response, now: float) -> None:
        """Begin the next part; without one, end the response or ask how it goes on."""
        if not response.parts:
            if response.complete:
                items = [item for _, item in response.finished]
                self._finish(response, "completed", None, items, self._usage(response), now)
            else:
                self.on_open(now)
            return
        profile, first_audio_s = self._manner.profile, self._manner.first_audio_s
        match response.parts[0]:
            case Speech(text, audio) if "audio" in response.body["modalities"]:
                self._render(response, text, audio, now)
            case Speech(text):
                beats = reply.written(profile, first_audio_s, reply.split_words(text))
                self._play_all(response, Written(*self._place(response)), beats, now)
            case FunctionCall(arguments=arguments) as call:
                beats = reply.function_call(profile, first_audio_s, arguments)
                self._play_all(response, Called(*self._place(response), call=call), beats, now)
            case McpCall(arguments=arguments, seconds=seconds) as call:
                beats = reply.mcp_call(profile, first_audio_s, arguments, seconds)
                self._play_all(response, McpCalled(*self._place(response), call=call), beats, now)

    def _place(self, response: Response) -> tuple[str, int, str]:
        """Response id, index and item id of the response's next output."""
        return response.id, len(response.finished), self._ids.new(self._manner.profile.reply_prefix)

    def _render(self, response: Response, text: str, audio: Clip | Recording | None, now: float) -> None:
        clip = audio.clip if isinstance(audio, Recording) else audio
        if clip is not None and clip.format == response.format:
            self.rendered(response.id, clip.data, now)
        else:
            self._outlet.put(Render(response.id, text if audio is None else audio, response.format))

    def _play_all(self, response: Response, output: Output, beats: Sequence[Beat], now: float) -> None:
        response.parts.popleft()
        response.output = output
        response.beats.extend(beats)
        response.origin = max(response.origin, now - beats[0].at)
        self._play(response, now)

    def _play(self, response: Response, now: float) -> None:
        while self.active is response and response.output is not None:
            due = response.origin + response.beats[0].at
            if due > now:
                self._agenda.at(due, lambda at: self._play(response, at))
                return
            part = response.beats.popleft().part
            if isinstance(part, reply.End):
                self._end_output(response, response.output, now)
                return
            self._send(response, response.output, part, now)

    def _send(self, response: Response, output: Output, part: reply.Part, now: float) -> None:
        match part:
            case reply.ItemAdded():
                self._add_item(output, now)
            case reply.Words(delta):
                output.said.append(delta)
                self._outlet.send(output.delta(delta), now)
            case reply.Audio(data, ms):
                if not response.audio_ms:
                    self._record.mark("first_audio", now, response_id=response.id)
                response.audio_ms += ms
                self.heard_until = max(self.heard_until, now) + ms / 1000
                self._conversation.sent_audio(output.item_id, ms, now)
                self._send_content(output, "response.audio.delta", now, delta=data)
            case reply.Timestamp(word, offset_ms, duration_ms):
                times = {"audio_offset_ms": offset_ms, "audio_duration_ms": duration_ms}
                kind = "response.audio_timestamp.delta"
                self._send_content(output, kind, now, **times, text=word, timestamp_type="word")
            case reply.Running():
                self._send_all(output.running(), now)

    def _add_item(self, output: Output, now: float) -> None:
        item = output.first_item(self._manner.profile.reply_status)
        output.added = True
        added = shapes.output_item("response.output_item.added", output.response_id, output.index, item)
        self._outlet.send(added, now)
        self._outlet.send(shapes.item_created(item, self._conversation.add(item)), now)
        self._send_all(output.opening(), now)

    def _end_output(self, response: Response, output: Output, now: float) -> None:
        item = output.item("completed")
        self._close(output, item, "completed", now)
        self._conversation.replace(item)
        response.finished.append((output, item))
        response.output = None
        self._go_on(response, now)

    def _close(self, output: Output, item: Item, status: str, now: float) -> None:
        self._send_all(output.closing(status), now)
        done = shapes.output_item("response.output_item.done", output.response_id, output.index, item)
        self._outlet.send(done, now)

    def _send_content(self, output: Output, kind: str, now: float, **fields: object) -> None:
        self._outlet.send(shapes.content(kind, output.response_id, output.item_id, output.index, **fields), now)

    def _send_all(self, events: Iterable[Event], now: float) -> None:
        for event in events:
            self._outlet.send(event, now)

    def _finish(
        self,
        response: Response,
        status: str,
        details: dict[str, Any] | None,
        items: list[Item],
        usage: dict[str, Any] | None,
        now: float,
    ) -> None:
        self.active = None
        text = " ".join(output.text for output in response.outputs if output.text)
        if text:
            self.said.append(text)
        body = {**response.body, "status": status, "status_details": details, "output": items, "usage": usage}
        self._outlet.send(shapes.response_event("response.done", body), now)
        self._record.mark("response_done", now, response_id=response.id, status=status)
        self.after_done(now)

    def _usage(self, response: Response) -> dict[str, Any]:
        return shapes.usage(
            input_text=response.input_text_tokens,
            cached_text=response.cached_text_tokens,
            input_audio=round(response.input_ms / _HEARD_MS_PER_TOKEN),
            output_text=sum(len(output.words.split()) for output in response.outputs),
            output_audio=round(response.audio_ms / _SPOKEN_MS_PER_TOKEN),
        )
