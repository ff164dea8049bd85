"""One call as a caller lives it: dial, hear the greeting, speak, hear the answer, hang up.

It follows a CallPlan and fills in a CallReport; it does not judge whether the answer was the right one.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pjsua2 as pj

from simulator.phone.analysis import RATE, Signal, longest_gap_ms, resemblance, speech_segments
from simulator.phone.ear import Ear
from simulator.phone.keypad import key_in
from simulator.phone.plan import CallFailed, CallPlan, CallReport, Heard, Turn
from simulator.phone.recording import Recording
from simulator.phone.speaking import Speaking, cough
from simulator.phone.telephone import Leg, LegStatus, Telephone, now_ms

PUMP_INTERVAL_S = 0.02
"""How often audio is fetched and the caller looks at what has happened."""

PAUSE_MS = 800
"""Silence after which the other side has finished: longer than the pauses inside a spoken sentence."""

ANSWER_MAX_S = 90.0
"""Longest greeting or answer that is heard out."""


HOLD_MAX_S = 600.0
"""Longest wait for the other side to hang up."""


class Conversation:
    """One call from the INVITE to the report."""

    def __init__(self, telephone: Telephone, plan: CallPlan, recording: Path) -> None:
        self.report = CallReport()
        self._telephone = telephone
        self._plan = plan
        self._path = recording
        self._ear = Ear()
        self._recording = Recording()
        self._leg: Leg | None = None
        self._started_at: float | None = None
        """Unix ms of the first sample."""
        self._speaking: Speaking | None = None

    async def run(self) -> CallReport:
        """Lives through the call and returns what came of it."""
        try:
            self._leg = self._telephone.dial(self._plan.target, self._plan.headers)
        except pj.Error as error:
            self.report.reason = f"cannot dial: {error.reason}"
            return self.report
        pump = asyncio.create_task(self._pump(self._leg))
        try:
            await self._live()
            self.report.ok, self.report.reason = True, "ok"
        except CallFailed as failure:
            self.report.reason = str(failure)
        finally:
            await self._hang_up(self._leg)
            pump.cancel()
            if self._leg.port.counters().uplink_dropped:
                self.report.ok, self.report.reason = False, "the telephone itself lost audio"
        self._finish(self._leg)
        return self.report

    async def _live(self) -> None:
        plan = self._plan
        if plan.cancel_after_s is not None:
            await self._cancel(plan.cancel_after_s)
        elif plan.hangup_after_s is not None:
            await self._answered()
            try:
                async with asyncio.timeout(plan.hangup_after_s):
                    await self._talk()
            except TimeoutError:
                return
        else:
            await self._answered()
            await self._talk()

    async def _talk(self) -> None:
        plan = self._plan
        if plan.digits and plan.digits_after_s is not None:
            keying = asyncio.create_task(self._key_in_later(plan.digits_after_s))
            try:
                await self._say_all()
            finally:
                keying.cancel()
                (outcome,) = await asyncio.gather(keying, return_exceptions=True)
            if isinstance(outcome, CallFailed):
                raise outcome
        else:
            await self._say_all()

    async def _say_all(self) -> None:
        plan = self._plan
        if plan.greeting:
            await self._hear_greeting()
        if plan.digits and plan.digits_after_s is None:
            await self._key_turn()
        for index in range(len(plan.utterances)):
            cut = plan.talk_over_after_s if index == 0 and len(plan.utterances) > 1 else None
            await self._turn(plan.utterances[index], cut)
        if plan.hold_until_bye:
            status = self._leg_status()
            await self._until(  # a caller who was referred may be the one who hangs up
                lambda: status.remote_bye or status.local_bye, HOLD_MAX_S, "nobody hung up", ended_ok=True
            )
        elif plan.hold_s:
            await self._hold(plan.hold_s)

    async def _hold(self, seconds: float) -> None:
        """Says nothing for so long, or until the other side hangs up."""
        end = self._ear.position + int(seconds * RATE)
        status = self._leg_status()
        over = seconds + 5.0
        await self._until(lambda: status.ended.is_set() or self._ear.position >= end, over, "the audio stopped")

    async def _key_turn(self) -> None:
        """Keys the digits in, and hears the answer to them out unless the plan is to stay on the line."""
        start = self._ear.position
        await self._key_in()
        end = self._ear.position
        turn = Turn(self._time(start), self._time(end))
        self.report.turns.append(turn)
        if self._plan.hold_until_bye or self._plan.hold_s:
            return
        self._ear.listen(end)
        await self._onset(self._plan.answer_timeout_s, "the keys were not answered")
        turn.answer_first_packet = self._time(self._ear.onset or 0)
        await self._end_of_speech("the answer to the keys did not end")
        turn.answer_end = self._time(self._ear.last_loud)

    async def _key_in_later(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        await self._key_in()

    async def _key_in(self) -> None:
        if self._leg_status().ended.is_set():
            raise CallFailed(self._why_it_ended())
        self.report.marks.setdefault("keys", now_ms())
        try:
            await key_in(self._must_leg(), self._plan.digits, self._plan.dtmf_method)
        except pj.Error as error:
            raise CallFailed(f"the keys could not be sent: {error.reason}") from error

    async def _cancel(self, after_s: float) -> None:
        status = self._leg_status()
        try:
            await self._until(lambda: status.answered, after_s, "")
        except CallFailed:
            if status.ended.is_set():
                raise
        if status.answered:
            raise CallFailed("answered before the CANCEL")
        self._must_leg().end()
        await status.ended.wait()

    async def _answered(self) -> None:
        await self._until(lambda: self._leg_status().answered, self._plan.ring_timeout_s, "nobody answered")
        await self._until(lambda: self._started_at is not None, 5.0, "answered without media")

    async def _hear_greeting(self) -> None:
        self._ear.listen(0)
        await self._onset(self._plan.greeting_timeout_s, "no greeting was heard")
        self._mark("greeting_first_packet", self._ear.onset)
        await self._end_of_speech("the greeting did not end")
        self._mark("greeting_end", self._ear.last_loud)

    async def _turn(self, utterance: Signal, cut_after_s: float | None) -> None:
        start, end = await self._say(utterance)
        turn = Turn(self._time(start), self._time(end))
        self.report.turns.append(turn)
        if len(self.report.turns) == 1:
            self._mark("speech_start", start)
            self._mark("speech_end", end)
        elif self.report.turns[-2].talked_over:
            self._end_of_cut_answer(self.report.turns[-2])
        self._ear.listen(end)
        await self._onset(self._plan.answer_timeout_s, "no answer was heard")
        onset = self._ear.onset
        turn.answer_first_packet = self._mark("answer_first_packet", onset)
        if cut_after_s is not None:
            turn.talked_over = True
            cut_at = (onset or 0) + int(cut_after_s * RATE)
            await self._until(lambda: self._ear.position >= cut_at, cut_after_s + 5.0, "the audio stopped")
            return
        if self._plan.cough_ms and len(self.report.turns) == 1:
            await self._cough(onset or 0)
        await self._end_of_speech("the answer did not end")
        turn.answer_end = self._mark("answer_end", self._ear.last_loud)
        answer = self._recording.heard(end, self._ear.last_loud)
        turn.correlation = resemblance(utterance, answer)
        turn.longest_gap_ms = longest_gap_ms(utterance, answer)

    async def _cough(self, onset: int) -> None:
        at = onset + int(self._plan.cough_after_s * RATE)
        await self._until(lambda: self._ear.position >= at, self._plan.cough_after_s + 5.0, "the audio stopped")
        start, _ = await self._say(cough(self._plan.cough_ms))
        self._mark("cough", start)

    def _end_of_cut_answer(self, turn: Turn) -> None:
        """The answer that was talked over ended with the last speech heard before the caller had finished."""
        turn.answer_end = self._time(self._ear.last_loud)

    async def _say(self, utterance: Signal) -> tuple[int, int]:
        """Says it and returns its first sample and the one after its last."""
        speaking = self._speaking = Speaking(self._must_leg(), utterance)
        length = len(utterance)
        await self._until(lambda: speaking.played >= length, length / RATE + 10.0, "the audio stopped")
        start = speaking.start
        self._recording.say(start, utterance)
        self._speaking = None
        return start, start + length

    async def _onset(self, timeout_s: float, failure: str) -> None:
        await self._until(lambda: self._ear.onset is not None, timeout_s, failure)

    async def _end_of_speech(self, failure: str) -> None:
        await self._until(lambda: self._ear.quiet_ms() >= PAUSE_MS, ANSWER_MAX_S, failure)

    async def _until(
        self, happened: Callable[[], bool], timeout_s: float, failure: str, *, ended_ok: bool = False
    ) -> None:
        """Returns once `happened()`; raises CallFailed after `timeout_s` or when the call is over before."""
        status = self._leg_status()
        try:
            async with asyncio.timeout(timeout_s):
                while not happened():
                    if status.ended.is_set() and not ended_ok:
                        raise CallFailed(self._why_it_ended())
                    await status.changed.wait()
                    status.changed.clear()
        except TimeoutError:
            raise CallFailed(failure) from None

    def _why_it_ended(self) -> str:
        status = self._leg_status()
        return "the other side hung up" if status.answered else f"refused: {status.status} {status.reason}".rstrip()

    async def _hang_up(self, leg: Leg) -> None:
        leg.end()
        await leg.status.ended.wait()
        self.report.ended_by = "caller" if leg.status.local_bye else "pool" if leg.status.remote_bye else None

    async def _pump(self, leg: Leg) -> None:
        """Fetches what is heard; wakes whoever waits for something to happen."""
        while True:
            samples = np.frombuffer(leg.port.read(), dtype="<i2").astype(np.int16)
            if len(samples):
                self._take(samples, leg.port.counters().first_captured_ns)
            if self._speaking:
                self._speaking.look()
            leg.status.changed.set()
            before = time.monotonic()
            await asyncio.sleep(PUMP_INTERVAL_S)
            late_ms = (time.monotonic() - before - PUMP_INTERVAL_S) * 1000
            self.report.stall_ms = max(self.report.stall_ms, late_ms)

    def _take(self, samples: Signal, first_captured_ns: int) -> None:
        self._started_at = first_captured_ns / 1e6
        self._ear.hear(samples)
        self._recording.hear(samples)

    def _finish(self, leg: Leg) -> None:
        report, status = self.report, leg.status
        report.sip_call_id, report.from_tag, report.status = status.sip_call_id, status.from_tag, status.status
        report.marks = dict(sorted((report.marks | status.marks).items(), key=lambda mark: mark[1]))
        report.digits_received, report.refer_target = status.digits, status.refer_target
        report.rtp = leg.rtp
        report.recording_start = self._started_at
        heard_out = [turn for turn in report.turns if turn.correlation is not None]
        report.correlation = min((turn.correlation or 0.0 for turn in heard_out), default=None)
        report.longest_gap_ms = max((turn.longest_gap_ms or 0.0 for turn in heard_out), default=None)
        if self._started_at is not None:
            self._recording.write(self._path)
            report.recording = str(self._path)
            segments = speech_segments(self._recording.heard())
            report.heard = [Heard(self._time(segment.start), self._time(segment.end)) for segment in segments]

    def _mark(self, name: str, sample: int | None) -> float:
        """Notes when `sample` was heard, for the first time the name comes up, and returns the Unix ms."""
        at = self._time(sample or 0)
        self.report.marks.setdefault(name, at)
        return at

    def _time(self, sample: int) -> float:
        return (self._started_at or 0.0) + sample * 1000 / RATE

    def _leg_status(self) -> LegStatus:
        return self._must_leg().status

    def _must_leg(self) -> Leg:
        assert self._leg is not None
        return self._leg
