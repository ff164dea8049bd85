"""Lays out one reply in time: which part is sent how long after the caller stopped. Does not send it.

cascaded   item … all words … audio audio audio … end
native     item … words audio words audio … end
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from simulator.voicelive.audio import Clip
from simulator.voicelive.profiles import NATIVE, Pace, Profile

# Cut of a native model's function-call arguments; cascaded models send them in one piece.
_ARGUMENT_PIECE = 8


@dataclass(frozen=True, slots=True)
class ItemAdded:
    """The reply's item and its first content part appear."""


@dataclass(frozen=True, slots=True)
class Words:
    """A piece of the reply's transcript, of its text, or of a function call's arguments."""

    delta: str


@dataclass(frozen=True, slots=True)
class Audio:
    """A chunk of the reply's audio, `ms` long."""

    data: bytes
    ms: float


@dataclass(frozen=True, slots=True)
class Timestamp:
    """Where in the reply's audio a word lies, in ms."""

    word: str
    offset_ms: int
    duration_ms: int


@dataclass(frozen=True, slots=True)
class Running:
    """All words are out, and what they asked for begins to be done."""


@dataclass(frozen=True, slots=True)
class End:
    """All done-events of the reply."""


Part = ItemAdded | Words | Audio | Timestamp | Running | End


@dataclass(frozen=True, slots=True)
class Beat:
    """One part, due `at` seconds after the caller stopped (or after `response.create`)."""

    at: float
    part: Part


def spoken(
    profile: Profile, pace: Pace, first_audio_s: float, words: Sequence[str], clip: Clip, *, timed: bool = False
) -> list[Beat]:
    """A spoken reply; the first audio is due after `first_audio_s`, everything at once when the pace is instant.

    `timed` adds the times of its words, each after the chunk of audio in which the word begins.
    """
    chunks = list(_chunks(pace, first_audio_s, clip))
    end = Beat(first_audio_s + _play_s(clip.ms, pace), End())
    item = Beat(first_audio_s * profile.item, ItemAdded())
    if profile is NATIVE:
        body = list(_interleaved(words, chunks, first_audio_s))
    else:
        body = [*_evenly(words, first_audio_s * profile.item, first_audio_s * profile.words_end), *chunks]
    return [item, *(_with_timestamps(body, words, clip.ms) if timed else body), end]


def written(profile: Profile, first_audio_s: float, words: Sequence[str]) -> list[Beat]:
    """A reply of text only, in the time a spoken one takes to its first audio."""
    item_s = first_audio_s * profile.item
    return [Beat(item_s, ItemAdded()), *_evenly(words, item_s, first_audio_s), Beat(first_audio_s, End())]


def function_call(profile: Profile, first_audio_s: float, arguments: str) -> list[Beat]:
    """A function call; its arguments are the words."""
    size = _ARGUMENT_PIECE if profile is NATIVE else max(len(arguments), 1)
    pieces = [arguments[at : at + size] for at in range(0, len(arguments), size)]
    return written(profile, first_audio_s, pieces)


def mcp_call(profile: Profile, first_audio_s: float, arguments: str, seconds: float) -> list[Beat]:
    """A call the service makes itself: as a function call, and then `seconds` until it is over."""
    *words, end = function_call(profile, first_audio_s, arguments)
    return [*words, Beat(end.at, Running()), Beat(end.at + seconds, End())]


def split_words(text: str) -> list[str]:
    """`text` in pieces of a word, with the spaces between them, as transcript deltas have it."""
    first, *others = text.split() or [""]
    return [first, *(f" {word}" for word in others)] if first else []


def _chunks(pace: Pace, first_audio_s: float, clip: Clip) -> Iterator[Beat]:
    per_ms, start = clip.format.bytes_per_ms, 0
    for length_ms in pace.chunk_lengths():
        if start >= len(clip.data):
            return
        data = clip.data[start : start + length_ms * per_ms]
        yield Beat(first_audio_s + _play_s(start / per_ms, pace), Audio(data, len(data) / per_ms))
        start += len(data)


def _play_s(ms: float, pace: Pace) -> float:
    return ms / 1000 / pace.realtime_factor


def _evenly(words: Sequence[str], start_s: float, end_s: float) -> Iterator[Beat]:
    step = (end_s - start_s) / max(len(words) - 1, 1)
    for index, word in enumerate(words):
        yield Beat(start_s + index * step, Words(word))


def _interleaved(words: Sequence[str], chunks: Sequence[Beat], first_audio_s: float) -> Iterator[Beat]:
    """Each chunk of audio after the words it speaks."""
    if not chunks:
        yield from _evenly(words, first_audio_s, first_audio_s)
    said = 0
    for index, chunk in enumerate(chunks, start=1):
        due = math.ceil(len(words) * index / len(chunks))
        for word in words[said:due]:
            yield Beat(chunk.at, Words(word))
        said = due
        yield chunk


def _with_timestamps(beats: Sequence[Beat], words: Sequence[str], total_ms: float) -> Iterator[Beat]:
    """The beats, with the times of the words, which share the audio evenly."""
    each_ms = total_ms / max(len(words), 1)
    sent_ms, told = 0.0, 0
    for beat in beats:
        yield beat
        if isinstance(beat.part, Audio):
            sent_ms += beat.part.ms
            while told < len(words) and told * each_ms < sent_ms:
                yield Beat(beat.at, Timestamp(words[told].strip(), int(told * each_ms), int(each_ms)))
                told += 1
