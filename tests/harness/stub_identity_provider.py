"""An identity provider that answers whatever it is told to, in the process of the test."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class StubIdentityProvider:
    """A real HTTP server that gives the answer it was told; `cut_short` ends the connection before the body does."""

    def __init__(self) -> None:
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body = b"{}"
        self.cut_short = False
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", 0)))
                self.send_response(provider.status)
                headers = {"Content-Type": "application/json", **provider.headers}
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(provider.body) + provider.cut_short))
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(provider.body)

            do_GET = do_POST  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Keep the test's output clean."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def answer(self, status: int, body: object = None, **headers: str) -> None:
        self.status, self.headers = status, {name.replace("_", "-"): value for name, value in headers.items()}
        self.body = json.dumps(body or {}).encode()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
