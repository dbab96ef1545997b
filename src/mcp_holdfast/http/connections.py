"""What one connection may cost before a request is there: how long a header is, and how long a client takes to send.

gunicorn's own limits (--limit-request-line and the like) are for its own workers; uvicorn has none with httptools.
"""

import asyncio
import http
import logging
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

log = logging.getLogger(__name__)

LONGEST_HEADER = 64 * 1024
"""In bytes, with the target of the request; as much as an Application Load Balancer passes on."""

MOST_UNPARSED = 2 * LONGEST_HEADER
"""Of a header, a trailer or a chunk's extensions that do not end."""

MOST_FIELDS = 100
HEADER_WITHIN = 20.0
"""Seconds from its first byte."""

BODY_WITHIN = 30.0
"""Seconds from the end of the header, and one more for each SLOWEST_BODY bytes that came."""

SLOWEST_BODY = 500


class HeaderTooLarge(Exception):
    """A header has more bytes or fields than are read."""


class BoundedConnection(HttpToolsProtocol):
    """Answers 431 to a header that is too large and 408 to who sends too slowly, and closes the connection.

    A response that takes long, as an event stream does, and a connection between two requests are not slow: the second
    has uvicorn's own limit, from its first moment on. Other protocols than HTTP are not spoken.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._refused_with = 400
        self._is_in_body = False
        # Of the header or the body that is being sent, and what of it the parser could not make anything of yet.
        self._received = self._pending = 0
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_time()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        self._pending += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._pending > MOST_UNPARSED:
            self._refuse(400 if self._is_in_body else 431)
        elif (self._pending or self._is_in_body) and self._timer is None:
            self._since = self.loop.time()
            self._look_again_at(self._due())

    def on_header(self, name: bytes, value: bytes) -> None:
        # What comes after a body is no part of the header (RFC 9110, section 6.5.1), which was acted on already.
        if self._is_in_body:
            return
        super().on_header(name, value)
        if len(self.headers) > MOST_FIELDS:
            self._refused_with = 431
            raise HeaderTooLarge

    def on_headers_complete(self) -> None:
        if len(self.url) + sum(len(name) + len(value) + len(": \r\n") for name, value in self.headers) > LONGEST_HEADER:
            self._refused_with = 431
            raise HeaderTooLarge
        self._begin(is_body=True)
        super().on_headers_complete()
        if self.parser.should_upgrade():
            # What follows may be another protocol, and is not taken for a request.
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._pending = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._begin(is_body=False)
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(self._refused_with)

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: strangers would fill the log, and there is nothing to install."""

    def _begin(self, *, is_body: bool) -> None:
        self._is_in_body = is_body
        self._received = self._pending = 0
        self._forget_time()

    def _forget_time(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> float:
        """When the header or the body has to be complete, as far as it came."""
        if self._is_in_body:
            return self._since + BODY_WITHIN + self._received / SLOWEST_BODY
        return self._since + HEADER_WITHIN

    def _look_again_at(self, due: float) -> None:
        self._timer = self.loop.call_at(due, self._look)

    def _look(self) -> None:
        self._timer = None
        now = self.loop.time()
        # Nothing is read while the application has not taken what came, or a request is still being answered.
        if self.flow.read_paused or (not self._is_in_body and self._is_answering()):
            self._since = now
        if (due := self._due()) > now:
            self._look_again_at(due)
            return
        log.info("cut off a client that sends too slowly", extra={"address": self.client[0] if self.client else ""})
        self._refuse(408)

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self, status: int) -> None:
        """Answer where nothing of another answer was sent, and close."""
        self._forget_time()
        if not self._is_answering() or (self._is_in_body and not self.cycle.response_started):
            self.transport.write(_refusal(status, self.server_state.default_headers))
        if self._is_answering():
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()


def _refusal(status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
    body = f"{http.HTTPStatus(status).phrase}\n"
    own = {
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Length": str(len(body)),
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
        "Connection": "close",
    }
    lines = [f"HTTP/1.1 {status} {body.strip()}", *(f"{name}: {value}" for name, value in own.items())]
    given = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    return "\r\n".join(lines).encode() + b"\r\n" + given + b"\r\n" + body.encode()
