"""Stands between clients and servers as an Application Load Balancer does, and counts what becomes of each request."""

import socket
import ssl
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

TCP_BYTES_ACKED = 120
TCP_BYTES_SENT = 200
"""Where struct tcp_info (linux/tcp.h) has tcpi_bytes_acked, and tcpi_bytes_sent with tcpi_bytes_retrans behind it."""

TCP_INFO_SIZE = 216

LATER = "answered 503"
REFUSED = "refused"
"""No connection was made: a load balancer answers 502 or 504."""

CUT = "cut"
"""The server's machine had acknowledged all of the request, and the connection ended without the answer."""

CROSSED = "crossed"
"""The connection was kept from earlier requests, and the server had closed it before the request got there (RFC 9112,
section 9.6). What a process has read is acknowledged when it closes the connection or dies: nobody has begun on it."""


class LoadBalancer(httpx.BaseTransport):
    """Ends TLS and sends each request to one of `targets`, which may change meanwhile; after a failure to the next one.

    `outcomes` counts what was not simply answered. One request at a time, so that there is one connection to a target.
    """

    def __init__(self, targets: Sequence[str], first: int = 0) -> None:
        self.outcomes: Counter[str] = Counter()
        self._targets = targets
        self._number = first
        # Loading the usual certificates takes longer than a sign-in.
        self._transport = httpx.HTTPTransport(verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        self._connections: dict[httpx.URL, socket.socket] = {}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        targets = tuple(self._targets)
        target = httpx.URL(targets[self._number % len(targets)])
        attempt = Attempt(self._connections, target)
        try:
            response = self._transport.handle_request(_passed_on(request, target, attempt))
            response.read()
        except httpx.TransportError as error:
            self.outcomes[attempt.outcome(error)] += 1
            self.choose_next()
            raise
        if response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            self.outcomes[LATER] += 1
            self.choose_next()
        return response

    def choose_next(self) -> None:
        self._number += 1

    def close(self) -> None:
        self._transport.close()


class Attempt:
    """Follows one request on its connection (httpcore's trace extension)."""

    def __init__(self, connections: dict[httpx.URL, socket.socket], target: httpx.URL) -> None:
        self._connections = connections
        self._target = target
        self._was_kept = True
        self._is_missing_something = False

    def __call__(self, event: str, details: Mapping[str, Any]) -> None:
        if event == "connection.connect_tcp.complete":
            self._connections[self._target] = details["return_value"].get_extra_info("socket")
            self._was_kept = False
        elif event.startswith("http11.") and event.endswith(".failed"):
            # The connection is closed right after this.
            self._is_missing_something = unacknowledged(self._connections[self._target]) > 0

    def outcome(self, error: httpx.TransportError) -> str:
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return REFUSED
        return CROSSED if self._was_kept and self._is_missing_something else CUT


def unacknowledged(connection: socket.socket) -> int:
    """How many bytes that were sent the other machine has not acknowledged, also on one that has ended."""
    information = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_SIZE)
    (acknowledged,) = struct.unpack_from("Q", information, TCP_BYTES_ACKED)
    sent, again = struct.unpack_from("QQ", information, TCP_BYTES_SENT)
    # What begins a connection is acknowledged too, and counts as one.
    return int(sent - again - (acknowledged - 1))


def _passed_on(request: httpx.Request, target: httpx.URL, attempt: Attempt) -> httpx.Request:
    forwarded = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https", "X-Forwarded-Port": "443"}
    return httpx.Request(
        request.method,
        request.url.copy_with(scheme=target.scheme, host=target.host, port=target.port),
        headers={**request.headers, **forwarded},
        stream=request.stream,
        extensions={**request.extensions, "trace": attempt},
    )
