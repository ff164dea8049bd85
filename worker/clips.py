"""What a worker plays by itself, without a model: apologies and fillers, ready as bytes of every wire format.

It makes no audio: `worker/clip_maker.py` does, in a process of its own, and what it has made is kept on disk. It plays
nothing either; `worker/conversation.py` does.
"""

import asyncio
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from shared.agents.model import Agent, Sound
from shared.choices import AudioFormat
from shared.errors import ConfigError
from worker.media.formats import G711_ALAW, G711_ULAW, PCM16_24K, WireFormat

log = structlog.get_logger()

MAKE_TIMEOUT_S = 60.0
"""For all clips of all agents: espeak-ng takes 50 ms for a sentence, starting the process takes a second."""

VERSION = 1
"""Part of every file's name: to be counted up when `clip_maker` makes the same order sound different."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """A text, spoken by espeak-ng."""

    text: str
    language: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """A WAV file."""

    path: Path


Source = Spoken | Recorded | Sound


def apology(agent: Agent) -> Source | None:
    """Returns what the agent's callers hear when there is no session and will be none; None is nothing."""
    if agent.fallback.wav is not None:
        return Recorded(agent.fallback.wav)
    return None if agent.fallback.say is None else Spoken(agent.fallback.say, agent.language)


def filler(agent: Agent) -> Source:
    """Returns what the agent's callers hear while an answer is long in coming."""
    wanted = agent.dead_air.filler
    return wanted if isinstance(wanted, Sound) else Spoken(wanted, agent.language)


def wire_formats(agent: Agent) -> tuple[WireFormat, ...]:
    """Returns the formats that the agent's calls may have: the leg's codec decides between the laws of G.711."""
    return (PCM16_24K,) if agent.audio_format is AudioFormat.PCM16 else (G711_ULAW, G711_ALAW)


@dataclass(frozen=True, slots=True)
class _Order:
    """One source, and the files that hold it."""

    field: str
    """Where the agent file asks for it, for messages."""
    source: Source
    files: dict[WireFormat, Path]

    @property
    def carried_out(self) -> bool:
        """Whether all files are there: each appears whole or not at all."""
        return all(path.is_file() for path in self.files.values())

    def as_json(self) -> dict[str, Any]:
        """Returns it in the clip maker's words."""
        match self.source:
            case Spoken(text, language):
                source = {"say": text, "language": language}
            case Recorded(path):
                source = {"wav": str(path.absolute())}
            case sound:
                source = {"sound": sound.value}
        files = [{"encoding": wire.encoding, "rate": wire.rate, "path": str(p)} for wire, p in self.files.items()]
        return {"source": source, "files": files}


class Clips:
    """The clips of a worker's agents. They stay for as long as it lives: a call keeps the agent it began with."""

    def __init__(self, directory: Path | None = None) -> None:
        """`directory` holds what has been made; without it that is `cache_directory()`."""
        self._directory = directory
        self._clips: dict[tuple[Source, WireFormat], bytes] = {}

    async def prepare(self, agents: Iterable[Agent]) -> None:
        """Makes every clip these agents need, or finds it on disk; raises ConfigError with what cannot be made."""
        try:
            directory = self._directory if self._directory else await asyncio.to_thread(cache_directory)
            orders = await asyncio.to_thread(_orders, tuple(agents), directory)
            missing = await asyncio.to_thread(lambda: [order for order in orders if not order.carried_out])
            if missing:
                await _make(missing)
            self._clips |= await asyncio.to_thread(_read, orders)
        except OSError as error:
            raise ConfigError([f"clips: {error.filename}: {error.strerror}"]) from error

    def get(self, source: Source, wire: WireFormat) -> bytes:
        """Returns a clip as bytes of a session's format; KeyError when it was not prepared."""
        return self._clips[source, wire]


def cache_directory() -> Path:
    """Returns the directory that clips are kept in: the user's cache, or one of the user's own for temporary files."""
    with suppress(OSError, RuntimeError):  # no home, or a read-only one: usual in a container
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
        directory = caches / "voicepool" / "clips"
        directory.mkdir(parents=True, exist_ok=True)
        if os.access(directory, os.W_OK):
            return directory
    directory = Path(tempfile.gettempdir()) / f"voicepool-clips-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    if directory.is_symlink() or directory.stat().st_uid != os.getuid():
        raise ConfigError([f"clips: {directory} is somebody else's"])  # who could put anything into a caller's ear
    return directory


def _orders(agents: Iterable[Agent], directory: Path) -> list[_Order]:
    orders: dict[Source, _Order] = {}
    for agent in agents:
        said_by = "fallback.say" if agent.fallback.wav is None else "fallback.wav"
        for field, source in ((said_by, apology(agent)), ("dead_air.filler", filler(agent))):
            if source is None:
                continue
            order = orders.setdefault(source, _Order(f"agents.{agent.name}.{field}", source, {}))
            for wire in wire_formats(agent):
                order.files[wire] = directory / f"{_digest(source, wire)}.{wire.encoding}"
    return list(orders.values())


def _digest(source: Source, wire: WireFormat) -> str:
    match source:
        case Spoken(text, language):
            parts = ["say", language, text]
        case Recorded(path):
            parts = ["wav", hashlib.sha256(path.read_bytes()).hexdigest()]
        case sound:
            parts = ["sound", sound.value]
    return hashlib.sha256(json.dumps([VERSION, wire.rate, *parts]).encode()).hexdigest()[:32]


async def _make(orders: list[_Order]) -> None:
    log.info("clips.making", clips=len(orders))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "worker.clip_maker"),
        cwd=Path(__file__).parents[1],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(MAKE_TIMEOUT_S):
            answer, _ = await process.communicate(json.dumps([order.as_json() for order in orders]).encode())
    except TimeoutError:
        raise ConfigError([f"clips: they could not be made within {MAKE_TIMEOUT_S:.0f} s"]) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise ConfigError([f"clips: the process that makes them failed with exit status {process.returncode}"])
    reasons: list[str | None] = json.loads(answer)
    problems = [f"{order.field}: {reason}" for order, reason in zip(orders, reasons, strict=True) if reason]
    if problems:
        raise ConfigError(problems)


def _read(orders: Iterable[_Order]) -> dict[tuple[Source, WireFormat], bytes]:
    return {(order.source, wire): path.read_bytes() for order in orders for wire, path in order.files.items()}
