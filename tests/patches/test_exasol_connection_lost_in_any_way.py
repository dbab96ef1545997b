"""A connection that the database closed fails with ExaCommunicationError, on which exasol's server opens another."""

import json
import ssl
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pyexasol  # type: ignore[import-untyped]
import pytest
from websockets.sync.server import ServerConnection, serve

from harness.certificates import certify
from harness.waiting import HANGS_AFTER


def answer_a_login(database: ServerConnection) -> None:
    """Take a token and say what the attributes are, compressed."""
    database.recv()
    database.send(json.dumps({"status": "ok"}))
    database.recv()
    database.send(json.dumps({"status": "ok", "responseData": {"sessionId": 1}}))
    database.recv()
    database.send(zlib.compress(json.dumps({"status": "ok", "attributes": {}}).encode()))


@contextmanager
def listening(database: Callable[[ServerConnection], None], tls: ssl.SSLContext | None = None) -> Iterator[str]:
    with serve(database, "127.0.0.1", 0, ssl=tls, close_timeout=0.1) as server:
        Thread(target=server.serve_forever).start()
        try:
            yield f"127.0.0.1:{server.socket.getsockname()[1]}"
        finally:
            server.shutdown()


def assert_is_lost(connection: pyexasol.ExaConnection) -> None:
    try:
        with pytest.raises(pyexasol.ExaCommunicationError):
            connection.execute("SELECT 1")
    finally:
        connection._ws.shutdown()  # the driver leaves its socket to the garbage collector


def test_a_close_frame_in_place_of_an_answer() -> None:
    def close_when_asked(database: ServerConnection) -> None:
        answer_a_login(database)
        database.recv()

    with listening(close_when_asked) as dsn:
        assert_is_lost(pyexasol.connect(dsn=dsn, access_token="any", compression=True, encryption=False))


def test_a_connection_that_was_closed_in_the_meantime(tmp_path: Path) -> None:
    certificate, key = certify("127.0.0.1", tmp_path / "database", tmp_path / "authority.pem")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    is_closed = Event()

    def close_at_once(database: ServerConnection) -> None:
        answer_a_login(database)
        database.close()
        is_closed.set()

    with listening(close_at_once, tls) as dsn:
        trusted = {"cert_reqs": ssl.CERT_REQUIRED, "ca_certs": str(tmp_path / "authority.pem")}
        connection = pyexasol.connect(dsn=dsn, access_token="any", compression=True, websocket_sslopt=trusted)
        assert is_closed.wait(HANGS_AFTER)
        assert_is_lost(connection)
