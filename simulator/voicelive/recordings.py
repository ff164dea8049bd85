"""Reads the WAV files that a scenario plays. Does not convert them (see `speech`)."""

import wave
from dataclasses import dataclass
from pathlib import Path

from simulator.voicelive.audio import AudioFormat, Clip

# What Voice Live can send as it is: 24 kHz as `pcm16`, 8 kHz as `pcm16_8000hz` and, encoded, as G.711.
_RATES = (8000, 24000)


class BadRecording(ValueError):
    """A file that cannot be played; the message names it and says why."""


@dataclass(frozen=True, slots=True)
class Recording:
    """Audio that every session may play; its `name` (the file's stem) serves as its transcript."""

    name: str
    clip: Clip


def read(path: Path) -> Recording:
    """The recording in a WAV file, 16-bit mono at 8000 or 24000 Hz; raises BadRecording for anything else."""
    try:
        with wave.open(str(path), "rb") as wav:
            found = (wav.getnchannels(), wav.getsampwidth(), wav.getframerate())
            data = wav.readframes(wav.getnframes())
    except (OSError, EOFError, wave.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise BadRecording(f"{path}: {reason or 'not a WAV file'}") from error
    channels, width, rate = found
    if channels != 1 or width != 2 or rate not in _RATES:
        wanted = "mono, 16 bits, 8000 or 24000 Hz"
        raise BadRecording(f"{path}: {channels} channels, {8 * width} bits, {rate} Hz; what can be played is {wanted}")
    if not data:
        raise BadRecording(f"{path}: there is no audio in it")
    return Recording(path.stem, Clip(data, AudioFormat("pcm16", rate)))
