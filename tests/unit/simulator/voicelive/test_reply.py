"""The timetable of a reply."""

import pytest

from simulator.voicelive.audio import Clip
from simulator.voicelive.profiles import CASCADED, NATIVE, PACES
from simulator.voicelive.reply import Audio, Beat, End, ItemAdded, Words, function_call, split_words, spoken, written
from tests.unit.simulator.voicelive.driving import ULAW, voice

WORDS = split_words("one two three four")


def chunks(beats: list[Beat]) -> list[tuple[float, float]]:
    return [(beat.at, beat.part.ms) for beat in beats if isinstance(beat.part, Audio)]


def test_an_azure_voice_comes_in_growing_chunks_eleven_times_faster_than_real_time() -> None:
    beats = spoken(CASCADED, PACES["azure"], 0.78, WORDS, Clip(voice(7700), ULAW))
    sizes = [ms for _, ms in chunks(beats)]
    assert sizes == [200, 300] + 14 * [500] + [200]
    assert chunks(beats)[0][0] == 0.78
    assert beats[-1].part == End()
    assert beats[-1].at - 0.78 == pytest.approx(7.7 / 11)


def test_a_native_voice_comes_in_even_chunks_three_times_faster_than_real_time() -> None:
    beats = spoken(NATIVE, PACES["openai"], 0.6, WORDS, Clip(voice(2000), ULAW))
    assert [ms for _, ms in chunks(beats)] == 5 * [400]
    assert chunks(beats)[1][0] - chunks(beats)[0][0] == pytest.approx(0.4 / 3)


def test_instant_means_no_time_at_all() -> None:
    beats = spoken(CASCADED, PACES["instant"], 0.0, WORDS, Clip(voice(5000), ULAW))
    assert {beat.at for beat in beats} == {0.0}


def test_cascaded_words_all_come_before_the_audio() -> None:
    parts = [type(b.part) for b in spoken(CASCADED, PACES["azure"], 0.78, WORDS, Clip(voice(600), ULAW))]
    assert parts == [ItemAdded] + 4 * [Words] + 3 * [Audio] + [End]


def test_native_words_travel_with_the_audio_that_speaks_them() -> None:
    parts = [type(b.part) for b in spoken(NATIVE, PACES["openai"], 0.6, WORDS, Clip(voice(800), ULAW))]
    assert parts == [ItemAdded, Words, Words, Audio, Words, Words, Audio, End]


@pytest.mark.parametrize("profile", [NATIVE, CASCADED])
def test_a_timetable_never_goes_back_in_time(profile: object) -> None:
    for pace in PACES.values():
        beats = spoken(NATIVE if profile is NATIVE else CASCADED, pace, 0.5, WORDS, Clip(voice(3210), ULAW))
        assert [b.at for b in beats] == sorted(b.at for b in beats)


@pytest.mark.parametrize("profile", [NATIVE, CASCADED])
def test_a_reply_without_sound_still_ends(profile: object) -> None:
    beats = spoken(NATIVE if profile is NATIVE else CASCADED, PACES["azure"], 0.5, WORDS, Clip(b"", ULAW))
    assert [type(b.part) for b in beats] == [ItemAdded] + 4 * [Words] + [End]


def test_all_audio_is_sent_once_and_in_order() -> None:
    data = bytes(range(250)) * 100
    beats = spoken(CASCADED, PACES["azure"], 0.78, WORDS, Clip(data, ULAW))
    assert b"".join(beat.part.data for beat in beats if isinstance(beat.part, Audio)) == data


def test_cascaded_models_send_arguments_in_one_piece_and_native_ones_in_several() -> None:
    def pieces(beats: list[Beat]) -> list[str]:
        return [beat.part.delta for beat in beats if isinstance(beat.part, Words)]

    arguments = '{"city": "London"}'
    assert pieces(function_call(CASCADED, 0.78, arguments)) == [arguments]
    assert len(pieces(function_call(NATIVE, 0.6, arguments))) == 3
    assert "".join(pieces(function_call(NATIVE, 0.6, arguments))) == arguments


def test_a_written_reply_has_words_and_no_audio() -> None:
    assert [type(beat.part) for beat in written(CASCADED, 0.78, WORDS)] == [ItemAdded] + 4 * [Words] + [End]


def test_words_put_together_are_the_text() -> None:
    assert WORDS == ["one", " two", " three", " four"]
    assert split_words("") == []
