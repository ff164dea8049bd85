"""docs/events.md says what the code says."""

import re
from pathlib import Path

from admin.webhooks.settings import WebhookSettings
from shared.control.events import EventName
from shared.control.keys import EVENTS_MAX
from shared.settings import RedisSettings

TEXT = (Path(__file__).parents[3] / "docs" / "events.md").read_text("utf-8")


def test_it_has_every_event() -> None:
    assert re.findall(r"^\| `([a-z]+\.[a-z]+)` \|", TEXT, re.MULTILINE) == list(EventName)


def test_it_has_every_setting_of_the_sender() -> None:
    rows = re.findall(r"^\| `(WEBHOOK_\w+)` \| (.+?) \| (.+) \|$", TEXT, re.MULTILINE)
    fields = {name: info for name, info in WebhookSettings.model_fields.items() if name.startswith("webhook_")}
    assert set(WebhookSettings.model_fields) == {*fields, *RedisSettings.model_fields, "log_level"}
    assert len(rows) == len(fields)
    for (name, default, description), (attribute, info) in zip(rows, fields.items(), strict=True):
        assert name == attribute.upper()
        assert description == info.description
        value = ",".join(info.default) if isinstance(info.default, tuple) else info.default
        assert default == ("*required*" if info.is_required() else f"`{value}`")


def test_it_says_how_many_events_are_kept() -> None:
    assert f"newest {EVENTS_MAX:,} events" in TEXT
