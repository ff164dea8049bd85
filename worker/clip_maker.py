"""`python -m worker.clip_maker`: makes clips, and ends. JSON orders on stdin, one file for each format of each order.

It is a process of its own because numpy would stay in a worker's memory for good. It decides nothing about what is
said; `worker/clips.py` starts it. What it makes depends on the order only, so that a file may be kept.

    stdin   [{"source": {"say": text, "language": "en"} | {"wav": path} | {"sound": name},
              "files": [{"encoding": "g711_ulaw", "rate": 8000, "path": where}]}]
    stdout  [why the order cannot be carried out, or null], one for each order
"""

import io
import json
import os
import subprocess
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np

from worker.clip_audio import FULL_SCALE, Signal, encode, normalised, resample

SPEECH_DBFS = -20.0
"""Level of speech without its pauses: about that of a Voice Live voice."""

WAV_RATES = range(8000, 48001)
WAV_MAX_S = 60.0
"""Longer than any apology; as PCM at 24 kHz it takes 3 MB of every worker."""

SOUND_S = 2.0
SOUND_DBFS = -30.0
"""Peak of a filler sound: heard, and soft enough to be played for seconds."""

_NOTES = ((0.0, 523.25), (0.35, 659.25))
"""Begin (s) and frequency (Hz) of its notes: C and E, away from every tone that a telephone network gives a meaning."""

_ATTACK_S = 0.04
_DECAY_S = 0.12
_SOUND_RATE = 24000

_ESPEAK_TIMEOUT_S = 20.0
_PAD_S = 0.1
"""Silence left around speech, of which espeak-ng leaves more at the end."""


class ClipError(Exception):
    """The clip cannot be made; the message says why, never what was to be said."""


def main() -> None:
    """Carries out the orders on stdin."""
    problems = [_carry_out(order) for order in json.load(sys.stdin)]
    json.dump(problems, sys.stdout)


def signal_of(source: dict[str, Any]) -> tuple[int, Signal]:
    """Returns the rate and the signal of an order's source; raises ClipError."""
    if "say" in source:
        return speech(source["say"], source["language"])
    if "wav" in source:
        return recording(Path(source["wav"]))
    return sound(source["sound"])


def speech(text: str, language: str) -> tuple[int, Signal]:
    """Returns the text spoken by espeak-ng, at SPEECH_DBFS; raises ClipError."""
    command = ["espeak-ng", "-v", language, "--stdin", "--stdout"]
    try:
        done = subprocess.run(command, input=text.encode(), capture_output=True, check=True, timeout=_ESPEAK_TIMEOUT_S)
    except FileNotFoundError:
        raise ClipError("espeak-ng is not installed; on Debian: apt-get install espeak-ng") from None
    except subprocess.TimeoutExpired:
        raise ClipError(f"espeak-ng did not finish within {_ESPEAK_TIMEOUT_S:.0f} s") from None
    except subprocess.CalledProcessError:
        raise ClipError(f"espeak-ng failed; does it know the language {language!r}?") from None
    with wave.open(io.BytesIO(done.stdout)) as file:
        rate = file.getframerate()
        # Written into a pipe, its header tells no length.
        signal = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float64)
    audible = np.flatnonzero(np.abs(signal) > FULL_SCALE / 1000)
    if not len(audible):
        raise ClipError("the text has no sound")
    spoken = normalised(signal[audible[0] : audible[-1] + 1], rate, SPEECH_DBFS)
    return rate, np.pad(spoken, round(_PAD_S * rate))


def recording(path: Path) -> tuple[int, Signal]:
    """Returns what is in a 16-bit PCM WAV file, both channels as one; raises ClipError."""
    try:
        with wave.open(io.BytesIO(path.read_bytes())) as file:
            rate, channels, frames = file.getframerate(), file.getnchannels(), file.getnframes()
            if file.getsampwidth() != 2 or channels > 2:
                raise ClipError("the WAV file must have 16 bits a sample and one or two channels")
            if rate not in WAV_RATES:
                raise ClipError(
                    f"the WAV file must have {WAV_RATES[0]} to {WAV_RATES[-1]} samples a second, not {rate}"
                )
            data = file.readframes(min(frames, rate * round(WAV_MAX_S) + 1))
    except OSError as error:
        raise ClipError(f"the WAV file cannot be read: {error.strerror}") from None
    except (wave.Error, EOFError) as error:
        raise ClipError(f"this is not a PCM WAV file: {error or 'it is cut off'}") from None
    samples = np.frombuffer(data[: len(data) // (2 * channels) * 2 * channels], "<i2").astype(np.float64)
    signal: Signal = samples.reshape(-1, channels).mean(axis=1)
    if not len(signal):
        raise ClipError("there is no audio in the WAV file")
    if len(signal) > rate * WAV_MAX_S:
        raise ClipError(f"the WAV file is longer than {WAV_MAX_S:.0f} s")
    return rate, signal


def sound(name: str) -> tuple[int, Signal]:
    """Returns a filler sound: two soft notes, then silence, so that it can be played over and over."""
    if name != "soft":
        raise ClipError(f"there is no sound {name!r}")
    time_s = np.arange(round(SOUND_S * _SOUND_RATE)) / _SOUND_RATE
    notes = np.zeros(len(time_s))
    for begin_s, hz in _NOTES:
        since_s = np.clip(time_s - begin_s, 0, None)
        attack = 0.5 - 0.5 * np.cos(np.pi * np.clip(since_s / _ATTACK_S, 0, 1))
        notes += attack * np.exp(-since_s / _DECAY_S) * np.sin(2 * np.pi * hz * since_s)
    peak = FULL_SCALE * 10 ** (SOUND_DBFS / 20)
    return _SOUND_RATE, np.asarray(notes * (peak / np.abs(notes).max()))


def _carry_out(order: dict[str, Any]) -> str | None:
    try:
        rate, signal = signal_of(order["source"])
        for file in order["files"]:
            _write(Path(file["path"]), encode(resample(signal, rate, file["rate"]), file["encoding"]))
    except ClipError as error:
        return str(error)
    except OSError as error:
        return f"the clip cannot be kept: {error.strerror}"
    return None


def _write(path: Path, data: bytes) -> None:
    """Writes the file whole or not at all: other workers make and read the same clips."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(data)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
