"""The settings as an operator meets them: checked all at once, written out as a sample file and as a table.

It adds no setting and knows no value of its own; everything comes from the models of those who read the settings.
"""

import difflib
import os
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any, get_args

from annotated_types import Ge, Gt, Le, MultipleOf
from dotenv import dotenv_values
from pydantic import AliasChoices, SecretStr
from pydantic.fields import FieldInfo

from admin.api.settings import AdminSettings
from admin.marked import with_part
from admin.webhooks.settings import WebhookSettings
from shared.errors import ConfigError
from shared.settings import DispatcherSettings, PoolSettings, RedisSettings, WorkerSettings, load

ENV_FILE = Path(".env")

MASK = "********"

BEGIN, END = "<!-- configuration: written by voicepool config table -->", "<!-- end of configuration -->"
"""Between these lines of a document stands the table; `voicepool config table --into FILE` writes it there."""

_OWN_PREFIXES = ("VOICE_LIVE_", "AZURE_VOICELIVE_")
"""Names in the environment that nobody else would choose; what we do not know there is a misspelling."""

_STAND_INS = {
    "LEASE_SECRET": "0123456789abcdef",
    "AZURE_VOICELIVE_ENDPOINT": "https://example.invalid",
    "WEBHOOK_URL": "https://example.invalid",
    "WEBHOOK_SECRET": "0123456789abcdef",
}
"""Values that let the check look past a bad required setting for what else is wrong."""

_IN_EFFECT = {
    "SIP_VIA_ADDR": "advertised_address",
    "WORKER_PROCESSES": "processes",
    "POD_NAME": "pod",
    "MEDIA_ADDRESS": "offered_media_address",
    "MEDIA_PORT_COUNT": "media_ports",
}
"""Settings that may be left open, and the property that says what they come to."""


class Group(StrEnum):
    """Under which heading a setting is listed."""

    POOL = "Every process"
    DISPATCHER = "Dispatcher"
    WORKER = "Worker"
    VOICE_LIVE = "Voice Live"
    API = "HTTP API"
    WEBHOOKS = "Webhooks, if there are any"


_MODELS: Mapping[type[RedisSettings], Group] = {
    DispatcherSettings: Group.DISPATCHER,
    WorkerSettings: Group.WORKER,
    AdminSettings: Group.API,
    WebhookSettings: Group.WEBHOOKS,
}
"""Who reads settings, and where those are listed that nobody else reads."""

_SPARE = WebhookSettings
"""What a pool can do without although it has required settings: looked at when one of those is there."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One environment variable."""

    name: str
    group: Group
    description: str
    default: str
    """As it would be written in `.env`; empty for a required one."""
    required: bool
    values: str
    """What it may be, like `0 to 65535`, or that it is a secret; empty is any text that fits the description."""


@dataclass(frozen=True, slots=True)
class Value:
    """What a setting comes to."""

    name: str
    value: str
    """Secrets are masked."""
    source: str
    """`environment`, `.env`, or `default`."""


@dataclass(slots=True)
class Report:
    """What `voicepool config check` has to say."""

    problems: list[str] = field(default_factory=list)
    """One line per bad or missing value, beginning with the variable's name; never what is in it."""
    warnings: list[str] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    """Empty when there are problems; without those that nobody would look at."""

    @property
    def ok(self) -> bool:
        """Whether the processes would start."""
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        """Returns the report as plain values."""
        return {"ok": self.ok, **asdict(self)}


def all_settings() -> list[Setting]:
    """Returns every setting once, in the order of the groups."""
    found: dict[str, Setting] = {}
    for model, group in _MODELS.items():
        for attribute, info in model.model_fields.items():
            setting = _setting(attribute, info, group)
            found.setdefault(setting.name, setting)
    return sorted(found.values(), key=lambda setting: list(Group).index(setting.group))


def check(overrides: Mapping[str, str] | None = None) -> Report:
    """Returns what is wrong with the settings of all processes, or what they come to.

    They are those of the environment and `.env`, and of `overrides`, which come first.
    """
    overrides = overrides or {}
    found = {**environment_and_file(), **overrides}
    report = Report()
    values: dict[str, str] = {}
    for model in _MODELS:
        if model is _SPARE and not any(map(found.get, _required(model))):
            continue
        try:
            values |= _values(load(model, **overrides))
        except ConfigError as error:
            report.problems += [*error.problems, *_hidden_problems(model, error, overrides)]
    report.problems = list(dict.fromkeys(report.problems))
    agents_file = found.get("AGENTS_FILE")
    report.warnings = list(_unknown_names(_secrets_named_in(Path(agents_file)) if agents_file else set()))
    if report.ok:
        sources = _sources()
        names = [setting.name for setting in all_settings() if setting.name in values]
        report.values = [Value(name, values[name], sources.get(name, "default")) for name in names]
    return report


def sample() -> str:
    """Returns a `.env` that explains itself: required settings to fill in, the others as comments."""
    lines = ["# Settings of voicepool. Lines without # are required; the others show the default.", ""]
    spare = _required(_SPARE)
    for group in Group:
        lines += [f"# ---- {group} {'-' * (108 - len(group))}", ""]
        for setting in (s for s in all_settings() if s.group is group):
            lines += textwrap.wrap(setting.description, 110, initial_indent="# ", subsequent_indent="# ")
            mark = "" if setting.required and setting.name not in spare else "#"
            lines += [f"{mark}{setting.name}={_quoted(setting.default)}", ""]
    return "\n".join(lines)


def markdown_table() -> str:
    """Returns all settings as Markdown tables, one per group."""
    parts = []
    for group in Group:
        rows = [s for s in all_settings() if s.group is group]
        parts += [f"**{group}**", "", "| variable | default | may be | what it is |", "|---|---|---|---|"]
        parts += [f"| `{s.name}` | {_default_cell(s)} | {s.values} | {s.description} |" for s in rows]
        parts.append("")
    return "\n".join(parts)


def with_table(document: str) -> str:
    """Returns the document with the table as it is now between its two marker lines; raises ValueError without them."""
    return with_part(document, BEGIN, END, markdown_table())


def environment_and_file() -> dict[str, str]:
    """Returns what the processes would find in the environment and `.env`; the environment wins."""
    return {**_env_file(), **os.environ}


def mask(value: Any) -> str:
    """Returns the value as text, without secrets: those marked as such, and what URLs carry before @ and after ?."""
    if isinstance(value, SecretStr):
        return MASK
    text = _text(value)
    if "://" in text:
        text = re.sub(r"://.*@", f"://{MASK}@", text)
        text = re.sub(r"\?.*", f"?{MASK}", text)
    return text


def _setting(attribute: str, info: FieldInfo, group: Group) -> Setting:
    name = _name(info)
    if attribute in PoolSettings.model_fields:
        group = Group.POOL
    elif name.startswith(_OWN_PREFIXES):
        group = Group.VOICE_LIVE
    required = info.is_required()
    return Setting(
        name=name,
        group=group,
        description=info.description or "",
        default="" if required else _text(info.default),
        required=required,
        values=_allowed(info),
    )


def _allowed(info: FieldInfo) -> str:
    kinds = [kind for kind in (get_args(info.annotation) or (info.annotation,)) if kind is not type(None)]
    kind = kinds[0] if len(kinds) == 1 and isinstance(kinds[0], type) else str
    if issubclass(kind, SecretStr):
        return "secret"
    if issubclass(kind, bool):
        return "true, false"
    if issubclass(kind, Enum):
        return ", ".join(str(choice.value) for choice in kind)
    return _range(kind, info.metadata) if issubclass(kind, int | float) else ""


def _range(kind: type, limits: list[Any]) -> str:
    least = next((limit.ge for limit in limits if isinstance(limit, Ge)), None)
    above = next((limit.gt for limit in limits if isinstance(limit, Gt)), None)
    most = next((limit.le for limit in limits if isinstance(limit, Le)), None)
    step = next((f", in steps of {limit.multiple_of}" for limit in limits if isinstance(limit, MultipleOf)), "")
    noun = "whole number" if issubclass(kind, int) else "number"
    if least is not None:
        text = f"{least} to {most}" if most is not None else f"{least} or more"
    elif above is not None:
        text = f"more than {above}" + (f", {most} at most" if most is not None else "")
    else:
        text = noun if most is None else f"{noun}, {most} at most"
    return text + step


def _required(model: type[RedisSettings]) -> list[str]:
    return [_name(info) for info in model.model_fields.values() if info.is_required()]


def _name(info: FieldInfo) -> str:
    assert isinstance(info.validation_alias, AliasChoices), "every setting is made by shared.settings.setting"
    return str(info.validation_alias.choices[0])


def _text(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case tuple():
            return ",".join(map(str, value))
        case dict():
            return ",".join(f"{name}={inner}" for name, inner in value.items())
        case _:
            return str(value)


def _values(settings: RedisSettings) -> dict[str, str]:
    values = {}
    for attribute, info in type(settings).model_fields.items():
        name = _name(info)
        values[name] = mask(getattr(settings, _IN_EFFECT.get(name, ""), getattr(settings, attribute)))
    return values


def _hidden_problems(model: type[RedisSettings], error: ConfigError, overrides: Mapping[str, str]) -> list[str]:
    """Returns what is wrong between settings, which is looked at only when each by itself is good."""
    defaults = {s.name: s.default for s in all_settings()} | _STAND_INS
    bad = {problem.partition(":")[0] for problem in error.problems} & defaults.keys()
    try:
        load(model, **{**overrides, **{name: defaults[name] for name in bad}})
    except ConfigError as hidden:
        return hidden.problems
    return []


def _env_file() -> dict[str, str]:
    return {name.upper(): value for name, value in dotenv_values(ENV_FILE).items() if value is not None}


def _sources() -> Mapping[str, str]:
    return dict.fromkeys(_env_file(), str(ENV_FILE)) | dict.fromkeys(os.environ, "environment")


def _secrets_named_in(path: Path) -> set[str]:
    """Returns the names in an agent file's `secret: NAME`, in capitals; the file need not be a good one."""
    try:
        text = path.read_text("utf-8", errors="replace")
    except OSError:
        return set()
    return {name.upper() for name in re.findall(r"""\bsecret["']?\s*:\s*["']?([\w.-]+)""", text)}


def _unknown_names(secrets: set[str]) -> Iterator[str]:
    known = [setting.name for setting in all_settings()]
    ours = (name for name in os.environ if name.startswith(_OWN_PREFIXES))
    for name in sorted({*_env_file(), *ours} - {*known, *secrets}):
        close = difflib.get_close_matches(name, known, 1)
        yield f"{name}: is not a setting" + (f"; did you mean {close[0]}?" if close else "")


def _quoted(value: str) -> str:
    return '"' + value.replace('"', '\\"') + '"' if re.search(r"[^\w./:,-]", value) else value


def _default_cell(setting: Setting) -> str:
    if setting.required:
        return "*required*"
    return f"`{setting.default}`" if setting.default else ""
