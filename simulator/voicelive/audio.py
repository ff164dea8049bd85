"""Knows the audio formats of Voice Live and converts between them. Does not synthesise or detect speech.

Samples are numpy int16 mono throughout. Resampling works on a whole utterance at once, in the frequency domain:
no streaming state, no filter delay, and no scipy at run time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import gcd
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.int16]

# Silence on either side of a resampled utterance, so that its circular convolution cannot wrap audible sound around.
_GUARD_S = 0.05

# The transition band of the resampler: flat up to 96 % of the lower Nyquist frequency, nothing above it.
_PASS_FRACTION = 0.96


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """How samples lie on the wire: encoding `pcm16` (little endian), `g711_ulaw` or `g711_alaw`; rate in Hz."""

    encoding: str
    rate: int

    @property
    def bytes_per_ms(self) -> int:
        return self.rate // 1000 * (2 if self.encoding == "pcm16" else 1)


@dataclass(frozen=True, slots=True)
class Clip:
    """A stretch of audio in one format."""

    data: bytes
    format: AudioFormat

    @property
    def ms(self) -> float:
        return len(self.data) / self.format.bytes_per_ms


INPUT_ENCODINGS = ("pcm16", "g711_ulaw", "g711_alaw")
INPUT_RATES = (8000, 16000, 24000)
DEFAULT_INPUT_RATE = 24000

# session.output_audio_format and response.create's output_audio_format
OUTPUT_FORMATS: Mapping[str, AudioFormat] = MappingProxyType(
    {
        "pcm16": AudioFormat("pcm16", 24000),
        "pcm16_8000hz": AudioFormat("pcm16", 8000),
        "pcm16_16000hz": AudioFormat("pcm16", 16000),
        "g711_ulaw": AudioFormat("g711_ulaw", 8000),
        "g711_alaw": AudioFormat("g711_alaw", 8000),
    }
)


def input_format(encoding: str, sampling_rate: int | None) -> AudioFormat:
    """The format behind `input_audio_format` and `input_audio_sampling_rate`; G.711 is 8 kHz whatever the rate says."""
    if encoding != "pcm16":
        return AudioFormat(encoding, 8000)
    return AudioFormat(encoding, sampling_rate or DEFAULT_INPUT_RATE)


def decode(data: bytes, fmt: AudioFormat) -> Samples:
    """The samples in `data`; an odd last byte of PCM is left out."""
    if fmt.encoding == "pcm16":
        return np.frombuffer(data, dtype="<i2", count=len(data) // 2)
    return decoding_table(fmt.encoding)[np.frombuffer(data, dtype=np.uint8)]


def encode(samples: Samples, fmt: AudioFormat) -> bytes:
    """`samples` as the bytes of `fmt` (the rate is the caller's business)."""
    if fmt.encoding == "pcm16":
        return samples.astype("<i2").tobytes()
    return _encoding_table(fmt.encoding)[samples.view(np.uint16)].tobytes()


def convert(clip: Clip, to: AudioFormat) -> bytes:
    """`clip` in another format: untouched when the formats are equal, resampled only when the rates differ."""
    if clip.format == to:
        return clip.data
    return encode(resample(decode(clip.data, clip.format), clip.format.rate, to.rate), to)


def resample(samples: Samples, from_rate: int, to_rate: int) -> Samples:
    """The same sound at `to_rate`, band-limited to the lower of the two Nyquist frequencies.

    The whole utterance is transformed at once, so the filter is exactly linear in phase and adds no delay.
    """
    if from_rate == to_rate or not len(samples):
        return samples
    step = from_rate // gcd(from_rate, to_rate)
    guard = _round_up(int(_GUARD_S * from_rate), step)
    total = _transform_length(len(samples) + 2 * guard, step)
    padded = np.zeros(total, dtype=np.float64)
    padded[guard : guard + len(samples)] = samples
    out_total = total * to_rate // from_rate
    spectrum = np.fft.rfft(padded)
    bins = np.zeros(out_total // 2 + 1, dtype=np.complex128)
    keep = min(len(bins), len(spectrum))
    bins[:keep] = spectrum[:keep] * _low_pass(keep, total, from_rate, min(from_rate, to_rate) / 2)
    wave = np.fft.irfft(bins, out_total) * (to_rate / from_rate)
    start = guard * to_rate // from_rate
    length = -(-len(samples) * to_rate // from_rate)
    return np.clip(np.rint(wave[start : start + length]), -32768, 32767).astype(np.int16)


@cache
def decoding_table(encoding: str) -> Samples:
    """The 256 sample values of a G.711 encoding (ITU-T G.711, tables 1a and 2a, scaled to 16 bits)."""
    code = np.arange(256, dtype=np.int32)
    if encoding == "g711_ulaw":
        code = ~code & 0xFF
        size = (((code & 0x0F) << 3) + 0x84) << ((code & 0x70) >> 4)
        value = np.where(code & 0x80, 0x84 - size, size - 0x84)
    else:
        code = code ^ 0x55
        segment = (code & 0x70) >> 4
        size = ((code & 0x0F) << 4) + np.where(segment == 0, 0x08, 0x108)
        size = size << np.maximum(segment - 1, 0)
        value = np.where(code & 0x80, size, -size)
    return value.astype(np.int16)


@cache
def _encoding_table(encoding: str) -> npt.NDArray[np.uint8]:
    """The code of each 16-bit sample, indexed by the sample seen as unsigned."""
    sample = np.arange(65536, dtype=np.uint16).view(np.int16).astype(np.int32)
    return (_ulaw_codes(sample) if encoding == "g711_ulaw" else _alaw_codes(sample)).astype(np.uint8)


def _ulaw_codes(sample: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    size = np.minimum(np.abs(sample), 32635) + 0x84
    segment = np.floor(np.log2(size)).astype(np.int32) - 7
    code = (segment << 4) | ((size >> (segment + 3)) & 0x0F) | np.where(sample < 0, 0x80, 0)
    return np.asarray(~code & 0xFF, dtype=np.int32)


def _alaw_codes(sample: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    size = np.where(sample < 0, ~sample, sample) >> 4  # 12-bit magnitude; ~x so that -1 and 0 share the lowest step
    segment = np.where(size < 16, 0, np.floor(np.log2(np.maximum(size, 1))).astype(np.int32) - 3)
    code = (segment << 4) | ((size >> np.maximum(segment - 1, 0)) & 0x0F)
    return np.asarray((code | np.where(sample < 0, 0, 0x80)) ^ 0x55, dtype=np.int32)


def _low_pass(bins: int, total: int, rate: int, nyquist: float) -> npt.NDArray[np.float64]:
    frequency = np.arange(bins) * (rate / total)
    edge = nyquist * _PASS_FRACTION
    fall = np.clip((frequency - edge) / (nyquist - edge), 0.0, 1.0)
    return np.asarray(0.5 + 0.5 * np.cos(np.pi * fall))


def _transform_length(needed: int, step: int) -> int:
    """At least `needed` samples, a multiple of `step` without large prime factors (they make a transform slow)."""
    blocks = -(-needed // step)
    return _round_up(blocks, 1 << max(blocks.bit_length() - 5, 0)) * step


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step
