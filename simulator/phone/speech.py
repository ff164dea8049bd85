"""What a simulated caller says: sentences spoken by espeak-ng or a WAV file, as telephone audio.

It does not play anything.
"""

import io
import subprocess
import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simulator.phone.analysis import RATE, Signal

PEAK = 16000
"""Loudest sample of an utterance (int16 units, -6 dBFS): loud enough for any VAD, far from clipping in G.711."""

_QUALITIES = ("yellow", "quiet", "heavy", "broken", "early", "silver", "narrow")
_THINGS = ("rivers", "machines", "gardens", "lanterns", "windows")
_ACTIONS = ("carry", "follow", "collect", "borrow", "remember", "paint")
_OBJECTS = ("umbrellas", "old stories", "fishing boats", "good news", "paper hats", "long trains", "apples", "maps")


class SpeechError(Exception):
    """The text could not be spoken or the file could not be read."""


def sentence(number: int) -> str:
    """Returns what caller `number` says when not told otherwise: neighbours share no word, and it holds the number."""
    words = (table[number % len(table)] for table in (_QUALITIES, _THINGS, _ACTIONS, _OBJECTS))
    return f"{' '.join(words)} number {number}"


def say(text: str, voice: str = "en", words_per_minute: int = 165) -> Signal:
    """Returns `text` spoken by espeak-ng at 8 kHz, without the silence around it."""
    command = ["espeak-ng", "-v", voice, "-s", str(words_per_minute), "--stdout", "--", text]
    try:
        spoken = subprocess.run(command, capture_output=True, check=True, timeout=30)
    except FileNotFoundError:
        raise SpeechError("espeak-ng is not installed") from None
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise SpeechError(f"espeak-ng failed: {error}") from error
    return _telephone_audio(_read(io.BytesIO(spoken.stdout), "espeak-ng's output"))


def from_wav(path: Path) -> Signal:
    """Returns the first channel of a 16-bit WAV file of any rate at 8 kHz, without the silence around it."""
    return _telephone_audio(_read(io.BytesIO(path.read_bytes()), str(path)))


def _read(file: io.BytesIO, name: str) -> tuple[int, Signal]:
    try:
        with wave.open(file) as wav:
            if wav.getsampwidth() != 2:
                raise SpeechError(f"{name}: not a 16-bit WAV file")
            # A stream's header says 2^31 frames; what is really there is what counts.
            frames = np.frombuffer(wav.readframes(wav.getnframes()), dtype="<i2")
            return wav.getframerate(), frames[:: wav.getnchannels()].astype(np.int16)
    except (wave.Error, EOFError) as error:
        raise SpeechError(f"{name}: {error}") from error


def _telephone_audio(source: tuple[int, Signal]) -> Signal:
    rate, signal = source
    audible = np.flatnonzero(np.abs(signal.astype(np.int32)) > 200)
    if not len(audible):
        raise SpeechError("there is no audio in it")
    resampled = resample(signal[audible[0] : audible[-1] + 1].astype(np.float64), rate)
    return np.asarray(np.rint(resampled * (PEAK / np.abs(resampled).max())), dtype=np.int16)


def resample(signal: NDArray[np.float64], rate: int) -> NDArray[np.float64]:
    """Returns a whole utterance at 8 kHz, band-limited: its spectrum, cut or extended (no streaming, no delay)."""
    if rate == RATE:
        return signal
    padded = np.concatenate([signal, np.zeros(rate // 10)])
    length = len(padded) * RATE // rate
    spectrum = np.fft.rfft(padded)
    kept = np.zeros(length // 2 + 1, dtype=np.complex128)
    common = min(len(kept), len(spectrum))
    kept[:common] = spectrum[:common]
    wanted = len(signal) * RATE // rate
    return np.asarray(np.fft.irfft(kept, length)[:wanted] * (length / len(padded)), dtype=np.float64)
