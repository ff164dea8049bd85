"""The programs of the profile `observability` that Debian has no packages for, built from their published Go modules.

`python -m tests.deploy.compose.build PROGRAM` builds what is missing of one of them, and prints where it is.
`tests/deploy/base_images` makes images of them, where no registry can be reached.
"""

import hashlib
import sys
import time
from pathlib import Path

from tests.deploy.go_modules import NotBuilt, Source, alone, build_all, cache_root, program, run, say, toolchain

SUITE = "compose"

LOKI = Source(SUITE, "github.com/grafana/loki/v3", "v3.7.8", {"loki": "cmd/loki"})

_TEMPO_VERSION = "v1.5.1-0.20250529124718-87c2dc380cec"

TEMPO = Source(
    SUITE,
    "github.com/grafana/tempo",
    _TEMPO_VERSION,
    {"tempo": "cmd/tempo"},
    # As Grafana's go.sum has them.
    sums=f"""\
github.com/grafana/tempo {_TEMPO_VERSION} h1:wnzJov9RhSHGaTYGzTygL4qq986fLen8xSqnQgaMd28=
github.com/grafana/tempo {_TEMPO_VERSION}/go.mod h1:j1IY7J2rUz7TcTjFVVx6HCpyTlYOJPtXuGRZ7sI+vSo=
""",
)
"""A commit between 2.8.0-rc.0 and 2.8.0: Tempo's releases are no versions of its module, and of its commits a proxy has
those that others require, as Grafana 12 does this one."""

BUILDER = Source(SUITE, "go.opentelemetry.io/collector/cmd/builder", "v0.161.0", {"builder": ""})
"""Writes the collector of a list of components."""

COMPONENTS = Path(__file__).with_name("collector.yaml")
"""Of the distribution that docker-compose.yml names, those that docker/compose/collector.yml uses."""


def built(name: str) -> Path:
    """The program `collector`, `loki` or `tempo`, built if it was not there.

    Raises NotBuilt when it cannot be, and says why.
    """
    if name == "collector":
        return _collector()
    [source] = [source for source in (LOKI, TEMPO) if name in source.programs]
    build_all([source])
    return program(source, name)


def _collector() -> Path:
    build_all([BUILDER])
    listed = COMPONENTS.read_bytes()
    directory = cache_root() / SUITE / f"collector@{BUILDER.version}-{hashlib.sha256(listed).hexdigest()[:12]}"
    made = directory / "otelcol-contrib"
    with alone(directory):
        if not made.is_file():
            began = time.monotonic()
            toolchain()
            say(SUITE, f"collector {BUILDER.version}: building")
            run([str(program(BUILDER, "builder")), f"--config={COMPONENTS}"], directory)
            say(SUITE, f"collector {BUILDER.version}: {time.monotonic() - began:.0f} s")
    return made


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{built(sys.argv[1])}\n")
    except NotBuilt as error:
        sys.exit(str(error))
