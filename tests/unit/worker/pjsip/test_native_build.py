"""The build step: where the source comes from, what it says when something is missing, what it leaves behind."""

import fcntl
import io
import os
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import build_pjproject
import build_source
import pytest
from build_pjproject import Artifact
from build_steps import BuildFailed, BuildLog, sha256_of

NATIVE = Path(build_source.__file__).parent
BUILD = NATIVE / "build.py"
USER_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "voicepool"


@pytest.fixture
def log(tmp_path: Path) -> BuildLog:
    return BuildLog(tmp_path / "build.log")


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    """What build.py has built for this environment; run it first."""
    found = build_pjproject.find_artifact(USER_CACHE, None)
    assert found is not None, "run worker/pjsip/native/build.py first"
    return found


@pytest.fixture(scope="module")
def second_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a fresh virtual environment."""
    directory = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True)
    return directory / "bin/python"


def build(python: Path | str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [python, BUILD]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=100, check=False
    )


def tarball(path: Path, version_mak: str | None) -> Path:
    """A pjproject with next to nothing in it; if given, with version.mak."""
    with tarfile.open(path, "w:xz") as archive:
        members = (
            ("pjlib/include/pj/config.h", ""),
            ("pjmedia/src/pjmedia-audiodev/null_dev.c", ""),
            ("version.mak", version_mak),
        )
        for name, text in members:
            if text is not None:
                entry = tarfile.TarInfo(f"pjproject/{name}")
                entry.size = len(text)
                archive.addfile(entry, io.BytesIO(text.encode()))
    return path


def version_mak(major: str, minor: str, revision: str = "", suffix: str = "") -> str:
    return (
        f"export PJ_VERSION_MAJOR  := {major}\nexport PJ_VERSION_MINOR  := {minor}\n"
        f"export PJ_VERSION_REV    := {revision}\nexport PJ_VERSION_SUFFIX := {suffix}\n"
    )


# The source


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (version_mak("2", "16"), "2.16"),
        (version_mak("2", "17"), "2.17"),
        (version_mak("2", "17", "1"), "2.17.1"),
        (version_mak("2", "18", "", "-dev"), "2.18-dev"),
        (version_mak("3", "0"), "3.0"),
    ],
)
def test_versions_from_2_16_on_are_accepted(tmp_path: Path, text: str, version: str) -> None:
    source = build_source.given_source(tarball(tmp_path / "pj.tar.xz", text))
    assert build_source.read_version(build_source.unpack(source, tmp_path / "top")) == version


@pytest.mark.parametrize(
    ("text", "complaint"),
    [(version_mak("2", "15", "1"), "too old"), ("nonsense", "cannot read"), (None, "no pjproject")],
)
def test_anything_else_is_refused(tmp_path: Path, text: str | None, complaint: str) -> None:
    source = build_source.given_source(tarball(tmp_path / "pj.tar.xz", text))
    with pytest.raises(BuildFailed, match=complaint):
        build_source.read_version(build_source.unpack(source, tmp_path / "top"))


def test_a_tarball_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pj.tar.xz").write_bytes(b"no tarball")
    with pytest.raises(BuildFailed, match="cannot unpack"):
        build_source.unpack(build_source.given_source(tmp_path / "pj.tar.xz"), tmp_path)
    with pytest.raises(BuildFailed, match="--source"):
        build_source.given_source(tmp_path / "missing.tar.xz")


class Web:
    """Stands in for the internet."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answer: bytes | OSError) -> None:
        self.asked: list[str] = []
        self._answer = answer
        monkeypatch.setattr(urllib.request, "urlopen", self._open)

    def _open(self, url: str, timeout: float) -> io.BytesIO:
        self.asked.append(url)
        if isinstance(self._answer, OSError):
            raise self._answer
        return io.BytesIO(self._answer)


def test_the_upstream_release_is_taken_once_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: BuildLog
) -> None:
    release = tarball(tmp_path / "release", version_mak("2", "17")).read_bytes()
    monkeypatch.setattr(build_source, "UPSTREAM_SHA256", sha256_of(tmp_path / "release"))
    web = Web(monkeypatch, release)
    for _ in range(2):
        source = build_source.fetch_source(tmp_path / "sources", log)
        assert source.tarball.read_bytes() == release
    assert web.asked == [build_source.UPSTREAM_URL]


def test_an_upstream_release_with_another_hash_is_refused_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: BuildLog
) -> None:
    Web(monkeypatch, b"something else")
    with pytest.raises(BuildFailed, match=build_source.UPSTREAM_SHA256):
        build_source.fetch_source(tmp_path / "sources", log)
    assert list((tmp_path / "sources").iterdir()) == []


FAKE_APT = """#!/bin/sh
case "$*" in
    *indextargets*)
        echo "http://archive.test/debian-security http://vendor.test/apt http://archive.test/debian" ;;
    *update)
        parts=$(echo "$*" | tr ' ' '\\n' | sed -n 's/Dir::Etc::SourceParts=//p')
        cat "$parts/sid.sources" > "$RELEASE.sources" ;;
    *"source --download-only asterisk")
        touch asterisk_1.orig.tar.xz asterisk_1.dsc
        cp "$RELEASE" asterisk_1.orig-Xpjproject.tar.xz ;;
esac
"""


@pytest.fixture
def fake_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An apt-get that knows a Debian archive; the file it gives as pjproject."""
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "apt-get").write_text(FAKE_APT)
    (commands / "apt-get").chmod(0o755)
    release = tarball(tmp_path / "release", version_mak("2", "17"))
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    monkeypatch.setenv("RELEASE", str(release))
    monkeypatch.setattr(build_source, "DEBIAN_KEYRING", release)
    yield release


def test_without_upstream_the_source_comes_from_the_machines_own_debian_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: BuildLog, fake_apt: Path
) -> None:
    web = Web(monkeypatch, OSError("no route"))
    sources = tmp_path / "sources"
    source = build_source.fetch_source(sources, log)
    assert source.sha256 == sha256_of(fake_apt)
    assert source.origin == "Debian source package"
    assert "URIs: http://archive.test/debian\n" in Path(f"{fake_apt}.sources").read_text()
    assert [path.name for path in sources.iterdir()] == [f"debian-{source.sha256}.tar.xz"]
    assert build_source.fetch_source(sources, log) == source
    assert len(web.asked) == 1


def test_without_upstream_and_without_debian_the_error_tells_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: BuildLog
) -> None:
    Web(monkeypatch, OSError("no route"))
    monkeypatch.setattr(build_source, "DEBIAN_KEYRING", tmp_path / "none")
    with pytest.raises(BuildFailed, match="--source"):
        build_source.fetch_source(tmp_path / "sources", log)


# The steps


def test_a_failed_step_shows_the_end_of_its_output_and_where_the_rest_is(log: BuildLog) -> None:
    with pytest.raises(BuildFailed) as failure:
        log.run("the step", ["sh", "-c", "seq 100; exit 3"])
    assert "the step failed" in str(failure.value)
    assert str(log.path) in str(failure.value)
    assert str(failure.value).endswith("100")


def test_a_step_ends_what_still_runs_when_one_command_fails(log: BuildLog) -> None:
    with pytest.raises(BuildFailed):
        log.run("the step", ["sleep", "60"], ["false"])


def test_a_missing_command_is_named(log: BuildLog) -> None:
    with pytest.raises(BuildFailed, match="no-such-compiler"):
        log.run("the step", ["no-such-compiler"])


def test_a_failed_or_killed_build_leaves_nothing_in_the_cache(tmp_path: Path, log: BuildLog) -> None:
    cache = tmp_path / "cache"
    (cache / "building-killed").mkdir(parents=True)
    with pytest.raises(BuildFailed, match="patch"):
        build_pjproject.build_artifact(cache, tarball(tmp_path / "pj.tar.xz", version_mak("2", "17")), log, jobs=1)
    assert list(cache.iterdir()) == []
    assert build_pjproject.find_artifact(cache, None) is None


# The command


def test_python_outside_a_virtual_environment_is_refused() -> None:
    result = build(str(getattr(sys, "_base_executable", sys.executable)))
    assert result.returncode == 1
    assert "virtual environment" in result.stderr


def test_missing_system_packages_are_named_all_at_once(second_environment: Path, tmp_path: Path) -> None:
    result = build(second_environment, XDG_CACHE_HOME=str(tmp_path), PATH=str(tmp_path))
    assert result.returncode == 1
    assert "apt-get install" in result.stderr
    assert "build-essential patch swig" in result.stderr


def test_missing_headers_are_named_by_package(second_environment: Path, tmp_path: Path) -> None:
    compiler = tmp_path / "gcc"
    compiler.write_text("#!/bin/sh\nsed -n '/speex.h/s/^missing/&/p;/gsm.h/s/^missing/&/p'\n")
    compiler.chmod(0o755)
    result = build(second_environment, XDG_CACHE_HOME=str(tmp_path), PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert result.returncode == 1
    assert result.stderr.rstrip().endswith("libgsm1-dev libspeex-dev")


def test_a_shell_can_read_the_list_of_packages() -> None:
    script = f"sed 's/#.*//' {NATIVE / 'apt-packages.txt'} | awk 'NF {{print $1}}' | sort -u"
    packages = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert {"build-essential", "libopus-dev", "libsrtp2-dev", "libssl-dev", "swig"} <= set(packages)
    assert all(package.replace("-", "").replace("+", "").isalnum() for package in packages)


def test_two_builds_at_once_take_turns(second_environment: Path, tmp_path: Path) -> None:
    (tmp_path / "voicepool").mkdir()
    source = tarball(tmp_path / "pj.tar.xz", "a broken version.mak")
    with (tmp_path / "voicepool/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with subprocess.Popen(
            [second_environment, BUILD, "--source", source],
            env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as second:
            assert second.stdout is not None
            assert "waiting" in second.stdout.readline()
            assert second.poll() is None
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert "cannot read the version" in second.communicate(timeout=30)[1]


def test_this_environment_is_up_to_date(artifact: Artifact) -> None:
    result = build(sys.executable)
    assert result.returncode == 0, result.stderr
    assert "up to date" in result.stdout
    assert artifact.name in result.stdout


def test_a_second_environment_is_served_from_the_cache_and_stands_alone(
    second_environment: Path, artifact: Artifact
) -> None:
    result = build(second_environment)
    assert result.returncode == 0, result.stderr
    assert "taken from the cache" in result.stdout
    script = "import pjaudioport, pjsua2; print(open('/proc/self/maps').read())"
    run = subprocess.run([second_environment, "-c", script], capture_output=True, text=True, check=True)
    libraries = {line.split()[-1] for line in run.stdout.splitlines() if "/libpj" in line or "_pjsua2" in line}
    assert any("libpjsua.so" in path for path in libraries)
    assert all(Path(path).is_relative_to(second_environment.parents[1]) for path in libraries)
    assert "up to date" in build(second_environment).stdout


CAPABILITIES = """
import pjsua2 as pj
endpoint = pj.Endpoint()
endpoint.libCreate()
config = pj.EpConfig()
config.logConfig.level = config.logConfig.consoleLevel = 1
config.uaConfig.maxCalls = 512
config.medConfig.maxMediaPorts = 1040
endpoint.libInit(config)
for kind in (pj.PJSIP_TRANSPORT_UDP, pj.PJSIP_TRANSPORT_TCP, pj.PJSIP_TRANSPORT_TLS):
    endpoint.transportCreate(kind, pj.TransportConfig())
endpoint.libStart()
print(*(codec.codecId for codec in endpoint.codecEnum2()))
endpoint.libDestroy(pj.PJSUA_DESTROY_NO_NETWORK)
"""


def test_the_build_carries_hundreds_of_calls_over_udp_tcp_and_tls_in_telephone_and_wide_band(
    artifact: Artifact,
) -> None:
    run = subprocess.run([sys.executable, "-c", CAPABILITIES], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert {"PCMU/8000/1", "PCMA/8000/1", "G722/16000/1", "opus/48000/2"} <= set(run.stdout.split())


def test_what_is_installed_names_no_directory_of_the_build(artifact: Artifact) -> None:
    for path in artifact.site.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert b"building-" not in content, path
            assert os.fsencode(artifact.directory) not in content, path


def test_the_port_compiles_without_a_warning(artifact: Artifact) -> None:
    warnings = ["-Wall", "-Wextra", "-Wshadow", "-Werror", "-fsyntax-only", "-std=c11"]
    flags = build_pjproject.compile_flags(artifact.include)
    result = subprocess.run(
        ["gcc", *flags, *warnings, str(NATIVE / "audio_port.c")], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
