"""What a worker plays by itself."""

import asyncio
import os
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.agents.model import Agent, DeadAir, Fallback, Sound
from shared.choices import AudioFormat
from shared.errors import ConfigError
from worker import clips
from worker.clip_audio import encode, resample, speech_rms
from worker.clips import Clips, Recorded, Spoken, apology, cache_directory, filler
from worker.media.formats import G711_ALAW, G711_ULAW, PCM16_24K, WireFormat

SORRY = "We are sorry, nobody can take your call."

Signal = NDArray[np.float64]


def agent(name: str = "reception", *, audio_format: AudioFormat = AudioFormat.G711, **fallback: object) -> Agent:
    return Agent(name=name, model="m", audio_format=audio_format, fallback=Fallback.model_validate(fallback))


def decoded(data: bytes, wire: WireFormat) -> Signal:
    """Returns samples by the formulas of ITU-T G.711, code by code."""
    if wire.encoding == "pcm16":
        return np.frombuffer(data, "<i2").astype(np.float64)
    value = _ulaw if wire.encoding == "g711_ulaw" else _alaw
    return np.array([value(code) for code in data], dtype=np.float64)


def _ulaw(code: int) -> int:
    code = ~code & 0xFF
    size = (((code & 0x0F) << 3) + 132 << (code >> 4 & 7)) - 132
    return -size if code & 0x80 else size


def _alaw(code: int) -> int:
    code ^= 0x55
    step, segment = (code & 0x0F) * 16 + 8, code >> 4 & 7
    size = step if segment == 0 else step + 256 << segment - 1
    return size if code & 0x80 else -size


def dbfs(amplitude: float) -> float:
    return float(20 * np.log10(amplitude / 32767))


def write_wav(path: Path, signal: Signal, rate: int, channels: int = 1) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.rint(signal).astype("<i2").tobytes())
    return path


def tone(hz: float, rate: int, seconds: float = 0.5, amplitude: float = 8000.0) -> Signal:
    return np.asarray(amplitude * np.sin(2 * np.pi * hz * np.arange(round(rate * seconds)) / rate))


def signal_to_noise_db(heard: Signal, expected: Signal) -> float:
    """Returns it away from the ends, where a filter rings."""
    middle = slice(len(expected) // 8, -len(expected) // 8)
    return float(10 * np.log10((expected[middle] ** 2).mean() / ((heard - expected)[middle] ** 2).mean()))


@pytest.mark.parametrize("wire", [G711_ULAW, G711_ALAW, PCM16_24K], ids=lambda wire: wire.encoding)
async def test_a_sentence_is_spoken_at_the_level_of_a_voice(tmp_path: Path, wire: WireFormat) -> None:
    audio_format = AudioFormat.PCM16 if wire is PCM16_24K else AudioFormat.G711
    prepared, answering = Clips(tmp_path), agent(audio_format=audio_format, say=SORRY)
    await prepared.prepare([answering])
    source = apology(answering)
    assert source == Spoken(SORRY, "en")
    data = prepared.get(source, wire)
    assert 1500 < len(data) / wire.bytes_per_ms < 6000
    signal = decoded(data, wire)
    assert -21.5 < dbfs(speech_rms(signal, wire.rate)) < -18.5
    assert dbfs(np.abs(signal).max()) < -0.9


async def test_g711_is_what_the_pcm_says(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", tone(440, 24000) + tone(1900, 24000, amplitude=3000), 24000)
    prepared = Clips(tmp_path)
    await prepared.prepare([agent("a", wav=path), agent("b", wav=path, audio_format=AudioFormat.PCM16)])
    pcm = decoded(prepared.get(Recorded(path), PCM16_24K), PCM16_24K)
    for wire in (G711_ULAW, G711_ALAW):
        heard = decoded(prepared.get(Recorded(path), wire), wire)
        assert signal_to_noise_db(heard, pcm[::3]) > 35, wire


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000])
async def test_a_recording_of_any_rate_keeps_its_pitch_its_length_and_its_level(tmp_path: Path, rate: int) -> None:
    path = write_wav(tmp_path / "a.wav", tone(1000, rate), rate)
    prepared = Clips(tmp_path)
    await prepared.prepare([agent(wav=path, audio_format=AudioFormat.PCM16)])
    heard = decoded(prepared.get(Recorded(path), PCM16_24K), PCM16_24K)
    assert abs(len(heard) - 12000) <= 3
    assert signal_to_noise_db(heard, tone(1000, 24000, len(heard) / 24000)) > 60


async def test_both_channels_of_a_recording_are_heard(tmp_path: Path) -> None:
    left, right = tone(700, 8000), tone(1300, 8000)
    path = write_wav(tmp_path / "a.wav", np.column_stack([left, right]).ravel(), 8000, channels=2)
    prepared = Clips(tmp_path)
    await prepared.prepare([agent(wav=path)])
    heard = decoded(prepared.get(Recorded(path), G711_ULAW), G711_ULAW)
    assert signal_to_noise_db(heard, (left + right) / 2) > 30


def test_what_a_telephone_cannot_carry_does_not_come_back_as_another_tone() -> None:
    for hz in (4300, 5000, 7300, 11900):
        assert dbfs(np.abs(resample(tone(hz, 24000), 24000, 8000)[200:-200]).max()) < -75, hz


@pytest.mark.parametrize(("encoding", "value"), [("g711_ulaw", _ulaw), ("g711_alaw", _alaw)])
def test_every_sample_is_encoded_as_a_level_next_to_it(encoding: str, value: object) -> None:
    assert callable(value)
    samples = np.arange(-32768, 32768)
    levels = np.array(sorted(value(code) for code in range(256)))
    heard = np.array([value(code) for code in encode(samples.astype(np.float64), encoding)])
    above = np.clip(np.searchsorted(levels, samples), 1, len(levels) - 1)
    step = levels[above] - levels[above - 1]
    inside = (samples >= levels[0]) & (samples <= levels[-1])
    assert (np.abs(heard - samples)[inside] <= step[inside]).all()


async def test_the_filler_is_soft_and_ends_in_silence_so_that_it_can_be_played_over_and_over(tmp_path: Path) -> None:
    answering, prepared = agent(), Clips(tmp_path)
    await prepared.prepare([answering])
    assert filler(answering) is Sound.SOFT
    for wire in (G711_ULAW, G711_ALAW):
        signal = decoded(prepared.get(Sound.SOFT, wire), wire)
        assert len(signal) == 2 * wire.rate
        assert -32 < dbfs(np.abs(signal).max()) < -28
        assert np.abs(signal[:5]).max() < 100, "it begins with a click"
        assert np.abs(signal[-wire.rate // 2 :]).max() <= 8


async def test_a_spoken_filler_is_prepared(tmp_path: Path) -> None:
    answering = Agent(name="a", model="m", language="de", dead_air=DeadAir(filler="Einen Moment bitte."))
    prepared = Clips(tmp_path)
    await prepared.prepare([answering])
    assert len(prepared.get(Spoken("Einen Moment bitte.", "de"), G711_ALAW)) > 4000


async def test_the_second_worker_finds_the_clips_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, answering = Clips(tmp_path), Clips(tmp_path), agent(say=SORRY)
    await first.prepare([answering])
    monkeypatch.setattr(sys, "executable", "/nonexistent")
    await second.prepare([answering])
    for wire in (G711_ULAW, G711_ALAW):
        assert second.get(Spoken(SORRY, "en"), wire) == first.get(Spoken(SORRY, "en"), wire)


async def test_a_recording_that_has_changed_is_made_again(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", tone(1000, 8000), 8000)
    prepared = Clips(tmp_path)
    await prepared.prepare([agent(wav=path)])
    before = prepared.get(Recorded(path), G711_ULAW)
    write_wav(path, tone(500, 8000), 8000)
    await prepared.prepare([agent(wav=path)])
    assert prepared.get(Recorded(path), G711_ULAW) != before


async def test_workers_that_start_together_get_whole_clips(tmp_path: Path) -> None:
    several = [Clips(tmp_path) for _ in range(3)]
    await asyncio.gather(*(each.prepare([agent(say=SORRY)]) for each in several))
    assert len({each.get(Spoken(SORRY, "en"), G711_ULAW) for each in several}) == 1
    assert {name.partition(".")[2] for name in os.listdir(tmp_path)} == {"g711_ulaw", "g711_alaw"}


async def test_clips_of_an_agent_that_was_changed_stay_for_the_calls_it_has(tmp_path: Path) -> None:
    prepared = Clips(tmp_path)
    await prepared.prepare([agent(say=SORRY)])
    await prepared.prepare([agent(say="Please call again.")])
    assert prepared.get(Spoken(SORRY, "en"), G711_ULAW)


async def test_without_espeak_ng_it_is_said_which_agent_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError) as caught:
        await Clips(tmp_path).prepare([agent(say=SORRY)])
    assert caught.value.problems == [
        "agents.reception.fallback.say: espeak-ng is not installed; on Debian: apt-get install espeak-ng"
    ]


async def test_a_language_that_espeak_ng_does_not_know_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does it know the language 'xx'"):
        await Clips(tmp_path).prepare([Agent(name="a", model="m", language="xx", fallback=Fallback(say="x"))])


async def test_a_text_without_a_sound_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the text has no sound"):
        await Clips(tmp_path).prepare([agent(say=" ")])


async def test_a_recording_that_is_gone_is_named(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", tone(1000, 8000), 8000)
    answering = agent(wav=path)
    path.unlink()
    with pytest.raises(ConfigError, match=r"a\.wav: No such file"):
        await Clips(tmp_path).prepare([answering])


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "this is not a PCM WAV file"), (b"RIFF" + bytes(40), "this is not a PCM WAV file")],
)
async def test_a_file_that_is_no_recording_any_more_is_refused(tmp_path: Path, data: bytes, reason: str) -> None:
    path = write_wav(tmp_path / "a.wav", tone(1000, 8000), 8000)
    answering = agent(wav=path)
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=f"agents.reception.fallback.wav: {reason}"):
        await Clips(tmp_path).prepare([answering])


async def test_a_recording_that_is_too_long_is_refused(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", tone(1000, 8000), 8000)
    answering = agent(wav=path)
    write_wav(path, tone(1000, 8000, 61), 8000)
    with pytest.raises(ConfigError, match="longer than 60 s"):
        await Clips(tmp_path).prepare([answering])


async def test_a_maker_that_dies_is_a_problem_of_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ConfigError, match="failed with exit status 1"):
        await Clips(tmp_path).prepare([agent()])


async def test_a_maker_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = tmp_path / "stuck"
    stuck.write_text("#!/bin/sh\nexec sleep 600\n")
    stuck.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(stuck))
    monkeypatch.setattr(clips, "MAKE_TIMEOUT_S", 0.1)
    with pytest.raises(ConfigError, match="could not be made within"):
        await Clips(tmp_path).prepare([agent()])


def test_clips_are_kept_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_directory() == tmp_path / "voicepool" / "clips"


def test_where_there_is_no_cache_clips_are_kept_among_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    directory = cache_directory()
    assert directory.parent == tmp_path
    assert directory.stat().st_mode & 0o777 == 0o700


def test_a_temporary_directory_that_is_a_link_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    directory = cache_directory()
    directory.rmdir()
    directory.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="somebody else's"):
        cache_directory()


def test_a_worker_does_not_load_numpy_for_its_clips() -> None:
    code = "import sys, worker.clips; sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
