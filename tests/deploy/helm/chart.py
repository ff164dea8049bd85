"""The chart as its tests see it: rendered to objects, by Helm's own library. Nothing is installed anywhere."""

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import helm_python as helm
import yaml

ROOT = Path(__file__).parents[3]
CHART = ROOT / "helm" / "voicepool"
PROFILES = {file.stem: file for file in sorted((ROOT / "helm" / "profiles").glob("*.yaml"))}
"""Values that users take, by name."""

MATRIX = {**PROFILES, **{file.stem: file for file in sorted((Path(__file__).parent / "values").glob("*.yaml"))}}
"""These, and others that try what is left."""

GOLDEN = Path(__file__).parent / "golden"

RELEASE, NAMESPACE = "voicepool", "voice"

GENERATED = "voicepool.io/generated"
"""Annotation of Secrets whose content is another one with each rendering."""

Values = Mapping[str, Any]
Object = dict[str, Any]


@functools.cache
def chart() -> helm.Chart:
    """Returns the chart, which is loaded once."""
    return helm.Chart.load(CHART)


def values_of(name: str) -> Values:
    """Returns the values that the matrix has under this name."""
    values: Values = yaml.safe_load(MATRIX[name].read_text()) or {}
    return values


def rendered(values: Values) -> dict[str, str]:
    """Returns what the templates come to, by their paths in the chart; raises HelmError."""
    files = chart().render(dict(values), name=RELEASE, namespace=NAMESPACE)
    return {path.split("/templates/")[1]: text for path, text in sorted(files.items())}


def objects(values: Values) -> list[Object]:
    """Returns the objects that the chart makes of these values."""
    return list(objects_in(rendered(values)))


def objects_in(files: Mapping[str, str]) -> Iterator[Object]:
    """Yields the objects of rendered files."""
    for path, text in files.items():
        if path != "NOTES.txt":
            yield from filter(None, yaml.safe_load_all(text))


def one(found: list[Object], kind: str, name: str) -> Object:
    """Returns the object of this kind whose name, without the release's, is this."""
    (each,) = (item for item in found if (item["kind"], item["metadata"]["name"]) == (kind, f"{RELEASE}-{name}"))
    return each


def pod_template(item: Object) -> Object | None:
    """Returns metadata and spec of the object's pods; None when it has none."""
    if item["kind"] == "Pod":
        return item
    template: Object | None = item["spec"]["template"] if item["kind"] == "Deployment" else None
    return template


def pods(found: list[Object]) -> list[tuple[str, Object]]:
    """Returns name and template of all pods."""
    return [(item["metadata"]["name"], template) for item in found if (template := pod_template(item))]


def environment(item: Object, *, secrets: str = "0123456789abcdef") -> dict[str, str]:
    """Returns the variables of an object's container, with stand-ins for what comes out of Secrets and of the pod."""
    template = pod_template(item)
    assert template
    fields = {"metadata.name": "pod-a", "spec.nodeName": "node-1"}
    found = {}
    for variable in template["spec"]["containers"][0].get("env", []):
        source = variable.get("valueFrom", {})
        if "secretKeyRef" in source:
            found[variable["name"]] = "rediss://redis:6379/0" if variable["name"] == "REDIS_URL" else secrets
        elif "fieldRef" in source:
            found[variable["name"]] = fields.get(source["fieldRef"]["fieldPath"], "192.0.2.7")
        else:
            found[variable["name"]] = variable["value"]
    return found
