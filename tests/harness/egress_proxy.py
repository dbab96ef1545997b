"""The only way out: an HTTP proxy that leads some hosts to this machine and refuses all others."""

import selectors
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class EgressProxy:
    """Takes CONNECT (RFC 9110, section 9.3.6) for hosts with a port in `ports`; everything that was asked is noted.

    `refused` has the host and port of each other tunnel that was wanted, or the URL of a request without one.
    """

    def __init__(self, ports: Mapping[str, int]) -> None:
        self.reached: set[str] = set()
        self.refused: list[str] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_CONNECT(self) -> None:
                host, _, wanted = self.path.partition(":")
                if host not in ports or wanted != "443":
                    self.do_GET()
                    return
                proxy.reached.add(host)
                with suppress(OSError), socket.create_connection(("127.0.0.1", ports[host])) as there:
                    self.send_response(HTTPStatus.OK)
                    self.end_headers()
                    _carry(self.connection, there)

            def do_GET(self) -> None:
                proxy.refused.append(self.path)
                self.send_error(HTTPStatus.FORBIDDEN)

            do_POST = do_HEAD = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Keep the test's output clean."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _carry(one: socket.socket, other: socket.socket) -> None:
    """Hand on what either of them sends, until one of them ends."""
    with selectors.DefaultSelector() as selector:
        selector.register(one, selectors.EVENT_READ, other)
        selector.register(other, selectors.EVENT_READ, one)
        while True:
            for key, _ in selector.select():
                data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                if not data:
                    return
                key.data.sendall(data)
