"""The caller's side of a session: audio, speech, turns and their transcripts. Does not respond to a turn.

native     speech_stopped, committed, item (no transcript yet) -> response …, transcript in the middle of it
cascaded   speech_stopped, committed … transcript, item -> response
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from simulator.voicelive import shapes
from simulator.voicelive.agenda import Agenda
from simulator.voicelive.audio import Clip
from simulator.voicelive.behaviour import Manner
from simulator.voicelive.configuration import Configuration
from simulator.voicelive.conversation import Conversation
from simulator.voicelive.ids import Ids
from simulator.voicelive.input_buffer import InputBuffer
from simulator.voicelive.outlet import Mishaps, Outlet
from simulator.voicelive.record import Record
from simulator.voicelive.refusal import Refused
from simulator.voicelive.vad import GRID_MS, SpeechStarted, Vad

# What a commit must find in the buffer.
_MIN_COMMIT_MS = 100

# After the first transcript of an item, when the duplicate comes.
_DUPLICATE_S = 0.2


@dataclass(slots=True, eq=False)
class Turn:
    """One stretch of the caller's audio; `request` is a `response.create` that waits for its transcript."""

    item_id: str
    start_ms: float
    clip: Clip | None = None
    ended_at: float = 0.0
    transcript: str = ""
    automatic: bool = False
    request: Mapping[str, Any] | None = None


class Listener:
    """Hears the caller.

    `on_speech` is called when speech starts, `on_end` when a turn has ended, `on_turn` when a turn is to be answered.
    """

    def __init__(
        self,
        configuration: Configuration,
        manner: Manner,
        ids: Ids,
        outlet: Outlet,
        agenda: Agenda,
        conversation: Conversation,
        record: Record,
        mishaps: Mishaps,
    ) -> None:
        self._configuration = configuration
        self._manner = manner
        self._ids = ids
        self._outlet = outlet
        self._agenda = agenda
        self._conversation = conversation
        self._record = record
        self._mishaps = mishaps
        self.on_speech: Callable[[float], None] = lambda _now: None
        self.on_end: Callable[[Turn], None] = lambda _turn: None
        self.on_turn: Callable[[Turn, float], None] = lambda _turn, _now: None
        self.transcript: Callable[[], str] = lambda: ""
        self._speaking: Turn | None = None
        self._transcribing: Turn | None = None
        self._committed_ms = 0.0
        self._buffer = InputBuffer(configuration.input_format)
        self._vad: Vad | None = None
        self.reconfigure()

    @property
    def heard_ms(self) -> float:
        """All audio the client ever appended, in ms."""
        return self._buffer.total_ms

    @property
    def speaking(self) -> bool:
        """Whether the caller is speaking now, as far as VAD knows."""
        return self._speaking is not None

    def reconfigure(self) -> None:
        """Follow a `session.update`: new detection settings, or a new format while no audio has come yet."""
        settings, fmt = self._configuration.vad, self._configuration.input_format
        if self._buffer.format != fmt:
            self._buffer, self._vad = InputBuffer(fmt), None
        if settings is None:
            self._vad = None
        elif self._vad is None:
            self._vad = Vad(fmt, settings)
        else:
            self._vad.settings = settings

    def append(self, audio: bytes, now: float) -> None:
        """Hear the next bytes of the caller's audio; a model that holds a monologue only counts them."""
        if self._manner.monologue:
            self._buffer.skip(audio)
            return
        self._buffer.append(audio, growing=self._vad is None or self._vad.speaking)
        if self._vad is not None:
            for moment in self._vad.hear(audio):
                if isinstance(moment, SpeechStarted):
                    self._notice_speech(moment.at_ms, now)
                else:
                    self._speech_stopped(moment.at_ms, now)

    def commit(self, now: float) -> None:
        """End the turn by the client's wish (`input_audio_buffer.commit`); raises Refused when there is no audio."""
        turn = self._speaking or Turn(self._ids.new("item"), self._committed_ms)
        end_ms = self.heard_ms
        if end_ms - turn.start_ms < _MIN_COMMIT_MS:
            held = f"{end_ms - turn.start_ms:.2f}ms of audio"
            message = f"Error committing input audio buffer: buffer too small; it needs 100ms and holds {held}."
            raise Refused("input_audio_buffer_commit_empty", message)
        self._drop_speech()
        self._end(turn, end_ms, now)

    def clear(self) -> None:
        """Forget audio that belongs to no turn yet (`input_audio_buffer.clear`)."""
        self._drop_speech()
        self._committed_ms = self.heard_ms

    def postpone(self, request: Mapping[str, Any]) -> bool:
        """Let a `response.create` wait for the transcript under way; False when there is none to wait for."""
        if self._transcribing is None or self._transcribing.request is not None:
            return False
        self._transcribing.request = request
        return True

    def _drop_speech(self) -> None:
        self._speaking = None
        if self._vad is not None:
            self._vad.restart(not_before_ms=int(self.heard_ms) // GRID_MS * GRID_MS)

    def _notice_speech(self, at_ms: int, now: float) -> None:
        if self._manner.jitter_s:
            at = now + random.uniform(0.0, self._manner.jitter_s)
            self._agenda.at(at, lambda at: self._speech_started(at_ms, at))
        else:
            self._speech_started(at_ms, now)

    def _speech_started(self, at_ms: int, now: float) -> None:
        self._speaking = Turn(self._ids.new("item"), at_ms)
        self._outlet.send(shapes.speech_started(self._speaking.item_id, at_ms), now)
        self._record.mark("speech_started", now, audio_ms=at_ms)
        self.on_speech(now)

    def _speech_stopped(self, at_ms: int, now: float) -> None:
        turn, self._speaking = self._speaking, None
        if turn is None:
            return
        detection = self._configuration.turn_detection
        turn.automatic = bool(detection and detection["create_response"])
        self._outlet.send(shapes.speech_stopped(turn.item_id, at_ms), now)
        self._record.mark("speech_stopped", now, audio_ms=at_ms)
        self._end(turn, at_ms, now)

    def _end(self, turn: Turn, end_ms: float, now: float) -> None:
        turn.clip = self._buffer.between(turn.start_ms, end_ms)
        turn.ended_at = now
        turn.transcript = "" if self._mishaps.spoils("empty_transcript") else self.transcript()
        self._committed_ms = end_ms
        self.on_end(turn)
        self._outlet.send(shapes.committed(turn.item_id, self._conversation.last_id), now)
        delay = self._mishaps.spoils("delay_transcript")
        transcript_at = now + self._manner.transcript_s + (delay.seconds if delay else 0.0)
        if self._manner.native:
            self._native(turn, transcript_at, now)
        else:
            self._transcribing = turn
            self._soon(transcript_at, lambda at: self._cascaded(turn, at), now)

    def _native(self, turn: Turn, transcript_at: float, now: float) -> None:
        self._add_item(turn, None, now)
        if self._configuration.session["input_audio_transcription"] is not None:
            self._agenda.at(transcript_at, lambda at: self._native_transcript(turn, at))
        if turn.automatic:
            self.on_turn(turn, now)

    def _native_transcript(self, turn: Turn, now: float) -> None:
        if turn.transcript:
            self._outlet.send(shapes.transcription_delta(turn.item_id, turn.transcript), now)
        self._transcribed(turn, now)
        self._conversation.replace(_user_item(turn, turn.transcript))

    def _cascaded(self, turn: Turn, now: float) -> None:
        if self._transcribing is turn:
            self._transcribing = None
        self._transcribed(turn, now)
        self._add_item(turn, turn.transcript, now)
        if turn.request is not None or (turn.automatic and turn.transcript and not self._resumed):
            self.on_turn(turn, now)

    @property
    def _resumed(self) -> bool:
        """Whether the caller speaks again already, so that a response now would only be interrupted."""
        detection = self._configuration.turn_detection
        return self.speaking and bool(detection and detection["interrupt_response"])

    def _transcribed(self, turn: Turn, now: float) -> None:
        self._outlet.send(shapes.transcription_completed(turn.item_id, turn.transcript), now)
        if self._mishaps.spoils("duplicate_transcript"):
            again = shapes.transcription_completed(turn.item_id, "")
            self._agenda.at(now + _DUPLICATE_S, lambda at: self._outlet.send(again, at))

    def _add_item(self, turn: Turn, transcript: str | None, now: float) -> None:
        item = _user_item(turn, transcript)
        previous_id = self._conversation.add(item)
        self._outlet.send(shapes.item_created(item, previous_id), now)
        if self._manner.item_done:
            self._outlet.send(shapes.item_done(item, previous_id), now)

    def _soon(self, when: float, job: Callable[[float], None], now: float) -> None:
        if when <= now:
            job(now)
        else:
            self._agenda.at(when, job)


def _user_item(turn: Turn, transcript: str | None) -> shapes.Item:
    return shapes.message_item(turn.item_id, "user", "completed", [{"type": "input_audio", "transcript": transcript}])
