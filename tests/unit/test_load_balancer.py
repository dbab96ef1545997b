"""The load balancer of tests tells what a server left unanswered from what never got to it."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import httpx
import pytest

from harness.load_balancer import CROSSED, CUT, LATER, REFUSED, LoadBalancer

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 2\r\n\r\n"
HALF_OF_IT = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no"

Serve = Callable[[socket.socket], None]


@contextmanager
def server(serve: Serve) -> Iterator[str]:
    """Take one connection and do with it as told."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            connection, _ = listening.accept()
            with connection:
                serve(connection)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join()


def outcomes(target: str, requests: int = 1) -> dict[str, int]:
    balancer = LoadBalancer([target])
    with httpx.Client(base_url="https://mcp.example.com", transport=balancer) as http:
        for _ in range(requests):
            with suppress(httpx.TransportError):
                http.get("/")
    return dict(balancer.outcomes)


def after_the_first(then: Serve) -> Serve:
    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(ANSWER)
        then(connection)

    return serve


def receive_and_close(connection: socket.socket) -> None:
    connection.recv(65536)


def answer_half(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(HALF_OF_IT)


@pytest.mark.parametrize("serve", [receive_and_close, answer_half])
def test_a_request_whose_connection_ends_before_the_answer_is_cut(serve: Serve) -> None:
    with server(serve) as url:
        assert outcomes(url) == {CUT: 1}
    with server(after_the_first(serve)) as url:
        assert outcomes(url, 2) == {CUT: 1}


def test_a_request_on_a_new_connection_crosses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    # As where a machine is lost right after it took the connection.
    monkeypatch.setattr("harness.load_balancer.unacknowledged", lambda _: 1)
    with server(receive_and_close) as url:
        assert outcomes(url) == {CUT: 1}


def test_a_request_that_crosses_the_end_of_a_kept_connection_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = threading.Event()

    def close(connection: socket.socket) -> None:
        connection.close()
        closed.set()

    # A client looks whether its connection was closed, and this one does so a moment too early.
    monkeypatch.setattr("httpcore._backends.sync.is_socket_readable", lambda _: not closed.wait(5))
    with server(after_the_first(close)) as url:
        assert outcomes(url, 2) == {CROSSED: 1}


def test_what_nobody_listens_for_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    assert outcomes(url) == {REFUSED: 1}


def test_an_answer_of_later_is_counted_and_handed_on() -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(UNAVAILABLE)

    with server(serve) as url:
        assert outcomes(url) == {LATER: 1}
