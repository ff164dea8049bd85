"""Writes what an image is made of as a CycloneDX document (JSON): `scripts/sbom.py IMAGE > sbom.cdx.json`.

It asks the image itself, in a container without network: dpkg for Debian's packages, their metadata for Python's, and
for pjproject the note that its build leaves. It does not look for vulnerabilities; scanners read the document.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

ASK_S = 60
"""For one question to the image, starting a container included."""

DEBIAN = r"dpkg-query --show --showformat '${binary:Package}\t${Version}\t${Architecture}\t${source:Package}\n'"

PYTHON = """
import importlib.metadata, json, pathlib, sysconfig
site = pathlib.Path(sysconfig.get_path("platlib"))
print(json.dumps({
    "python": [
        [each.name, each.version, each.metadata.get("License-Expression") or "", each.metadata.get("License") or ""]
        for each in importlib.metadata.distributions(path=[str(site)])
    ],
    "pjproject": json.loads((site / "pjsua2.libs" / "build.json").read_text()),
}))
"""


class ImageUnreadable(Exception):
    """The image cannot be asked: there is none of that name, no engine, or it is none of ours."""


def bom_of(image: str) -> str:
    """Returns the document of an image that is there; raises ImageUnreadable."""
    facts = json.loads(_ask(image, "python", "-c", PYTHON))
    bom = Bom(components=[*_debian(_ask(image, "sh", "-c", DEBIAN)), *_python(facts["python"]), _pjproject(facts)])
    own = next(each for each in facts["python"] if each[0] == "voicepool")
    bom.metadata.component = Component(
        type=ComponentType.CONTAINER,
        name="voicepool",
        version=own[1],
        licenses=[LicenseExpression("GPL-3.0-or-later")],
        properties=[Property(name="image", value=image)],
    )
    bom.register_dependency(bom.metadata.component, bom.components)
    return JsonV1Dot6(bom).output_as_string(indent=1)


def problem_of(document: str) -> str | None:
    """Returns what is wrong with a document by CycloneDX's own schema; None when nothing is."""
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(document)
    return None if error is None else str(error)


def _ask(image: str, *command: str) -> str:
    """Returns what a command says inside the image."""
    run = ["docker", "run", "--rm", "--network=none", "--read-only", f"--entrypoint={command[0]}", image, *command[1:]]
    try:
        return subprocess.run(run, check=True, capture_output=True, text=True, timeout=ASK_S).stdout
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip()
        raise ImageUnreadable(f"{image} cannot be asked: {said}") from error


def _debian(listing: str) -> Iterator[Component]:
    for line in listing.splitlines():
        name, version, architecture, source = line.split("\t")
        bare = name.partition(":")[0]
        yield Component(
            type=ComponentType.LIBRARY,
            group="debian",
            name=bare,
            version=version,
            purl=PackageURL("deb", "debian", bare, version, {"arch": architecture, "distro": "bookworm"}),
            properties=[Property(name="source", value=source)],
            bom_ref=f"deb:{name}",
        )


def _python(packages: list[list[str]]) -> Iterator[Component]:
    for name, version, expression, licence in sorted(packages):
        # A text of many lines in the old field is the licence itself, and says less than nothing as a name.
        named = DisjunctiveLicense(name=licence) if licence and "\n" not in licence else None
        yield Component(
            type=ComponentType.LIBRARY,
            name=name,
            version=version,
            purl=PackageURL("pypi", None, name.lower().replace("_", "-"), version),
            licenses=[LicenseExpression(expression)] if expression else [named] if named else [],
            bom_ref=f"python:{name}",
        )


def _pjproject(facts: dict[str, Any]) -> Component:
    built = facts["pjproject"]
    return Component(
        type=ComponentType.LIBRARY,
        name="pjproject",
        version=built["version"],
        description=f"built from the {built['origin']}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=built["sha256"])],
        licenses=[LicenseExpression("GPL-2.0-or-later")],
        purl=PackageURL("github", "pjsip", "pjproject", built["version"]),
        bom_ref="pjproject",
    )


def main() -> int:
    """Returns the exit code: 1 when the image cannot be asked, or when the document would be none."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("image")
    try:
        document = bom_of(parser.parse_args().image)
    except ImageUnreadable as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if problem := problem_of(document):
        sys.stderr.write(f"not CycloneDX: {problem}\n")
        return 1
    sys.stdout.write(document + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
