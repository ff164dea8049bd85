"""Labels: what an agent asks for by name and value, and what a worker has. How they are written, and nothing more."""

from typing import Annotated

from pydantic import BeforeValidator, Field

LabelName = Annotated[str, Field(pattern=r"^[a-z0-9_.-]{1,63}$")]
LabelValue = Annotated[str, Field(pattern=r"^[!-~]{1,63}$")]
"""Visible ASCII: it stands in Redis, in logs and in tables."""

Labels = dict[LabelName, LabelValue]


def _without_nulls(labels: object) -> object:
    if isinstance(labels, dict):
        return {name: value for name, value in labels.items() if value is not None}
    return labels


InheritedLabels = Annotated[
    Labels, BeforeValidator(_without_nulls, json_schema_input_type=dict[LabelName, LabelValue | None])
]
"""Labels in which null takes back one that was inherited."""


def labels_in(text: str) -> dict[str, str]:
    """Returns the labels in `region=westeurope,pool=gold`; raises ValueError. Names and values are not checked."""
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    if not all(equals for _, equals, _ in pairs):
        raise ValueError("must be NAME=VALUE, with commas between several")
    labels = {name.strip(): value.strip() for name, _, value in pairs}
    if len(labels) < len(pairs):
        raise ValueError("has a name twice")
    return labels
