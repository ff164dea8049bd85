"""G.711 and the audio that benchmark callers say."""

import wave
from pathlib import Path

import numpy as np
import pytest

from bench.load import clips
from bench.load.clips import PCMA, PCMU, decode, encode, encode_alaw, encode_ulaw, tone

LAWS = pytest.mark.parametrize("payload_type", [PCMU, PCMA])


def test_known_codes_decode_to_the_values_of_the_standard() -> None:
    assert decode(b"\xff\x7f\x80\x00\xf0", PCMU).tolist() == [0, 0, 32124, -32124, 120]
    assert decode(b"\xd5\x55\xaa\x2a", PCMA).tolist() == [8, -8, 32256, -32256]


@LAWS
def test_every_code_survives_decoding_and_encoding(payload_type: int) -> None:
    codes = bytes(range(256))

    again = encode(decode(codes, payload_type), payload_type)

    # PCMU has two zeros; the positive one is what silence is sent as.
    assert again == (codes.replace(b"\x7f", b"\xff") if payload_type == PCMU else codes)


@LAWS
def test_encoding_takes_the_nearest_level(payload_type: int) -> None:
    samples = np.arange(-32768, 32768, 7).astype(np.int16)
    levels = decode(bytes(range(256)), payload_type).astype(np.int32)

    error = np.abs(decode(encode(samples, payload_type), payload_type).astype(np.int32) - samples)

    assert (error == np.abs(levels[:, None] - samples).min(axis=0)).all()


def test_silence_is_the_byte_that_telephones_send() -> None:
    assert encode_ulaw(np.zeros(2, np.int16)) == b"\xff\xff"
    assert encode_alaw(np.full(2, 3, np.int16)) == b"\xd5\xd5"


@LAWS
def test_a_tone_has_its_pitch_and_its_level(payload_type: int) -> None:
    samples = decode(tone(400, 0.5, -12, payload_type), payload_type)

    assert len(samples) == 4000
    assert np.argmax(np.abs(np.fft.rfft(samples))) == 200
    assert np.abs(samples).max() == pytest.approx(32767 * 10 ** (-12 / 20), rel=0.03)


def test_speech_is_audible_and_ends_where_the_words_end(tmp_path: Path) -> None:
    samples = decode(clips.speech("one two three"), PCMU)
    clips.write_wav(tmp_path / "speech.wav", samples)

    assert 0.5 < len(samples) / clips.RATE < 4
    assert np.abs(samples).max() > 15000
    with wave.open(str(tmp_path / "speech.wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (8000, 1, len(samples))


def test_other_payload_types_are_refused() -> None:
    with pytest.raises(ValueError, match="payload type 9"):
        decode(b"\x00", 9)
