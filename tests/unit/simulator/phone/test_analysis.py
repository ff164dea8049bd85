"""The judge is judged: what the acceptance tests rely on finds wrong audio, swapped calls and holes."""

import numpy as np
import pytest

from simulator.phone.analysis import (
    FRAME,
    RATE,
    Signal,
    align,
    frame_rms,
    longest_gap_ms,
    resemblance,
    speech_segments,
)
from simulator.phone.speech import say, sentence


def silence(ms: int) -> Signal:
    return np.zeros(ms * RATE // 1000, dtype=np.int16)


def tone(ms: int, hz: float = 440.0, peak: float = 8000.0) -> Signal:
    t = np.arange(ms * RATE // 1000) / RATE
    return np.asarray(peak * np.sin(2 * np.pi * hz * t), dtype=np.int16)


def hole(signal: Signal, at: int, ms: int) -> Signal:
    result = signal.copy()
    result[at : at + ms * RATE // 1000] = 0
    return result


def mu_law(signal: Signal) -> Signal:
    """The signal after G.711 u-law's logarithmic quantisation, continuous form."""
    x = signal / 32768.0
    y = np.sign(x) * np.log1p(255 * np.abs(x)) / np.log(256)
    y = np.round(y * 127) / 127
    return np.asarray(np.sign(y) * (np.exp(np.abs(y) * np.log(256)) - 1) / 255 * 32767, dtype=np.int16)


@pytest.fixture(scope="module")
def spoken() -> Signal:
    return say("the quick brown fox jumps over seven lazy dogs")


def loudest(signal: Signal, ms: int) -> int:
    """First sample of the stretch of `ms` that is loud all through: a hole put there is a hole in speech."""
    frames = np.lib.stride_tricks.sliding_window_view(frame_rms(signal), ms // 20)
    return int(np.argmax(frames.min(axis=1))) * FRAME


def test_the_same_audio_correlates_wholly_and_tells_its_delay(spoken: Signal) -> None:
    found = align(spoken, np.concatenate([silence(137), spoken, silence(60)]))
    assert found.lag == 137 * RATE // 1000
    assert found.correlation == pytest.approx(1.0, abs=1e-3)


def test_loudness_does_not_matter(spoken: Signal) -> None:
    assert align(spoken, np.asarray(spoken // 4, dtype=np.int16)).correlation > 0.999


def test_the_codec_does_not_matter(spoken: Signal) -> None:
    assert align(spoken, mu_law(spoken)).correlation > 0.995


def test_a_cut_off_head_has_a_negative_lag_and_correlates_less(spoken: Signal) -> None:
    found = align(spoken, spoken[len(spoken) // 3 :])
    assert found.lag == -(len(spoken) // 3)
    assert found.correlation < 0.95


def test_another_sentence_does_not_correlate(spoken: Signal) -> None:
    assert align(spoken, say("paper boats and seventeen wooden spoons")).correlation < 0.5


def test_the_sentences_of_twenty_callers_are_told_apart() -> None:
    said = [say(sentence(number)) for number in range(20)]
    for number, reference in enumerate(said):
        others = said[:number] + said[number + 1 :]
        assert max(align(reference, other).correlation for other in others) < 0.5


def test_noise_does_not_correlate(spoken: Signal) -> None:
    noise = np.random.default_rng(1).normal(0, 3000, len(spoken)).astype(np.int16)
    assert align(spoken, noise).correlation < 0.2


def test_a_second_voice_mixed_in_lowers_the_correlation(spoken: Signal) -> None:
    other = say("paper boats and seventeen wooden spoons")
    length = min(len(spoken), len(other))
    assert align(spoken, spoken[:length] // 2 + other[:length] // 2).correlation < 0.95


def test_a_second_sentence_after_the_right_one_lowers_the_correlation(spoken: Signal) -> None:
    assert align(spoken, np.concatenate([spoken, spoken])).correlation < 0.95


def test_audio_skipped_in_the_middle_lowers_the_correlation(spoken: Signal) -> None:
    middle = len(spoken) // 2
    assert align(spoken, np.concatenate([spoken[:middle], spoken[middle + FRAME :]])).correlation < 0.95


def test_silence_does_not_correlate_with_anything(spoken: Signal) -> None:
    assert align(spoken, silence(1000)).correlation == 0.0
    assert align(silence(1000), silence(1000)).correlation == 0.0
    assert align(spoken, silence(0)).correlation == 0.0


def test_a_constant_added_by_the_codec_is_not_taken_for_audio(spoken: Signal) -> None:
    with_bias = np.full(len(spoken), 8, dtype=np.int16)
    assert align(spoken, with_bias).correlation == 0.0
    assert align(spoken, np.asarray(spoken + 8, dtype=np.int16)).correlation > 0.999


def test_whole_audio_has_no_gap(spoken: Signal) -> None:
    assert longest_gap_ms(spoken, spoken) == 0.0
    assert longest_gap_ms(spoken, mu_law(np.concatenate([silence(50), spoken]))) == 0.0


@pytest.mark.parametrize("ms", [20, 40, 100])
def test_a_hole_in_speech_is_measured(spoken: Signal, ms: int) -> None:
    damaged = hole(spoken, loudest(spoken, ms), ms)
    assert ms - 5 <= longest_gap_ms(spoken, damaged) <= ms


def test_a_hole_of_40_ms_is_found_anywhere_in_steady_sound() -> None:
    steady = tone(1000)
    for at in range(0, 7000, 173):
        assert 35 <= longest_gap_ms(steady, hole(steady, at, 40)) <= 40


def test_a_pause_of_the_speaker_is_no_gap() -> None:
    said = np.concatenate([tone(300), silence(400), tone(300)])
    assert longest_gap_ms(said, said) == 0.0


def test_a_missing_end_is_a_gap() -> None:
    steady = np.random.default_rng(1).integers(-8000, 8000, RATE).astype(np.int16)  # fits into itself at one place only
    assert longest_gap_ms(steady, steady[: RATE // 2]) == pytest.approx(500, abs=3)
    assert longest_gap_ms(steady, steady[RATE // 2 :]) == pytest.approx(500, abs=3)


def test_speech_is_found_between_silence() -> None:
    signal = np.concatenate([silence(200), tone(600), silence(1000), tone(400), silence(100)])
    found = speech_segments(signal)
    assert [(s.start * 1000 // RATE, s.end * 1000 // RATE) for s in found] == [(200, 800), (1800, 2200)]


def test_a_pause_within_a_sentence_does_not_end_it() -> None:
    signal = np.concatenate([tone(600), silence(300), tone(400)])
    assert len(speech_segments(signal, pause_ms=500)) == 1
    assert len(speech_segments(signal, pause_ms=200)) == 2


def test_idle_noise_of_a_law_is_not_speech() -> None:
    assert speech_segments(np.full(RATE, 8, dtype=np.int16)) == []


def slipped(signal: Signal, at: int, ms: int) -> Signal:
    """The signal with `ms` dropped (negative) or inserted at a sample, as a jitter buffer does."""
    samples = abs(ms) * RATE // 1000
    if ms < 0:
        return np.concatenate([signal[:at], signal[at + samples :]])
    return np.concatenate([signal[:at], signal[at - samples : at], signal[at:]])


@pytest.mark.parametrize("ms", [-20, -10, 10, 20])
def test_a_jitter_buffers_slip_is_followed(spoken: Signal, ms: int) -> None:
    heard = slipped(slipped(spoken, len(spoken) // 3, ms), 2 * len(spoken) // 3, ms)
    assert align(spoken, heard).correlation < 0.95
    assert resemblance(spoken, heard) >= 0.95
    assert longest_gap_ms(spoken, heard) <= 20.0


def test_resemblance_of_the_same_audio_is_whole(spoken: Signal) -> None:
    assert resemblance(spoken, np.concatenate([silence(137), mu_law(spoken), silence(60)])) > 0.995


def test_other_words_do_not_resemble_however_the_clock_may_slip(spoken: Signal) -> None:
    assert resemblance(spoken, say("paper boats and seventeen wooden spoons")) < 0.8
    said = [say(sentence(number)) for number in range(6)]
    assert max(resemblance(said[0], other) for other in said[1:]) < 0.8


def test_two_voices_at_once_do_not_resemble_one(spoken: Signal) -> None:
    other = say("paper boats and seventeen wooden spoons")
    length = min(len(spoken), len(other))
    assert resemblance(spoken, spoken[:length] // 2 + other[:length] // 2) < 0.95


def test_a_part_that_is_missing_or_too_much_lowers_resemblance(spoken: Signal) -> None:
    assert resemblance(spoken, spoken[len(spoken) // 3 :]) < 0.95
    assert resemblance(spoken, np.concatenate([spoken, spoken])) < 0.95
    assert resemblance(spoken, silence(1000)) == 0.0


def test_a_hole_is_found_where_the_clock_has_slipped(spoken: Signal) -> None:
    at = loudest(spoken, 100)
    heard = hole(slipped(spoken, at // 2, 20), at + 30 * RATE // 1000, 40)
    assert longest_gap_ms(spoken, heard) > 20.0
