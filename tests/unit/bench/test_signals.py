"""Signals of known delay, noise, distortion and damage."""

import numpy as np
import pytest

from bench import signals
from bench.load.clips import PCMU, decode
from bench.signals import Part, Signal

RATE = 24000
BLOCK = 480
PEAK = 10000.0


def noise(length: int, rms: float) -> Signal:
    return np.random.default_rng(7).normal(0, rms, length)


def probe() -> Signal:
    """A sine, a chirp and noise in the telephone band, two seconds each, with pauses."""
    pause = np.zeros(RATE // 2)
    hiss = signals.without(noise(2 * RATE, PEAK / 3), RATE, 3300, RATE)
    sine = signals.sine(1019.3, 2, RATE, PEAK)
    return np.concatenate([pause, sine, pause, signals.chirp(100, 3300, 2, RATE, PEAK), pause, hiss, pause])


def test_a_sine_is_found_with_its_noise() -> None:
    time_s = np.arange(2 * RATE) / RATE
    heard = PEAK * np.sin(2 * np.pi * 1019.3 * time_s + 0.4) + noise(len(time_s), PEAK / np.sqrt(2) / 100)

    found = signals.fit_sine(heard, 1019.3, RATE, 4000)

    assert found.amplitude == pytest.approx(PEAK, rel=1e-3)
    assert found.snr_db == pytest.approx(40, abs=0.1)
    assert found.thd_db < -70


def test_harmonics_are_told_from_noise_and_those_beyond_the_band_do_not_count() -> None:
    turns = 2 * np.pi * 1019.3 * np.arange(2 * RATE) / RATE
    heard = PEAK * (np.sin(turns) + 0.01 * np.sin(2 * turns + 1) + 0.1 * np.cos(5 * turns)) + noise(len(turns), 20)

    found = signals.fit_sine(heard, 1019.3, RATE, 4000)

    assert found.thd_db == pytest.approx(-40, abs=0.1)
    assert found.snr_db == pytest.approx(20, abs=0.2)


def test_a_chirp_goes_from_its_first_to_its_last_frequency() -> None:
    made = signals.chirp(100, 3300, 4, RATE, PEAK)
    crossings = np.flatnonzero(np.diff(np.signbit(made)))

    assert np.abs(made).max() == pytest.approx(PEAK, rel=1e-3)
    assert np.count_nonzero(crossings < RATE) == pytest.approx(2 * (100 + 400), abs=4)
    assert np.count_nonzero(crossings >= 3 * RATE) == pytest.approx(2 * 2900, abs=4)


@pytest.mark.parametrize("delay", [0.0, 0.3, -0.45])
def test_gain_and_delay_below_a_sample_are_fitted(delay: float) -> None:
    sent = probe()
    heard = 0.8 * signals.delayed(sent, 100 + delay) + noise(len(sent), 0.8 * PEAK / np.sqrt(2) / 1000)

    found = signals.fit(sent, heard, Part(3 * RATE, 5 * RATE - BLOCK, 100))

    assert found.delay == pytest.approx(delay, abs=1e-3)
    assert found.snr_db == pytest.approx(60, abs=0.3)


def test_the_deviation_shows_at_which_frequency_it_is() -> None:
    sent = signals.chirp(100, 3300, 4, RATE, PEAK)
    hum = np.concatenate([np.zeros(3 * RATE), noise(RATE, PEAK / np.sqrt(2) / 100)])

    curve = signals.deviation(signals.Fit(sent, sent + hum, 0.0), 100, 3300)

    assert curve.db[curve.hz > 2550] == pytest.approx(-40, abs=3)
    assert (curve.db[curve.hz < 2450] < -100).all()


def test_resampling_there_and_back_changes_nothing() -> None:
    sent = signals.without(probe(), RATE, 3990, RATE)

    back = signals.resample(signals.resample(sent, RATE, 8000), 8000, RATE)

    assert signals.ratio_db(sent, back - sent) > 120


@pytest.mark.parametrize(("cut", "offset"), [(0, 1234), (700, -700)])
def test_a_pattern_is_found_whether_or_not_its_beginning_came(cut: int, offset: int) -> None:
    sent = probe()
    heard = np.concatenate([np.zeros(max(0, offset)), sent[cut:], np.zeros(99)])

    assert signals.find(sent, heard) == offset


def test_an_undisturbed_signal_is_one_part() -> None:
    sent = probe()
    heard = np.concatenate([np.zeros(1000), signals.delayed(sent, 0.5)])

    found, slips = signals.parts(sent, heard, BLOCK)

    assert slips == 0
    assert [part.offset for part in found] in ([1000], [1001])
    assert found[0].end - found[0].begin > 6.9 * RATE


@pytest.mark.parametrize("at", [RATE, 4 * RATE + 77, 6 * RATE])
@pytest.mark.parametrize("blocks", [-1, 1, 3])
def test_blocks_left_out_or_inserted_are_one_slip(at: int, blocks: int) -> None:
    sent = probe()
    inserted = np.zeros(max(0, blocks) * BLOCK)
    heard = np.concatenate([sent[:at], inserted, sent[at + max(0, -blocks) * BLOCK :]])

    found, slips = signals.parts(sent, heard, BLOCK)

    assert slips == 1
    assert found[-1].offset - found[0].offset == blocks * BLOCK
    assert found[0].end <= at <= found[-1].begin + BLOCK


def test_a_replaced_block_is_one_slip_and_shifts_nothing() -> None:
    sent = probe()
    heard = sent.copy()
    heard[4 * RATE : 4 * RATE + BLOCK] = 0

    found, slips = signals.parts(sent, heard, BLOCK)

    assert slips == 1
    assert [part.offset for part in found] == [0, 0]


def test_the_longest_part_is_that_within_the_bounds() -> None:
    found = [Part(0, 100, 0), Part(100, 250, 5), Part(300, 900, 7)]

    assert signals.longest(found, 50, 350) == Part(100, 250, 5)
    assert signals.longest(found, 260, 290) is None


@pytest.mark.parametrize("rms", [0.5, 2.0])
def test_an_error_before_g711_is_measured_through_it(rms: float) -> None:
    ideal = signals.chirp(100, 3300, 10, 8000, PEAK)
    error = noise(len(ideal), rms)
    whole = np.rint(ideal + error).astype(np.int16)

    found = signals.hidden_snr_db(ideal, decode(_standard(whole), PCMU).astype(np.float64))

    assert found == pytest.approx(signals.ratio_db(ideal, error), abs=1.5)


def test_an_undisturbed_signal_before_g711_shows_no_error() -> None:
    ideal = signals.chirp(100, 3300, 2, 8000, PEAK)
    decoded = decode(_standard(np.rint(ideal).astype(np.int16)), PCMU).astype(np.float64)

    assert signals.hidden_snr_db(ideal, decoded) > 120


def _standard(samples: np.ndarray[tuple[int], np.dtype[np.int16]]) -> bytes:
    """G.711 with the thresholds of the standard: at the ends of its segments `encode` rounds to the nearer value."""
    magnitude = np.minimum(np.abs(samples.astype(np.int64)) // 4 + 33, 8191)
    segment = np.floor(np.log2(magnitude)).astype(np.int64) - 5
    code = segment << 4 | (magnitude >> segment + 1 & 15)
    return bytes((~np.where(samples < 0, code | 0x80, code) & 0xFF).astype(np.uint8))
