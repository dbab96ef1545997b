"""A web server that has clients' metadata documents, over TLS, under any host name that leads to its address."""

import json
import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from harness.certificates import certify


@dataclass(frozen=True)
class Answer:
    """What is served at a URL."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class DocumentHost:
    """Serves `answers`, by URL; everything else is 404. `asked` has the URL of each request, `authority` signed it."""

    def __init__(self, directory: Path, address: tuple[str, int], hosts: Sequence[str]) -> None:
        self.authority = directory / "authority.pem"
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self._may_answer = threading.Event()
        self._may_answer.set()
        self._address = address
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        certificate, key = certify(hosts[0], directory / "server", self.authority, *hosts[1:])
        self._context.load_cert_chain(certificate, key)

    def start(self) -> Self:
        host = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_GET(self) -> None:
                url = f"https://{self.headers['Host']}{self.path}"
                host.asked.append(url)
                host._may_answer.wait()
                answer = host.answers.get(url, Answer(b"", 404))
                self.send_response(answer.status)
                for name, value in {**answer.headers, "Content-Length": str(len(answer.body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = _TLSServer(self._address, Handler, self._context)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return self

    def stop(self) -> None:
        """Refuse connections."""
        self._may_answer.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def hang(self) -> None:
        """Take requests and answer none until `go_on`."""
        self._may_answer.clear()

    def go_on(self) -> None:
        self._may_answer.set()

    def publish(self, url: str, **metadata: Any) -> str:
        """Put the document of a client there."""
        document = {
            "client_id": url,
            "client_name": "A described client",
            "redirect_uris": ["http://localhost:18999/callback"],
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "token_endpoint_auth_method": "none",
            **metadata,
        }
        self.serve(url, document)
        return url

    def serve(self, url: str, content: Any, status: int = 200, *, cache_control: str = "max-age=3600") -> None:
        """Answer with JSON, or with bytes as they are."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        headers = {"Content-Type": "application/json", "Cache-Control": cache_control}
        self.answers[url] = Answer(body, status, headers)


class _TLSServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(
        self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], context: ssl.SSLContext
    ) -> None:
        self._context = context
        super().__init__(address, handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the thread of the request, so that nobody who hangs keeps others from being accepted."""
        with self._context.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are no news."""
