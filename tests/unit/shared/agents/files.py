"""What the tests of the agent file share: how one is loaded from a text."""

import textwrap
import wave
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from shared.agents.file import Agents, Base, parse
from shared.agents.model import Resource
from shared.agents.secrets import Secrets
from shared.errors import ConfigError

BELOW = Base(
    {
        "model": "gpt-4.1-mini",
        "voice": "en-US-AvaNeural",
        "instructions": "Be brief.",
        "turn_detection": {"auto_truncate": False},
        "greeting": {"text": "Hello."},
    },
    Resource(endpoint="https://resource.example"),
)
"""What the settings come to, for these tests."""

WITH_KEY = Base(BELOW.agent, Resource(endpoint="https://resource.example", api_key=SecretStr("k")))

SECRETS = Secrets({"KEY": "hunter2", "TOKEN": "Bearer opensesame"})


def agents(text: str, directory: Path = Path("/nowhere"), below: Base = BELOW, secrets: Secrets = SECRETS) -> Agents:
    """Returns the agents in a file of this text."""
    return parse(textwrap.dedent(text).encode(), directory / "agents.yaml", below, secrets)


def problems(text: str, **others: Any) -> list[str]:
    """Returns what is wrong with a file of this text, without the file's name."""
    with pytest.raises(ConfigError) as caught:
        agents(text, **others)
    assert all(problem.startswith("agents.yaml: ") for problem in caught.value.problems)
    return [problem.removeprefix("agents.yaml: ") for problem in caught.value.problems]


def write_wav(path: Path, *, rate: int = 8000, width: int = 2, channels: int = 1, frames: int = 800) -> None:
    """Writes a WAV file of silence."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(bytes(frames * width * channels))
