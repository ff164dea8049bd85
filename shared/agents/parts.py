"""What all parts of the agent file are made of: the frozen base model, secrets, shorthands, and common field types.

It knows no agent.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, WithJsonSchema
from pydantic import GetCoreSchemaHandler as CoreHandler
from pydantic import GetJsonSchemaHandler as JsonHandler
from pydantic import ValidationInfo as Info
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema


class Part(BaseModel):
    """A mapping of the agent file: frozen, and with no key that is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


@dataclass(frozen=True, slots=True)
class Shorthand:
    """Annotation: plain text in the file stands for the mapping that `expand` makes of it."""

    expand: Callable[[str], dict[str, Any]]
    choices: tuple[str, ...] = ()
    """The texts that can be written, where they are few."""

    def __get_pydantic_core_schema__(self, source: Any, handler: CoreHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(
            lambda value: self.expand(value) if isinstance(value, str) else value, handler(source)
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: JsonHandler) -> JsonSchemaValue:
        text: JsonSchemaValue = {"type": "string", "enum": list(self.choices)} if self.choices else {"type": "string"}
        return {"anyOf": [text, handler(schema)]}


@dataclass(frozen=True, slots=True)
class ImpliedType:
    """Annotation: a mapping that says no `type` has this one."""

    type: str

    def __get_pydantic_core_schema__(self, source: Any, handler: CoreHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(
            lambda value: {"type": self.type, **value} if isinstance(value, dict) else value, handler(source)
        )


@dataclass(frozen=True, slots=True)
class OneOrMany:
    """Annotation of a tuple: in the file a list that is not empty, or what would be its only element."""

    def __get_pydantic_core_schema__(self, source: Any, handler: CoreHandler) -> CoreSchema:
        several = core_schema.no_info_after_validator_function(_not_empty, handler(source))
        return core_schema.no_info_before_validator_function(
            lambda value: value if isinstance(value, list | tuple) else (value,), several
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: JsonHandler) -> JsonSchemaValue:
        several = handler(schema)
        return {"anyOf": [several["items"], {**several, "minItems": 1}]}


def _not_empty(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if not values:
        raise ValueError("must not be empty; leave it out")
    return values


SECRETS = "secrets"
"""Key of the validation context under which a callable gives the secret of a name, or raises ValueError."""

_SECRET_SCHEMA: JsonSchemaValue = {
    "type": "object",
    "description": "Environment variable, or file in SECRETS_DIR, that holds the secret.",
    "properties": {"secret": {"type": "string"}},
    "required": ["secret"],
    "additionalProperties": False,
}


def _secret(value: Any, info: Info) -> Any:
    """Resolves `{secret: NAME}` through the validation context; what is a secret already stays as it is."""
    if isinstance(value, SecretStr):
        return value
    if not (isinstance(value, Mapping) and value.keys() == {"secret"} and isinstance(value["secret"], str)):
        raise ValueError("must be written as {secret: NAME}, never as the secret itself")
    resolve = (info.context or {}).get(SECRETS)
    if resolve is None:
        raise ValueError("there is nowhere to look for secrets")
    return SecretStr(resolve(value["secret"]))


def _text_or_secret(value: Any, info: Info) -> Any:
    return value if isinstance(value, str) else _secret(value, info)


Secret = Annotated[SecretStr, BeforeValidator(_secret), WithJsonSchema(_SECRET_SCHEMA)]
"""In the file {secret: NAME}; resolved when the file is loaded."""

TextOrSecret = Annotated[
    str | SecretStr,
    BeforeValidator(_text_or_secret),
    WithJsonSchema({"anyOf": [{"type": "string"}, _SECRET_SCHEMA]}),
]


def _one_line(value: str) -> str:
    if re.search(r"[\x00-\x1f\x7f]", value):
        raise ValueError("must be one line without control characters")
    return value


def _web_address(value: str) -> str:
    if not re.match(r"https?://[^/\s]+", value):
        raise ValueError("must be a URL that starts with https:// or http://")
    return value


Line = Annotated[str, Field(min_length=1, max_length=2_000), AfterValidator(_one_line)]
Spoken = Annotated[str, Field(min_length=1, max_length=2_000)]
"""A text that is said to the caller."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
"""Of an agent, a tool, a target: what fits into a function name, a label and a log line."""

Digit = Annotated[str, Field(pattern=r"^[0-9A-D*#]$")]
"""One key of the telephone (RFC 4733 section 3.2)."""

Seconds = Annotated[float, Field(ge=0, le=86_400)]
WebAddress = Annotated[Line, AfterValidator(_web_address)]

Strings = Annotated[tuple[Line, ...], OneOrMany()]
"""One text, or a list of them."""
