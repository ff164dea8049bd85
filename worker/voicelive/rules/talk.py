"""Who speaks, what is heard: the service's events about the caller's speech and the model's answers.

speech_started          -> the playout is flushed, what is still coming of the answer is dropped
speech_stopped          -> an answer is owed
transcript, words       -> the memory
audio.delta             -> played
response.done           -> the next thing that is wanted may be asked for
"""

from worker.voicelive import actions as do
from worker.voicelive import events, messages
from worker.voicelive.alarms import Alarm
from worker.voicelive.floor import ANSWER
from worker.voicelive.memory import Role, Turn, Usage, Utterance
from worker.voicelive.rules.acts import Acts


class Talk(Acts):
    """What is decided about speech and answers."""

    def _heard_from_service(self, event: events.ServerEvent | events.Other, now: float) -> None:
        match event:
            case events.AudioDelta():
                self._audio(event, now)
            case events.TranscriptDelta():
                self._words(event.item_id, event.response_id, now, more=event.delta)
            case events.TranscriptDone():
                self._words(event.item_id, event.response_id, now, all_of_it=event.transcript)
            case events.SpeechStarted():
                self._speech_started(event, now)
            case events.SpeechStopped():
                self._speech_stopped(event, now)
            case events.CallerTranscript():
                self._caller_said(event.item_id, event.transcript)
            case events.CallerTranscriptFailed():
                self._caller_said(event.item_id, "")
            case events.ItemCreated():
                self._unacknowledged.discard(event.item.id)
            case events.ResponseCreated():
                self._floor.began(event.response.id, knows_all=not self._unacknowledged)
                if self._speaking and self._agent.turn_detection.interrupt_response:
                    self._cancel_response()  # asked for in the moment in which the caller began to speak
            case events.AudioDone():
                self._audible.discard(event.response_id)
                if event.response_id not in self._cut_off:
                    self._finish_playing()
            case events.OutputItemDone():
                self._output_done(event, now)
            case events.ResponseDone():
                self._response_done(event.response, now)
            case _:
                pass

    def _audio(self, event: events.AudioDelta, now: float) -> None:
        if event.response_id in self._cut_off or not event.delta:
            return
        utterance = self._utterance(event.item_id, event.response_id, now)
        if not utterance.audio_ms:  # its words may have come before, but what nobody has heard was not said
            utterance.at = now
            self.memory.entries.append(utterance)
        utterance.audio_ms += len(event.delta) / self.options.bytes_per_ms
        if event.response_id not in self._audible:
            self._audible.add(event.response_id)
            self._spoke = event.response_id
            self._first_audio(now)
        self._playing = True
        self._do(do.Play(event.item_id, event.delta))

    def _plays(self, response_id: str) -> bool:
        """Says whether what is being played is of that response, which has more to come."""
        return self._playing and response_id in self._audible

    def _first_audio(self, now: float) -> None:
        self._owed = False
        self._failures = 0
        self._alarms.clear(Alarm.DEAD_AIR, Alarm.STUCK, Alarm.FILLER)
        self._stop_filler()
        if self._awaits_audio:
            self._do(do.Mark(self._awaits_audio))
            if self._awaits_audio == "answer_audio" and self._turn is not None and self._turn.first_audio is None:
                self._turn.first_audio = now
            self._awaits_audio = ""

    def _utterance(self, item_id: str, response_id: str, now: float) -> Utterance:
        utterance = self.memory.utterance(item_id) or self._answers.get(response_id)
        if utterance is None or utterance.item_id != item_id:
            utterance = self._answers[response_id] = Utterance(Role.AGENT, item_id, now)
        return utterance

    def _words(
        self, item_id: str, response_id: str, now: float, *, more: str = "", all_of_it: str | None = None
    ) -> None:
        if response_id in self._cut_off:
            return
        utterance = self._utterance(item_id, response_id, now)
        if utterance.settled:
            return
        if all_of_it is None:
            utterance.text += more
        else:
            utterance.text, utterance.settled = all_of_it, True

    def _speech_started(self, event: events.SpeechStarted, now: float) -> None:
        self._speaking = True
        self._caller_acted(now)
        self.memory.entries.append(Utterance(Role.CALLER, event.item_id, self._when(event.audio_start_ms, now)))
        self._do(do.Mark("speech_started"))
        self._do(do.Retain(True))
        if self._agent.turn_detection.interrupt_response:
            # Audio arrives far faster than it is heard: the playout may hold a whole answer whose response is long
            # done, so it is flushed whether or not one is active. The service cancels an active one by itself.
            self._drop_response()
            self._disown()
            self._flush()

    def _speech_stopped(self, event: events.SpeechStopped, now: float) -> None:
        self._speaking = False
        self._turn = Turn(now)
        silence_ms = self._live.silence_ms if self._live is not None else 0.0
        self._turn.speech_end = self._when(event.audio_end_ms - silence_ms, now)
        self.memory.turns.append(self._turn)
        self._awaits_audio = "answer_audio"
        self._do(do.Mark("speech_stopped"))
        if self._agent.turn_detection.create_response:
            self._floor.expect(True)
            self._owe(now)

    def _when(self, audio_ms: float, now: float) -> float:
        """Returns when the caller's audio at `audio_ms` of this connection was heard."""
        return now - max(0.0, self._sent_ms() - audio_ms) / 1000

    def _caller_said(self, item_id: str, text: str) -> None:
        utterance = self.memory.utterance(item_id)
        if utterance is None:
            return
        utterance.settled = True
        if text:
            utterance.text = text
        elif not utterance.text and not self._floor.response:
            # Nothing was understood: a cascaded model answers nothing to that.
            self._floor.expect(False)
            if self._floor.free and not self._errands:
                self._disown()
                self._stop_filler()
        if not self._speaking:
            self._do(do.Retain(False))

    def _response_done(self, response: events.ResponseInfo, now: float) -> None:
        self._floor.ended(response.id)
        self._cut_off.discard(response.id)
        self._answers.pop(response.id, None)
        if response.id in self._audible:  # ended in the middle
            self._audible.discard(response.id)
            self._finish_playing()
        if self._spoke == response.id and not self._speaking and not self.memory.words_unknown:
            self._settle_words()
        self._note_usage(response, now)
        if self._errands.belongs(response.id):
            if self._errands.response_over(response.id):
                self._floor.want(ANSWER)
        elif response.status == "failed":
            self._failures += 1
            if self._failures == 1:  # once is worth another try; after that dead air decides
                self._floor.want(ANSWER)
        elif response.status == "cancelled" and self._floor.free:
            self._disown()

    def _note_usage(self, response: events.ResponseInfo, now: float) -> None:
        if response.usage is None:
            return
        given = response.usage.input_token_details or events.InputTokens()
        cached = given.cached_tokens_details or events.InputTokens(text_tokens=given.cached_tokens)
        made = response.usage.output_token_details or events.OutputTokens()
        self._do(do.Spend(given.text_tokens + given.audio_tokens + made.text_tokens + made.audio_tokens))
        agent = self._agent
        self.memory.usage.append(
            Usage(
                response_id=response.id,
                at=now,
                model=agent.foundry_agent.name if agent.foundry_agent is not None else agent.model,
                input_text=given.text_tokens,
                input_audio=given.audio_tokens,
                cached_text=cached.text_tokens,
                cached_audio=cached.audio_tokens,
                output_text=made.text_tokens,
                output_audio=made.audio_tokens,
            )
        )

    def _was_cut_off(self, item_id: str, heard_ms: int) -> None:
        utterance = self.memory.utterance(item_id)
        if utterance is not None:
            utterance.cut(heard_ms)
        if self._live is None:
            return
        retold = self._live.retold.get(item_id)
        if retold is not None:  # it has no audio there that could be cut
            if utterance is not None:
                self._send(messages.deletion(retold))
                self._live.retold[item_id] = f"{retold}_cut"
                for event in messages.replayed(utterance, f"{retold}_cut"):
                    self._send(event)
        elif not self._agent.turn_detection.auto_truncate:
            self._send(messages.truncation(item_id, heard_ms))
