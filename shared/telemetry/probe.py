"""`python -m shared.telemetry.probe live|ready`: asks this pod's own telemetry server, for an orchestrator's probes.

It uses nothing but the standard library, so that a probe costs little more than the start of an interpreter. Exit code
0 is yes; 1 is no, and the reason is on stdout.
"""

import http.client
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

TIMEOUT_S = 2.0

PATHS = {"live": "/livez", "ready": "/readyz"}


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Asks, and returns the exit code; 2 for bad arguments."""
    if len(arguments) != 1 or arguments[0] not in PATHS:
        return _say("usage: python -m shared.telemetry.probe live|ready", 2)
    try:
        port = _port(environment)
    except (OSError, ValueError):
        return _say("no port: neither TELEMETRY_PORT nor the file TELEMETRY_PORT_FILE says one", 1)
    if port is None:
        return _say("it waits for its ports", 0 if arguments[0] == "live" else 1)
    try:
        status, text = _ask(_host(environment), port, PATHS[arguments[0]])
    except (OSError, http.client.HTTPException) as error:
        return _say(f"no answer from port {port}: {type(error).__name__}", 1)
    return _say(text, 0 if status == 200 else 1)


def _port(environment: Mapping[str, str]) -> int | None:
    """Returns the port in the file, which knows about shifted ports, or else the one of the settings.

    None is a file with nothing in it: the pod has no ports yet, and the one of the settings may be another pod's.
    """
    file = Path(environment.get("TELEMETRY_PORT_FILE") or "/nonexistent")
    if not file.exists():
        return int(environment.get("TELEMETRY_PORT", ""))
    text = file.read_text().strip()
    return int(text) if text else None


def _host(environment: Mapping[str, str]) -> str:
    """Returns where to reach what listens on TELEMETRY_HOST: an unspecified address is every address."""
    host = environment.get("TELEMETRY_HOST", "")
    return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def _ask(host: str, port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read(1000).decode("utf-8", "replace").strip()
    finally:
        connection.close()


def _say(text: str, code: int) -> int:
    sys.stdout.write(f"{text}\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
