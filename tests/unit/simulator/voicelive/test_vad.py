"""When speech starts and stops. All times are audio time."""

from itertools import chain

import numpy as np
import pytest

from simulator.voicelive.audio import AudioFormat, encode
from simulator.voicelive.vad import GRID_MS, Moment, SpeechStarted, SpeechStopped, Vad, VadSettings
from tests.unit.simulator.voicelive.driving import ULAW, noise, silence, tone, voice

ALL_FORMATS = [
    ULAW,
    AudioFormat("g711_alaw", 8000),
    AudioFormat("pcm16", 8000),
    AudioFormat("pcm16", 16000),
    AudioFormat("pcm16", 24000),
]


def moments(audio: bytes, fmt: AudioFormat = ULAW, piece_ms: float = 20, **settings: float) -> list[Moment]:
    vad = Vad(fmt, VadSettings(**settings))  # type: ignore[arg-type]
    step = round(piece_ms * fmt.bytes_per_ms)
    return list(chain.from_iterable(vad.hear(audio[at : at + step]) for at in range(0, len(audio), step)))


@pytest.mark.parametrize("fmt", ALL_FORMATS)
def test_an_utterance_starts_and_stops_in_every_format(fmt: AudioFormat) -> None:
    found = moments(silence(800, fmt) + voice(1600, fmt) + silence(800, fmt), fmt)
    assert found == [SpeechStarted(496), SpeechStopped(2608)]  # 800 - 300 and 2400 + 200, on the grid


def test_the_start_includes_the_prefix_padding() -> None:
    audio = silence(1600) + voice(800)
    assert moments(audio, prefix_padding_ms=0) == [SpeechStarted(1600)]
    assert moments(audio, prefix_padding_ms=400) == [SpeechStarted(1200)]


def test_the_padding_does_not_reach_before_the_call() -> None:
    assert moments(silence(100) + voice(800)) == [SpeechStarted(0)]


def test_the_padding_does_not_reach_into_the_utterance_before() -> None:
    audio = voice(800) + silence(256) + voice(800)
    first, stopped, second = moments(audio, prefix_padding_ms=400)
    assert (first, second) == (SpeechStarted(0), SpeechStarted(stopped.at_ms))


@pytest.mark.parametrize("silence_ms", [200, 500, 1000])
def test_the_end_includes_the_silence_that_ended_it(silence_ms: int) -> None:
    *_, stopped = moments(voice(1600) + silence(2000), silence_duration_ms=silence_ms)
    assert isinstance(stopped, SpeechStopped)
    assert 0 <= stopped.at_ms - 1600 - silence_ms < GRID_MS


def test_nothing_ends_without_further_audio() -> None:
    assert moments(voice(1600)) == [SpeechStarted(0)]


def test_a_pause_shorter_than_the_silence_duration_does_not_end_speech() -> None:
    found = moments(voice(800) + silence(400) + voice(800) + silence(800), silence_duration_ms=500)
    assert [type(moment) for moment in found] == [SpeechStarted, SpeechStopped]


def test_a_click_is_not_speech() -> None:
    assert moments(silence(500) + voice(48) + silence(500) + voice(48) + silence(500)) == []


def test_the_speech_duration_says_how_much_voice_it_takes() -> None:
    audio = silence(500) + voice(160) + silence(1000)
    assert moments(audio, speech_duration_ms=200) == []
    assert len(moments(audio, speech_duration_ms=80)) == 2


def test_the_size_of_the_pieces_does_not_matter() -> None:
    audio = silence(700) + voice(1300) + silence(900) + voice(600) + silence(900)
    expected = moments(audio)
    assert len(expected) == 4
    for piece_ms in (0.125, 7, 16, 100, 10_000):
        assert moments(audio, piece_ms=piece_ms) == expected


def test_moments_lie_on_the_grid() -> None:
    found = moments(silence(333) + voice(777) + silence(555), prefix_padding_ms=111)
    assert [moment.at_ms % GRID_MS for moment in found] == [0, 0]


@pytest.mark.parametrize("level_db", [-65, -55, -50])
def test_line_noise_is_not_speech(level_db: float) -> None:
    assert moments(encode(noise(5000, level_db), ULAW)) == []


def test_speech_over_line_noise_is_found_and_ends() -> None:
    samples = noise(4000, -50)
    samples[8000:20000] += tone(1500)
    started, stopped = moments(encode(samples, ULAW), prefix_padding_ms=0)
    assert started == SpeechStarted(992)
    assert 2500 + 200 <= stopped.at_ms < 2500 + 300


def test_noise_that_grows_loud_stops_counting_as_speech() -> None:
    samples = np.concatenate([noise(1000, -70), noise(20_000, -38)])
    assert [type(moment) for moment in moments(encode(samples, ULAW))] == [SpeechStarted, SpeechStopped]


def test_a_higher_threshold_needs_louder_speech() -> None:
    quiet = encode(np.concatenate([noise(500, -70), tone(1000, level=0.01), noise(500, -70)]), ULAW)
    assert moments(quiet, threshold=1.0) == []
    assert len(moments(quiet, threshold=0.2)) == 2


def test_restarting_forgets_speech_in_progress() -> None:
    vad = Vad(ULAW, VadSettings())
    assert list(vad.hear(voice(800))) == [SpeechStarted(0)]
    vad.restart(not_before_ms=800)
    assert list(vad.hear(silence(800))) == []
    assert list(vad.hear(voice(800))) == [SpeechStarted(1296)]
