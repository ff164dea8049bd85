"""What the port's resampler does to sound: bars of 85 dB and 3 ms, whichever way the audio is cut into chunks."""

import importlib.util
import random
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest

from tests.unit.worker.pjsip.bridge import Bridge, samples

NATIVE = Path(__file__).parents[4] / "worker/pjsip/native"
BOTH_RATES = pytest.mark.parametrize("open_bridge", [8000, 16000], indirect=True)
WIDE = 24000
TAIL = 16
"""Samples at the bridge rate by which the filter delays: 2 ms at 8 kHz, 1 ms at 16 kHz."""

SNR_DB = 85.0
HALF_SCALE = 16384.0
"""-6 dBFS. Rounding to 16 bits alone leaves 93 dB at this level."""

Signal = npt.NDArray[np.float64]


def tone(frequency: float, rate: int, seconds: float = 1.0) -> Signal:
    return HALF_SCALE * np.sin(2 * np.pi * frequency * np.arange(int(rate * seconds)) / rate)


def chirp(low: float, high: float, rate: int, seconds: float = 1.0) -> Signal:
    time = np.arange(int(rate * seconds)) / rate
    return HALF_SCALE * np.sin(2 * np.pi * (low * time + (high - low) * time**2 / (2 * seconds)))


def pcm16(signal: Signal) -> bytes:
    return np.rint(signal).astype("<i2").tobytes()


def down(bridge: Bridge, signal: Signal) -> Signal:
    """`signal` at 24 kHz, as the caller's side hears it at the bridge rate."""
    return samples(bridge.carry(pcm16(signal), bridge.port(rate=WIDE), bridge.port())).astype(np.float64)


def up(bridge: Bridge, signal: Signal) -> Signal:
    """`signal` at the bridge rate, as the model's side hears it at 24 kHz."""
    return samples(bridge.carry(pcm16(signal), bridge.port(), bridge.port(rate=WIDE))).astype(np.float64)


def snr_db(heard: Signal, wanted: Signal, delay: int) -> float:
    """Of what was heard against the ideal signal, `delay` samples later; nothing is fitted. Ends are left out."""
    margin = len(wanted) // 20
    error = heard[delay + margin : delay + len(wanted) - margin] - wanted[margin:-margin]
    return float(10 * np.log10(np.mean(wanted[margin:-margin] ** 2) / np.mean(error**2)))


def level_db(signal: Signal, frequency: float, rate: int) -> float:
    """Level of one frequency, in dB of half scale."""
    middle = signal[len(signal) // 10 : -len(signal) // 10]
    window = np.blackman(len(middle))
    turn = np.exp(-2j * np.pi * frequency * np.arange(len(middle)) / rate)
    amplitude = 2 * abs(np.sum(middle * window * turn)) / np.sum(window)
    return float(20 * np.log10(max(amplitude / HALF_SCALE, 1e-9)))


@BOTH_RATES
def test_model_speech_reaches_the_caller_undistorted(bridge: Bridge) -> None:
    scale = bridge.rate / 8000  # 3.3 kHz of telephone band, 6.6 kHz of wide band
    for wide, narrow in (
        (tone(1000, WIDE), tone(1000, bridge.rate)),
        (chirp(100, 3300 * scale, WIDE), chirp(100, 3300 * scale, bridge.rate)),
    ):
        assert snr_db(down(bridge, wide), narrow, TAIL) >= SNR_DB


@BOTH_RATES
def test_caller_speech_reaches_the_model_undistorted(bridge: Bridge) -> None:
    scale = bridge.rate / 8000
    delay = TAIL * WIDE // bridge.rate
    for narrow, wide in (
        (tone(1000, bridge.rate), tone(1000, WIDE)),
        (chirp(100, 3300 * scale, bridge.rate), chirp(100, 3300 * scale, WIDE)),
    ):
        assert snr_db(up(bridge, narrow), wide, delay) >= SNR_DB


@BOTH_RATES
def test_delay_is_at_most_three_milliseconds(bridge: Bridge) -> None:
    click = np.zeros(WIDE // 10)
    click[:3] = HALF_SCALE  # one sample of 8 kHz
    assert np.argmax(np.abs(down(bridge, click))) <= 0.003 * bridge.rate
    assert np.argmax(np.abs(up(bridge, click[: bridge.rate // 10]))) <= 0.003 * WIDE


@BOTH_RATES
def test_harmonics_stay_below_the_noise(bridge: Bridge) -> None:
    heard = up(bridge, tone(1000, bridge.rate))
    assert max(level_db(heard, 1000 * harmonic, WIDE) for harmonic in range(2, 12)) <= -SNR_DB
    heard = down(bridge, tone(1000, WIDE))
    assert max(level_db(heard, 1000 * harmonic, bridge.rate) for harmonic in range(2, 4)) <= -SNR_DB


def test_sound_above_the_telephone_band_does_not_fold_back(bridge: Bridge) -> None:
    for frequency in (4700, 5000, 7000, 11000):
        heard = down(bridge, tone(frequency, WIDE))
        alias = abs(frequency - 8000 * round(frequency / 8000))
        assert level_db(heard, alias, 8000) <= -SNR_DB


def test_telephone_sound_has_no_image_above_its_band(bridge: Bridge) -> None:
    for frequency in (300, 1000, 3200):
        heard = up(bridge, tone(frequency, 8000))
        for image in (8000 - frequency, 8000 + frequency):
            assert level_db(heard, image, WIDE) <= -SNR_DB


def test_full_scale_clips_and_does_not_wrap(bridge: Bridge) -> None:
    square = np.where(tone(200, WIDE) >= 0, 32767.0, -32768.0)
    heard = down(bridge, square)[400:4000]
    assert heard.max() == 32767
    assert heard.min() == -32768
    assert np.all(np.sign(heard) == np.sign(down(bridge, square / 2)[400:4000]))


@BOTH_RATES
@pytest.mark.parametrize("seed", range(5))
def test_how_audio_is_cut_into_writes_makes_no_difference(bridge: Bridge, seed: int) -> None:
    choose = random.Random(seed)
    audio = pcm16(chirp(100, 3300, WIDE, 0.5))
    whole, pieces, listener = bridge.port(rate=WIDE), bridge.port(rate=WIDE), bridge.port()
    expected = bridge.carry(audio, whole, listener)
    bridge.pair(pieces, listener)
    at = 0
    while at < len(audio):
        at += pieces.write(audio[at : at + 2 * choose.choice((1, 2, 3, 159, 160, 480, 481, 1000))])
    pieces.finish()
    heard = bytearray()
    while pieces.counters().queued:
        bridge.tick()
        heard += listener.read()
    assert heard == expected


@BOTH_RATES
def test_finish_plays_the_answer_to_its_last_sample(bridge: Bridge) -> None:
    wide, narrow = tone(1000, WIDE, 0.1), tone(1000, bridge.rate, 0.1)
    speaker, listener = bridge.port(rate=WIDE), bridge.port()
    heard = samples(bridge.carry(pcm16(wide), speaker, listener))
    assert speaker.counters().written == len(narrow) + TAIL
    # The last millisecond rings: the sound stops within the filter's length.
    middle = slice(TAIL + 20, TAIL + len(narrow) - 20)
    assert np.max(np.abs(heard[middle] - narrow[20:-20])) <= 1


@BOTH_RATES
def test_an_answer_holds_nothing_of_the_one_before(bridge: Bridge) -> None:
    speaker, listener = bridge.port(rate=WIDE), bridge.port()
    for end in (speaker.finish, speaker.flush):
        bridge.pair(speaker, listener)
        speaker.write(pcm16(tone(1000, WIDE, 0.1)))
        end()
        speaker.flush()
        heard = bridge.carry(bytes(2 * WIDE // 10), speaker, listener)
        assert not samples(heard).any()


def test_checked_in_taps_are_what_the_design_gives() -> None:
    assert (NATIVE / "taps.h").read_text() == (design := _design_taps()).render(design.design())


def _design_taps() -> ModuleType:
    spec = importlib.util.spec_from_file_location("design_taps", NATIVE / "design_taps.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
