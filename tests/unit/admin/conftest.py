"""What the tests of the operator's side share: an environment in which nothing of voicepool is set."""

import os
from pathlib import Path

import pytest

from admin.settings import all_settings


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Leaves no setting in the environment and no `.env` in the working directory, which is returned."""
    known = {setting.name for setting in all_settings()}
    for name in list(os.environ):
        if name.upper() in known or name.startswith(("VOICE_LIVE_", "AZURE_VOICELIVE_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path
