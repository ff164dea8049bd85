"""Carries out one response at a time: its events in order, its pace, its end. Does not choose what it says.

response.created -> (an answer is chosen, its audio rendered) -> beats of `reply` -> response.done
                 -> cancelled or failed at any point
"""

import random
from collections import deque
from collections.abc import Callable, Sequence
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
from simulator.voicelive.record import Record
from simulator.voicelive.recordings import Recording
from simulator.voicelive.reply import Beat

# Audio tokens: 20 a second spoken, 10 a second heard.
_SPOKEN_MS_PER_TOKEN = 50
_HEARD_MS_PER_TOKEN = 100


@dataclass(slots=True, eq=False)
class Response:
    """A response under way. `kind` is what it consists of; `origin` is the time its beats count from."""

    body: dict[str, Any]
    item_id: str
    format: AudioFormat
    input_text_tokens: int
    input_ms: float
    origin: float
    kind: str = ""
    text: str = ""
    said: list[str] = field(default_factory=list)
    audio_ms: float = 0.0
    call_id: str = ""
    call_name: str = ""
    item_added: bool = False
    beats: deque[Beat] = field(default_factory=deque)

    @property
    def id(self) -> str:
        return str(self.body["id"])

    def item(self, status: str) -> shapes.Item:
        """The response's output item with what has been said so far."""
        said = "".join(self.said)
        if self.kind == "call":
            return shapes.function_call_item(self.item_id, status, self.call_name, self.call_id, said)
        part = {"type": "audio", "transcript": said} if self.kind == "audio" else {"type": "text", "text": said}
        return shapes.message_item(self.item_id, "assistant", status, [part])


class Responder:
    """The model's side of the conversation; `active` is the response under way.

    `heard_until` is the time at which a client that plays in real time has played all audio sent so far.
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
        self.active: Response | None = None
        self.heard_until = 0.0
        self.after_done: Callable[[float], None] = lambda _now: None

    def begin(
        self, options: dict[str, Any], *, text_tokens: int, input_ms: float, origin: float, now: float
    ) -> Response:
        """Create the response; what it says follows through `speak`, `write` or `call`."""
        profile = self._manner.profile
        body = shapes.response(self._ids.new("resp"), profile, options, self._conversation_id)
        self.active = Response(
            body=body,
            item_id=self._ids.new(profile.reply_prefix),
            format=OUTPUT_FORMATS[options["output_audio_format"] or "pcm16"],
            input_text_tokens=text_tokens,
            input_ms=input_ms,
            origin=origin,
        )
        self._outlet.send(shapes.response_event("response.created", body), now)
        self._record.mark("response_created", now, response_id=body["id"])
        return self.active

    def say(self, response: Response, text: str, audio: Clip | Recording | None, now: float) -> None:
        """Answer with `text`: spoken, as `audio` or synthesised when None; or written, if the client wants no audio."""
        response.text = text
        if "audio" not in response.body["modalities"]:
            response.kind = "text"
            words = reply.split_words(text)
            self._play_all(response, reply.written(self._manner.profile, self._manner.first_audio_s, words), now)
            return
        response.kind = "audio"
        clip = audio.clip if isinstance(audio, Recording) else audio
        if clip is not None and clip.format == response.format:
            self.rendered(response.id, clip.data, now)
        else:
            self._outlet.put(Render(response.id, text if audio is None else audio, response.format))

    def call(self, response: Response, name: str, call_id: str, arguments: str, now: float) -> None:
        """Answer with a function call."""
        response.kind, response.call_name, response.call_id = "call", name, call_id
        beats = reply.function_call(self._manner.profile, self._manner.first_audio_s, arguments)
        self._play_all(response, beats, now)

    def rendered(self, ref: str, data: bytes, now: float) -> None:
        """The audio of response `ref` is ready; nothing happens when that response is over."""
        response = self.active
        if response is None or response.id != ref:
            return
        manner, words = self._manner, reply.split_words(response.text)
        clip = Clip(data, response.format)
        first_audio_s = manner.first_audio_s + random.uniform(0.0, manner.jitter_s)
        self._play_all(response, reply.spoken(manner.profile, manner.pace, first_audio_s, words, clip), now)

    def cancel(self, reason: str, now: float) -> None:
        """End the active response as cancelled, `client_cancelled` or `turn_detected`."""
        response = self.active
        if response is None:
            return
        item = response.item("incomplete") if response.item_added else None
        output: list[shapes.Item] = []
        if item is not None and self._manner.cancel_reason == "turn_detected":
            self._close_parts(response, item, now)
            output = [item]
        if item is not None:
            self._conversation.replace(item)
        details = {"type": "cancelled", "reason": reason}
        nothing = shapes.usage(input_text=0, input_audio=0, output_text=0, output_audio=0)
        self._finish(response, "cancelled", details, output, nothing, now)

    def fail(self, ref: str, message: str, now: float) -> None:
        """End response `ref` as failed."""
        response = self.active
        if response is None or response.id != ref:
            return
        error = {"type": "server_error", "code": "server_error", "message": message}
        self._finish(response, "failed", {"type": "failed", "error": error}, [], None, now)

    def _play_all(self, response: Response, beats: Sequence[Beat], now: float) -> None:
        response.beats.extend(beats)
        response.origin = max(response.origin, now - beats[0].at)
        self._play(response, now)

    def _play(self, response: Response, now: float) -> None:
        while self.active is response:
            due = response.origin + response.beats[0].at
            if due > now:
                self._agenda.at(due, lambda at: self._play(response, at))
                return
            self._send(response, response.beats.popleft().part, now)

    def _send(self, response: Response, part: reply.Part, now: float) -> None:
        match part:
            case reply.ItemAdded():
                self._add_item(response, now)
            case reply.Words(delta):
                response.said.append(delta)
                self._outlet.send(self._words(response, delta), now)
            case reply.Audio(data, ms):
                if not response.audio_ms:
                    self._record.mark("first_audio", now, response_id=response.id)
                response.audio_ms += ms
                self.heard_until = max(self.heard_until, now) + ms / 1000
                self._conversation.sent_audio(response.item_id, ms, now)
                self._content(response, "response.audio.delta", now, delta=data)
            case reply.End():
                item = response.item("completed")
                self._close_parts(response, item, now)
                self._conversation.replace(item)
                self._finish(response, "completed", None, [item], self._usage(response), now)

    def _add_item(self, response: Response, now: float) -> None:
        status = "in_progress" if response.kind == "call" else self._manner.profile.reply_status
        item = response.item(status)
        if response.kind != "call":
            item = {**item, "content": []}
        response.item_added = True
        self._outlet.send(shapes.output_item("response.output_item.added", response.id, item), now)
        self._outlet.send(shapes.item_created(item, self._conversation.add(item)), now)
        if response.kind != "call":
            empty = {"type": "audio", "transcript": ""} if response.kind == "audio" else {"type": "text", "text": ""}
            self._content(response, "response.content_part.added", now, part=empty)

    def _words(self, response: Response, delta: str) -> shapes.Event:
        if response.kind == "call":
            kind = "response.function_call_arguments.delta"
            return shapes.arguments(kind, response.id, response.item_id, response.call_id, delta=delta)
        kind = "response.audio_transcript.delta" if response.kind == "audio" else "response.text.delta"
        return shapes.content(kind, response.id, response.item_id, delta=delta)

    def _close_parts(self, response: Response, item: shapes.Item, now: float) -> None:
        said = "".join(response.said)
        if response.kind == "call":
            kind = "response.function_call_arguments.done"
            ids = (response.id, response.item_id, response.call_id)
            self._outlet.send(shapes.arguments(kind, *ids, name=response.call_name, arguments=said), now)
        elif response.kind == "audio":
            self._content(response, "response.audio.done", now)
            self._content(response, "response.audio_transcript.done", now, transcript=said)
            self._content(response, "response.content_part.done", now, part={"type": "audio", "transcript": said})
        else:
            self._content(response, "response.text.done", now, text=said)
            # The recorded quirk: the finished text part is empty.
            self._content(response, "response.content_part.done", now, part={"type": "text", "text": ""})
        self._outlet.send(shapes.output_item("response.output_item.done", response.id, item), now)

    def _content(self, response: Response, kind: str, now: float, **fields: object) -> None:
        self._outlet.send(shapes.content(kind, response.id, response.item_id, **fields), now)

    def _finish(
        self,
        response: Response,
        status: str,
        details: dict[str, Any] | None,
        output: list[shapes.Item],
        usage: dict[str, Any] | None,
        now: float,
    ) -> None:
        self.active = None
        body = {**response.body, "status": status, "status_details": details, "output": output, "usage": usage}
        self._outlet.send(shapes.response_event("response.done", body), now)
        self._record.mark("response_done", now, response_id=response.id, status=status)
        self.after_done(now)

    def _usage(self, response: Response) -> dict[str, Any]:
        return shapes.usage(
            input_text=response.input_text_tokens,
            input_audio=round(response.input_ms / _HEARD_MS_PER_TOKEN),
            output_text=len("".join(response.said).split()),
            output_audio=round(response.audio_ms / _SPOKEN_MS_PER_TOKEN),
        )
