"""What benchmark callers say: tones and espeak-ng's speech, as G.711 or WAV. Does not play anything.

Samples are numpy int16 mono at 8 kHz, clips are G.711 bytes, one a sample (ITU-T G.711).
"""

import io
import subprocess
import wave
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

RATE = 8000
PCMU = 0
PCMA = 8

SPEECH_PEAK_DBFS = -6.0
"""Loudest sample of speech: loud enough for any detector of speech, far from clipping."""

_SPEECH_TIMEOUT_S = 30.0
_GUARD_S = 0.05  # silence around what is resampled: the spectrum's circle must not carry its end to its beginning

Samples = NDArray[np.int16]


class ClipError(Exception):
    """A text could not be spoken; the message says why."""


def tone(hz: float, seconds: float, dbfs: float, payload_type: int = PCMU) -> bytes:
    """Returns a sine whose peak is `dbfs` below full scale; it loops without a click when its periods are whole."""
    time_s = np.arange(round(seconds * RATE)) / RATE
    return encode(_as_int16(np.sin(2 * np.pi * hz * time_s), dbfs), payload_type)


def speech(text: str, payload_type: int = PCMU) -> bytes:
    """Returns `text` spoken by espeak-ng; raises ClipError."""
    return encode(speech_samples(text), payload_type)


def speech_samples(text: str) -> Samples:
    """Returns `text` spoken by espeak-ng; raises ClipError."""
    rate, spoken = _speak(text)
    return _as_int16(_resample(spoken, rate), SPEECH_PEAK_DBFS)


def write_wav(path: Path, samples: Samples, rate: int = RATE) -> None:
    """Writes samples as a WAV file, mono and 16 bits."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())


def encode(samples: Samples, payload_type: int) -> bytes:
    """Returns the samples as PCMU or PCMA."""
    return _encoding(payload_type)[samples.astype(np.int32) + 32768].tobytes()


def encode_ulaw(samples: Samples) -> bytes:
    """Returns the samples as PCMU."""
    return encode(samples, PCMU)


def encode_alaw(samples: Samples) -> bytes:
    """Returns the samples as PCMA."""
    return encode(samples, PCMA)


def decode(data: bytes, payload_type: int) -> Samples:
    """Returns the samples of PCMU or PCMA bytes."""
    return np.asarray(_decoding(payload_type)[np.frombuffer(data, np.uint8)])


@cache
def _decoding(payload_type: int) -> Samples:
    """Returns the sample of each byte."""
    byte = np.arange(256)
    if payload_type == PCMU:
        sign, code = np.where(byte & 0x80, 1, -1), ~byte & 0x7F
        return np.asarray(sign * ((((code & 0x0F) * 8 + 132) << (code >> 4)) - 132), dtype=np.int16)
    if payload_type == PCMA:
        sign, code = np.where(byte & 0x80, 1, -1), (byte ^ 0x55) & 0x7F
        step, exponent = (code & 0x0F) * 16 + 8, code >> 4
        magnitude = np.where(exponent, (step + 256) << np.maximum(exponent - 1, 0), step)
        return np.asarray(sign * magnitude, dtype=np.int16)
    raise ValueError(f"payload type {payload_type} is not G.711")


@cache
def _encoding(payload_type: int) -> NDArray[np.uint8]:
    """Returns the byte of each sample from -32768 on: the one that decodes to the nearest value."""
    values = _decoding(payload_type).astype(np.int32)
    # From the back, so that of PCMU's two zeros 0xFF is found: positive zero, as silence is sent.
    levels, positions = np.unique(values[::-1], return_index=True)
    nearest = np.searchsorted((levels[1:] + levels[:-1]) / 2, np.arange(-32768, 32768))
    return (255 - positions[nearest]).astype(np.uint8)


def _as_int16(signal: NDArray[np.float64], peak_dbfs: float) -> Samples:
    peak = 32767 * 10 ** (peak_dbfs / 20)
    return np.asarray(np.rint(signal * (peak / np.abs(signal).max())), dtype=np.int16)


def _speak(text: str) -> tuple[int, NDArray[np.float64]]:
    """Returns the rate and the samples that espeak-ng gives."""
    command = ["espeak-ng", "-v", "en-us", "--stdin", "--stdout"]
    try:
        done = subprocess.run(command, input=text.encode(), capture_output=True, check=True, timeout=_SPEECH_TIMEOUT_S)
    except FileNotFoundError:
        raise ClipError("espeak-ng is not installed; on Debian: apt-get install espeak-ng") from None
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise ClipError(f"espeak-ng failed: {error}") from error
    with wave.open(io.BytesIO(done.stdout)) as file:
        # Written into a pipe, its header tells no length.
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        rate = file.getframerate()
    audible = np.flatnonzero(samples)
    if not len(audible):
        raise ClipError("the text has no sound")
    return rate, samples[audible[0] : audible[-1] + 1].astype(np.float64)


def _resample(signal: NDArray[np.float64], rate: int) -> NDArray[np.float64]:
    """Returns the whole signal at 8 kHz: its spectrum without what is beyond 4 kHz."""
    padded = np.pad(signal, round(_GUARD_S * rate))
    length = round(len(padded) * RATE / rate)
    return np.asarray(np.fft.irfft(np.fft.rfft(padded)[: length // 2 + 1], length), dtype=np.float64)
