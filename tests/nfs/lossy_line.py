"""A line between a machine and the NFS server that holds one request back, or loses the reply to it.

NFSv4.1 repeats a request whose reply was lost, and a server that lives knows that it has answered (RFC 8881, section
2.10.6). One that has been restarted meanwhile does the request again, and then there is nothing left to rename or
remove, and something in the place of what is to be linked.
"""

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from nfs.network import HOST
from nfs.server import PORT as SERVER_PORT

PORT = 2050

# The number of an operation (RFC 7863) and its first arguments: the length and beginning of a name, or, to read, the
# state and the offset 0.
LINK = re.compile(rb"\x00\x00\x00\x0b\x00\x00\x00.[0-9a-f]", re.DOTALL)
READ = re.compile(rb"\x00\x00\x00\x19.{16}\x00{8}", re.DOTALL)
REMOVE = re.compile(rb"\x00\x00\x00\x1c\x00\x00\x00.[.0-9a-f]", re.DOTALL)
RENAME = re.compile(rb"\x00\x00\x00\x1d\x00\x00\x00.\.put-", re.DOTALL)
TAKE_A_NAME = re.compile(LINK.pattern + b"|" + RENAME.pattern, re.DOTALL)


class LossyLine:
    """Machines reach the server through PORT."""

    def __init__(self) -> None:
        self.lost, self.held = threading.Event(), threading.Event()
        self._released = threading.Event()
        self._holds = False
        self._request: re.Pattern[bytes] | None = None
        self._loses = threading.Event()
        self._listener = socket.create_server((HOST, PORT))
        threading.Thread(target=self._accept, daemon=True).start()

    def lose_reply_to(self, request: re.Pattern[bytes]) -> None:
        """Lose the reply to the first such request from now on; `lost` tells when that has happened."""
        self.lost.clear()
        self._request, self._holds = request, False

    def hold(self, request: re.Pattern[bytes]) -> None:
        """Hold the first such request back, and all that come after it, until `release`; `held` tells when."""
        self.held.clear()
        self._released.clear()
        self._request, self._holds = request, True

    def release(self) -> None:
        self._released.set()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection((HOST, SERVER_PORT))
                except OSError:
                    client.close()
                    continue
                self._loses.clear()
                for carry, ends in ((self._carry_requests, (client, server)), (self._carry_replies, (server, client))):
                    threading.Thread(target=carry, args=ends, daemon=True).start()

    def _carry_requests(self, client: socket.socket, server: socket.socket) -> None:
        with _ended(client, server), suppress(OSError):
            while data := client.recv(1 << 20):
                if self._request and self._request.search(data):
                    self._request = None
                    self._obey()
                server.sendall(data)

    def _obey(self) -> None:
        if self._holds:
            self.held.set()
            self._released.wait()
        else:
            self._loses.set()

    def _carry_replies(self, server: socket.socket, client: socket.socket) -> None:
        with _ended(client, server), suppress(OSError):
            while data := server.recv(1 << 20):
                if self._loses.is_set():
                    self.lost.set()
                else:
                    client.sendall(data)


@contextmanager
def _ended(*connections: socket.socket) -> Iterator[None]:
    """End connections at the end, for both sides to notice: closing one that a thread receives from does nothing."""
    try:
        yield
    finally:
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
