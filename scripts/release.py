"""Makes a release and checks it: `make release`. Everything is put into dist/; nothing is published and nothing tagged.

    1. the version, from pyproject.toml, is that of the chart, has a section in CHANGELOG.md, and the tree is clean
    2. sdist and wheel; the wheel is installed into an environment of its own, where it runs a pool and a call
    3. the image, within its size, and its SBOM; the image says the version
    4. the chart, linted, as a package
    5. SHA256SUMS of what is in dist/

Without a Docker engine, `--no-images` leaves step 3 out, and says so.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import yaml
from helm_python import chart

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
CHART = ROOT / "helm" / "voicepool"
IMAGE_BYTES_MAX = 350 * 1024 * 1024
STEP_TIMEOUT_S = 1800


class NotReleasable(Exception):
    """Something that a release needs is not so."""


def main() -> int:
    """Returns the exit code: 0 all is in dist/, 1 something is missing or wrong, and what."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--no-images", action="store_true", help="leave the image out: there is no Docker engine here")
    options = parser.parse_args()
    try:
        version = check_version()
        shutil.rmtree(DIST, ignore_errors=True)
        DIST.mkdir()
        check_wheel(build_packages(version), version)
        if options.no_images:
            say("image: left out, as asked")
        else:
            build_image(version)
        package_chart(version)
        write_sums()
    except NotReleasable as problem:
        sys.stderr.write(f"release: {problem}\n")
        return 1
    say(f"voicepool {version} is in {DIST.relative_to(ROOT)}/: tag this commit v{version} and publish what is there")
    return 0


def check_version() -> str:
    """Returns the one version; raises NotReleasable unless everything that names it says the same."""
    version: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    for field in ("version", "appVersion"):
        if about[field] != version:
            raise NotReleasable(f"Chart.yaml: {field} is {about[field]}, pyproject.toml says {version}")
    if not re.search(
        rf"^## \[?{re.escape(version)}\]? - \d{{4}}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.M
    ):
        raise NotReleasable(f"CHANGELOG.md has no section `## {version} - YYYY-MM-DD`: what is new is under Unreleased")
    if run("git", "status", "--porcelain"):
        raise NotReleasable("there are changes that are not committed: a release is made of a commit")
    say(f"version {version}")
    return version


def build_packages(version: str) -> Path:
    """Builds sdist and wheel; returns the wheel."""
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(DIST))
    wheel = DIST / f"voicepool-{version}-py3-none-any.whl"
    if not wheel.exists() or not (DIST / f"voicepool-{version}.tar.gz").exists():
        raise NotReleasable(f"build made {sorted(path.name for path in DIST.iterdir())}")
    say("sdist and wheel built")
    return wheel


def check_wheel(wheel: Path, version: str) -> None:
    """Installs the wheel where nothing else is, and has it answer a call."""
    with tempfile.TemporaryDirectory() as directory:
        venv = Path(directory, "venv")
        run(sys.executable, "-m", "venv", str(venv))
        pip = (str(venv / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
        run(*pip, "--require-hashes", "-r", str(ROOT / "requirements.lock"))
        run(*pip, "--no-deps", str(wheel))
        voicepool = str(venv / "bin" / "voicepool")
        if run(voicepool, "--version", cwd=directory) != f"voicepool {version}":
            raise NotReleasable("the installed wheel has another version")
        run(voicepool, "build-native", cwd=directory)
        report = json.loads(run(voicepool, "run", "--once", "--json", cwd=directory))
        if not report["ok"]:
            raise NotReleasable(f"the installed wheel answered no call: {report}")
    say("wheel: installed by itself, it answered a call")


def build_image(version: str) -> None:
    """Builds the image and its SBOM."""
    revision = run("git", "rev-parse", "HEAD")
    run("make", "images", f"VERSION={version}", f"REVISION={revision}")
    image = f"voicepool:{version}"
    size = int(run("docker", "image", "inspect", "--format", "{{.Size}}", image))
    if size > IMAGE_BYTES_MAX:
        raise NotReleasable(f"{image} has {size / 2**20:.0f} MB, more than {IMAGE_BYTES_MAX / 2**20:.0f}")
    told = run("docker", "run", "--rm", "--read-only", "--network", "none", image, "voicepool", "--version")
    if told != f"voicepool {version}":
        raise NotReleasable(f"{image} says {told}")
    archive = DIST / f"voicepool-{version}-image.tar"
    run("docker", "save", "--output", str(archive), image)
    run("gzip", "--force", str(archive))
    shutil.copy(ROOT / "run" / "sbom.cdx.json", DIST / f"voicepool-{version}-sbom.cdx.json")
    say(f"image {image}: {size / 2**20:.0f} MB")


def package_chart(version: str) -> None:
    """Lints and packs the chart."""
    found = chart.lint(CHART)
    if problems := [str(message) for message in found.get("messages", []) if "ERROR" in str(message)]:
        raise NotReleasable(f"chart: {problems}")
    chart.package(CHART, destination=DIST, version=version, app_version=version)
    if not (DIST / f"voicepool-{version}.tgz").exists():
        raise NotReleasable("the chart was not packed")
    say("chart packed")


def write_sums() -> None:
    """Writes SHA256SUMS, as `sha256sum --check` reads it."""
    files = sorted(path for path in DIST.iterdir() if path.is_file())
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (DIST / "SHA256SUMS").write_text("".join(lines))


def run(*command: str, cwd: str | None = None) -> str:
    """Runs a command and returns what it printed; raises NotReleasable with the end of what it said."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    try:
        done = subprocess.run(
            command, cwd=cwd or ROOT, env=environment, capture_output=True, text=True, timeout=STEP_TIMEOUT_S
        )
    except FileNotFoundError:
        raise NotReleasable(f"{command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise NotReleasable(f"{' '.join(command)}: no end after {STEP_TIMEOUT_S} s") from None
    if done.returncode:
        raise NotReleasable(f"{' '.join(command)}: exit code {done.returncode}\n{(done.stdout + done.stderr)[-2000:]}")
    return done.stdout.strip()


def say(text: str) -> None:
    """Tells how far it has come."""
    sys.stdout.write(f"release: {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
