"""Formats and conversions. Says nothing about speech."""

import numpy as np
import pytest

from simulator.voicelive.audio import (
    OUTPUT_FORMATS,
    AudioFormat,
    Clip,
    convert,
    decode,
    decoding_table,
    encode,
    input_format,
    resample,
)

ULAW, ALAW = AudioFormat("g711_ulaw", 8000), AudioFormat("g711_alaw", 8000)


def sine(rate: int, hertz: float, seconds: float = 2.0) -> np.ndarray:
    return 10_000 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)


def snr_db(wanted: np.ndarray, got: np.ndarray) -> float:
    """Over the middle of the signals: an utterance that begins in full swing rings at its edges at any quality."""
    middle = slice(len(wanted) // 10, -len(wanted) // 10)
    error = got[middle] - wanted[middle]
    return float(10 * np.log10(np.mean(wanted[middle] ** 2) / np.mean(error**2)))


@pytest.mark.parametrize(
    ("encoding", "code", "sample"),
    [
        ("g711_ulaw", 0xFF, 0),
        ("g711_ulaw", 0x80, 32124),
        ("g711_ulaw", 0x00, -32124),
        ("g711_ulaw", 0xF0, 120),
        ("g711_alaw", 0xD5, 8),
        ("g711_alaw", 0x55, -8),
        ("g711_alaw", 0xAA, 32256),
        ("g711_alaw", 0x2A, -32256),
    ],
)
def test_g711_codes_mean_what_the_recommendation_says(encoding: str, code: int, sample: int) -> None:
    assert decoding_table(encoding)[code] == sample


@pytest.mark.parametrize("fmt", [ULAW, ALAW])
def test_g711_survives_decoding_and_encoding(fmt: AudioFormat) -> None:
    codes = bytes(code for code in range(256) if code != 0x7F)  # u-law has two zeros; the negative one is not kept
    assert encode(decode(codes, fmt), fmt) == codes


@pytest.mark.parametrize("fmt", [ULAW, ALAW])
def test_g711_is_as_exact_as_g711_can_be(fmt: AudioFormat) -> None:
    wanted = sine(8000, 440)
    got = decode(encode(np.rint(wanted).astype(np.int16), fmt), fmt)
    assert snr_db(wanted, got.astype(np.float64)) > 36


def test_loud_samples_are_clipped_not_wrapped() -> None:
    samples = np.array([32767, -32768], dtype=np.int16)
    for fmt in (ULAW, ALAW):
        high, low = decode(encode(samples, fmt), fmt)
        assert high > 32000 and low < -32000


@pytest.mark.parametrize("fmt", OUTPUT_FORMATS.values())
def test_audio_in_the_wanted_format_is_left_alone(fmt: AudioFormat) -> None:
    data = bytes(range(256)) * 3
    assert convert(Clip(data, fmt), fmt) is data


@pytest.mark.parametrize("rates", [(8000, 24000), (24000, 8000), (16000, 24000), (22050, 8000), (22050, 24000)])
def test_resampling_keeps_speech_frequencies_clean(rates: tuple[int, int]) -> None:
    source, target = rates
    got = resample(np.rint(sine(source, 1000)).astype(np.int16), source, target)
    assert len(got) == 2 * target
    assert snr_db(sine(target, 1000), got.astype(np.float64)) > 80


def test_resampling_down_lets_nothing_fold_back() -> None:
    got = resample(np.rint(sine(24000, 5000)).astype(np.int16), 24000, 8000)
    assert np.max(np.abs(got[1600:-1600])) <= 1


@pytest.mark.parametrize("length", [0, 1, 7, 159, 160, 2401])
def test_resampling_keeps_the_duration(length: int) -> None:
    got = resample(np.ones(length, dtype=np.int16), 24000, 8000)
    assert len(got) == -(-length // 3)


def test_durations_follow_from_the_format() -> None:
    assert Clip(b"\0" * 160, ULAW).ms == 20
    assert Clip(b"\0" * 960, OUTPUT_FORMATS["pcm16"]).ms == 20


def test_the_sampling_rate_counts_for_pcm_only() -> None:
    assert input_format("pcm16", 16000) == AudioFormat("pcm16", 16000)
    assert input_format("pcm16", None) == AudioFormat("pcm16", 24000)
    assert input_format("g711_ulaw", 24000) == ULAW
