"""WAV files to play, and how a session plays them."""

from pathlib import Path

import numpy as np
import pytest

from simulator.voicelive.actions import Render
from simulator.voicelive.audio import AudioFormat, Clip, encode, resample
from simulator.voicelive.behaviour import Behaviour
from simulator.voicelive.recordings import BadRecording, Recording, read
from simulator.voicelive.scenario import Play, Scenario
from tests.unit.simulator.voicelive.driving import Drive, audio_of, tone, write_wav


def recording(rate: int) -> Recording:
    return Recording("greeting", Clip(tone(500, rate).tobytes(), AudioFormat("pcm16", rate)))


def played(rate: int, output: str) -> Drive:
    """A session that was asked for a recording."""
    behaviour = Behaviour(scenario=Scenario((Play(recording(rate)),)), pace="instant")
    drive = Drive(behaviour=behaviour).start(output_audio_format=output)
    drive.send("response.create")
    return drive


@pytest.mark.parametrize("rate", [8000, 24000])
def test_samples_and_name_are_read(tmp_path: Path, rate: int) -> None:
    samples = tone(500, rate)
    found = read(write_wav(tmp_path / "greeting.wav", samples, rate))
    assert found == Recording("greeting", Clip(samples.tobytes(), AudioFormat("pcm16", rate)))


@pytest.mark.parametrize(
    ("rate", "channels", "ms", "complaint"),
    [
        (16000, 1, 100, "16000 Hz"),
        (8000, 2, 100, "2 channels"),
        (8000, 1, 0, "no audio"),
    ],
)
def test_other_wav_files_are_refused(tmp_path: Path, rate: int, channels: int, ms: int, complaint: str) -> None:
    path = write_wav(tmp_path / "other.wav", tone(ms), rate, channels)
    with pytest.raises(BadRecording, match=rf"other\.wav: .*{complaint}"):
        read(path)


@pytest.mark.parametrize("content", [b"", b"RIFF", b"steps: []"])
def test_what_is_no_wav_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other.wav").write_bytes(content)
    with pytest.raises(BadRecording, match=r"other\.wav"):
        read(tmp_path / "other.wav")


@pytest.mark.parametrize(("rate", "output"), [(8000, "pcm16_8000hz"), (24000, "pcm16")])
def test_samples_of_the_sessions_rate_go_out_as_they_are(rate: int, output: str) -> None:
    assert audio_of(played(rate, output).events) == tone(500, rate).tobytes()


@pytest.mark.parametrize("encoding", ["g711_ulaw", "g711_alaw"])
def test_g711_is_encoded_and_nothing_else(encoding: str) -> None:
    assert audio_of(played(8000, encoding).events) == encode(tone(500), AudioFormat(encoding, 8000))


def test_another_rate_is_resampled_in_one_piece() -> None:
    sent = np.frombuffer(audio_of(played(8000, "pcm16").events), dtype="<i2")
    assert np.array_equal(sent, resample(tone(500), 8000, 24000))


def test_the_transcript_is_the_files_stem() -> None:
    assert played(8000, "g711_ulaw").last("response.audio_transcript.done")["transcript"] == "greeting"


def test_a_conversion_is_left_to_the_owner_who_knows_the_recording_again() -> None:
    drive = Drive(behaviour=Behaviour(scenario=Scenario((Play(recording(8000)),))), renders=False).start()
    drive.send("response.create")
    assert [action.source for action in drive.other if isinstance(action, Render)] == [recording(8000)]
