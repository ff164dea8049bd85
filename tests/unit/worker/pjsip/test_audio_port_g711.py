"""The port's G.711 against ITU-T G.711: every code, every sample."""

import numpy as np
import numpy.typing as npt
import pytest

from tests.unit.worker.pjsip.bridge import Bridge, Encoding, Samples, samples

LAWS: tuple[Encoding, ...] = ("g711_ulaw", "g711_alaw")
BOTH_LAWS = pytest.mark.parametrize("law", LAWS)
ALL_CODES = bytes(range(256))
ALL_SAMPLES = np.arange(-32768, 32768).astype(np.int16)

Codes = npt.NDArray[np.uint8]


def decode(bridge: Bridge, law: Encoding, codes: bytes) -> Samples:
    return samples(bridge.carry(codes, bridge.port(law), bridge.port()))[: len(codes)]


def encode(bridge: Bridge, law: Encoding, audio: Samples) -> Codes:
    codes = bridge.carry(audio.tobytes(), bridge.port(), bridge.port(law))
    return np.frombuffer(codes, np.uint8)[: len(audio)]


def ulaw_value(code: int) -> int:
    """Table 2 of G.711 as a formula, for 16 bits: bias 33, eight segments of sixteen steps, bits inverted."""
    segment, step = ~code >> 4 & 7, ~code & 15
    magnitude = 4 * (((2 * step + 33) << segment) - 33)
    return magnitude if code & 0x80 else -magnitude


def alaw_value(code: int) -> int:
    """Table 1 of G.711 as a formula, for 16 bits: even bits inverted, the first two segments alike."""
    segment, step = (code ^ 0x55) >> 4 & 7, (code ^ 0x55) & 15
    magnitude = 8 * (2 * step + 1) if segment == 0 else 8 * (2 * step + 33) << (segment - 1)
    return magnitude if (code ^ 0x55) & 0x80 else -magnitude


def test_every_ulaw_code_has_the_value_of_the_standard(bridge: Bridge) -> None:
    assert decode(bridge, "g711_ulaw", ALL_CODES).tolist() == [ulaw_value(code) for code in range(256)]


def test_every_alaw_code_has_the_value_of_the_standard(bridge: Bridge) -> None:
    assert decode(bridge, "g711_alaw", ALL_CODES).tolist() == [alaw_value(code) for code in range(256)]


@pytest.mark.parametrize(
    ("law", "code", "value"),
    [
        ("g711_ulaw", 0x80, 32124),
        ("g711_ulaw", 0x00, -32124),
        ("g711_ulaw", 0xFF, 0),
        ("g711_ulaw", 0xFE, 8),
        ("g711_alaw", 0xAA, 32256),
        ("g711_alaw", 0x2A, -32256),
        ("g711_alaw", 0xD5, 8),
        ("g711_alaw", 0x55, -8),
    ],
)
def test_extremes_and_the_smallest_values(bridge: Bridge, law: Encoding, code: int, value: int) -> None:
    assert decode(bridge, law, bytes([code])).tolist() == [value]
    assert encode(bridge, law, np.array([value], np.int16)).tolist() == [code]


@BOTH_LAWS
def test_every_code_survives_decoding_and_encoding(bridge: Bridge, law: Encoding) -> None:
    codes = encode(bridge, law, decode(bridge, law, ALL_CODES)).tolist()
    negative_zero = 0x7F  # u-law has two codes for 0
    assert [a for a, b in zip(range(256), codes, strict=True) if a != b] == ([negative_zero] if law == LAWS[0] else [])


@BOTH_LAWS
def test_no_sample_is_further_from_its_value_than_half_a_step(bridge: Bridge, law: Encoding) -> None:
    values = decode(bridge, law, encode(bridge, law, ALL_SAMPLES).tobytes()).astype(np.int32)
    grid = np.unique(values)
    error = np.abs(values - ALL_SAMPLES)
    inside = np.abs(ALL_SAMPLES.astype(np.int32)) <= grid.max()
    steps = np.diff(grid)
    widest = np.maximum(np.r_[steps, steps[-1]], np.r_[steps[0], steps])[np.searchsorted(grid, values)]
    assert np.all(error[inside] <= widest[inside] / 2 + 2)  # 14 significant bits: thresholds are multiples of 4
    assert np.all(values[~inside] == np.sign(ALL_SAMPLES[~inside]).astype(np.int32) * grid.max())


@BOTH_LAWS
def test_louder_samples_never_get_a_smaller_value(bridge: Bridge, law: Encoding) -> None:
    values = decode(bridge, law, encode(bridge, law, ALL_SAMPLES).tobytes()).astype(np.int32)
    assert np.all(np.diff(values) >= 0)
    assert len(np.unique(values)) == (255 if law == "g711_ulaw" else 256)


@BOTH_LAWS
def test_speech_levels_keep_the_quality_of_g711(bridge: Bridge, law: Encoding) -> None:
    sine = 8000 * np.sin(2 * np.pi * 1004 * np.arange(8000) / 8000)
    heard = decode(bridge, law, encode(bridge, law, sine.astype(np.int16)).tobytes())
    noise = heard - sine
    assert 10 * np.log10(np.mean(sine**2) / np.mean(noise**2)) > 35
