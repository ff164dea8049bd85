"""What a simulated caller says."""

import wave
from pathlib import Path

import numpy as np
import pytest

from simulator.phone.analysis import RATE, Signal, align
from simulator.phone.speech import PEAK, SpeechError, from_wav, resample, say, sentence


def write(path: Path, signal: Signal, rate: int, channels: int = 1) -> Path:
    with wave.open(str(path), "wb") as wav:
        wav.setnchannels(channels)
        wav.setsampwidth(2)
        wav.setframerate(rate)
        wav.writeframes(np.repeat(signal, channels).astype("<i2").tobytes())
    return path


def sine(hz: float, seconds: float, rate: int) -> Signal:
    return np.asarray(8000 * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate)) / rate), dtype=np.int16)


def test_a_spoken_sentence_is_telephone_audio_without_silence_around_it() -> None:
    spoken = say("good morning")
    assert spoken.dtype == np.int16
    assert 0.4 * RATE < len(spoken) < 2 * RATE
    assert int(np.abs(spoken.astype(np.int32)).max()) == PEAK
    assert np.abs(spoken[:400].astype(np.int32)).max() > 100


def test_every_caller_says_something_else() -> None:
    assert len({sentence(number) for number in range(500)}) == 500
    assert not set(sentence(3).split()[:-2]) & set(sentence(4).split()[:-2])


def test_text_that_looks_like_an_option_is_spoken() -> None:
    assert len(say("-h is a letter")) > RATE // 2


def test_text_without_sound_is_refused() -> None:
    with pytest.raises(SpeechError):
        say("   ")


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
def test_a_wav_file_of_any_rate_is_read_at_8_khz(tmp_path: Path, rate: int) -> None:
    heard = from_wav(write(tmp_path / "tone.wav", sine(440, 1.0, rate), rate, channels=2))
    assert len(heard) == pytest.approx(RATE, rel=0.01)
    assert align(sine(440, 1.0, RATE), heard).correlation > 0.99


def test_what_a_telephone_cannot_carry_is_removed_by_resampling() -> None:
    above = resample(sine(5000, 0.5, 16000).astype(np.float64), 16000)
    assert float(np.sqrt(np.mean(above[400:-400] ** 2))) < 50


@pytest.mark.parametrize("content", [b"", b"RIFF", b"not audio at all"])
def test_a_file_that_is_not_audio_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.wav"
    path.write_bytes(content)
    with pytest.raises(SpeechError):
        from_wav(path)
