"""Bytes on a socket, for requests that no client would send."""

import socket
from contextlib import suppress

from harness.waiting import HANGS_AFTER


def exchange(port: int, request: bytes, *, is_all: bool = False) -> bytes:
    """Send it, and return what came back until the other side closed.

    Who `is_all` says that nothing follows, for requests that are not complete; not every server answers that.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=HANGS_AFTER) as connection:
        received = b""
        # It may have had enough before the end; what it says is still to be read.
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(request)
            if is_all:
                connection.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            while piece := connection.recv(65536):
                received += piece
        return received


def statuses(received: bytes) -> list[int]:
    """Those of all answers, one behind the other."""
    return [int(line.split()[1]) for line in received.splitlines() if line.startswith(b"HTTP/1.1 ")]
