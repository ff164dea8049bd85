"""The project's HTTP API, as a process here, with the tokens that the chart has made for the pod it would run in."""

import base64
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from admin.ports import free_tcp_port
from tests.deploy.cluster.plane import HERE, START_S
from tests.deploy.cluster.process import running
from tests.deploy.cluster.release import NAME, Release

VOICEPOOL = Path(sys.executable).with_name("voicepool")


@contextmanager
def running_api(release: Release, redis_url: str) -> Iterator[str]:
    """Runs it for the block, and yields its URL."""
    log, tokens, port = (release.plane.directory / "api.log"), release.plane.directory / "tokens", free_tcp_port()
    tokens.write_bytes(base64.b64decode(release.get("secret", f"{NAME}-admin")["data"]["tokens"]))
    environment = {"REDIS_URL": redis_url, "ADMIN_PORT": str(port), "ADMIN_TOKENS_FILE": str(tokens)}
    with running([VOICEPOOL, "api"], log, environment) as api:
        api.await_ready(lambda: '"admin.listening"' in log.read_text(), START_S)
        yield f"http://{HERE}:{port}"
