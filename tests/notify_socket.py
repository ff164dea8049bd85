"""systemd's end of NOTIFY_SOCKET: what a process tells it is read, and nothing done about it."""

import asyncio
import socket

PATIENCE_S = 40.0
"""Longest wait for a process that starts, on a machine that has other things to do."""


class Listener:
    """Takes messages from the start on, at a path or (`"\\0..."`) a name in the abstract namespace."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.setblocking(False)

    def told(self) -> list[list[str]]:
        """Returns the messages that have come, line by line."""
        messages = []
        while True:
            try:
                messages.append(self._socket.recv(4096).decode().split("\n"))
            except BlockingIOError:
                return messages

    async def until(self, line: str) -> list[str]:
        """Returns the next message that has this line."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                message = (await asyncio.get_running_loop().sock_recv(self._socket, 4096)).decode().split("\n")
                if line in message:
                    return message

    def close(self) -> None:
        """Listens no more."""
        self._socket.close()
