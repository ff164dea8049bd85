"""Which of this host's addresses a call goes out from; it dials nothing and resolves names as the system does."""

import re
import socket

_HOST = re.compile(r"sip:(?:[^@]*@)?(?P<host>[^:;?>]+)(?::(?P<port>\d+))?")


def local_address(target: str) -> str:
    """Returns the address of this host that reaches the SIP URI `target`; raises ValueError when there is none."""
    found = _HOST.match(target)
    if not found:
        raise ValueError(f"not a SIP URI: {target}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((found["host"], int(found["port"] or 5060)))
        except OSError as error:
            raise ValueError(f"{found['host']} cannot be reached: {error}") from error
        return str(probe.getsockname()[0])
