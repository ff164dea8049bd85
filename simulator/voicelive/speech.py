"""Speaks texts with espeak-ng and converts audio, off the event loop. Does not decide what is said.

At most `CONCURRENT` syntheses run at once, each with a time limit; recent ones are kept, so that a greeting spoken to
every caller is made once, and so are recordings. What callers said is converted and forgotten.
"""

import asyncio
import shutil
from collections import OrderedDict

from simulator.voicelive.audio import AudioFormat, Clip, convert
from simulator.voicelive.recordings import Recording

COMMAND = "espeak-ng"
CONCURRENT = 2

# espeak-ng takes milliseconds per sentence; a process that takes this long is stuck.
_TIMEOUT_S = 10.0

# Finished audio kept, in bytes: minutes of speech.
_CACHE_BYTES = 32 * 1024 * 1024

# espeak-ng's WAV header: the rate is at 24, samples begin at 44; lengths are not filled in when it writes to a pipe.
_RATE_AT, _SAMPLES_AT = 24, 44


class SpeechFailed(Exception):
    """A text could not be spoken; the message says why, never what."""


class Speech:
    """Text to audio. `voice` is one of espeak-ng's (`espeak-ng --voices`)."""

    def __init__(self, voice: str = "en-us", command: str = COMMAND) -> None:
        self._voice = voice
        self._command = command
        self._slots = asyncio.Semaphore(CONCURRENT)
        self._cache: OrderedDict[tuple[str | Recording, AudioFormat], bytes] = OrderedDict()
        self._cached_bytes = 0

    def check(self) -> None:
        """Raise SpeechFailed, naming what to install, when there is no espeak-ng."""
        if shutil.which(self._command) is None:
            raise SpeechFailed(f"{self._command} is not installed; on Debian: apt-get install espeak-ng")

    async def render(self, source: str | Clip | Recording, to: AudioFormat) -> bytes:
        """A text spoken, or audio converted, as bytes of format `to`; raises SpeechFailed."""
        if isinstance(source, Clip):
            return await asyncio.to_thread(convert, source, to)
        async with self._slots:
            cached = self._cache.get((source, to))
            if cached is not None:
                self._cache.move_to_end((source, to))
                return cached
            clip = source.clip if isinstance(source, Recording) else await self._speak(source)
            audio = await asyncio.to_thread(convert, clip, to)
        self._keep((source, to), audio)
        return audio

    async def _speak(self, text: str) -> Clip:
        self.check()
        process = await asyncio.create_subprocess_exec(
            self._command,
            *("-v", self._voice, "--stdin", "--stdout"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                wav, _ = await process.communicate(text.encode())
        except TimeoutError:
            raise SpeechFailed(f"{self._command} did not finish within {_TIMEOUT_S:.0f} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode != 0 or len(wav) <= _SAMPLES_AT:
            raise SpeechFailed(f"{self._command} failed with exit status {process.returncode}")
        rate = int.from_bytes(wav[_RATE_AT : _RATE_AT + 4], "little")
        return Clip(wav[_SAMPLES_AT:], AudioFormat("pcm16", rate))

    def _keep(self, key: tuple[str | Recording, AudioFormat], audio: bytes) -> None:
        self._cached_bytes += len(audio) - len(self._cache.get(key, b""))
        self._cache[key] = audio
        while self._cached_bytes > _CACHE_BYTES:
            self._cached_bytes -= len(self._cache.popitem(last=False)[1])
