"""What a stranger can cost before there is a request: real sockets and uvicorn's real parser, with shorter times."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
import uvicorn
from starlette.types import Message, Receive, Scope, Send
from uvicorn.server import ServerState

from mcp_holdfast.http import connections
from mcp_holdfast.http.connections import LONGEST_HEADER, MOST_FIELDS, MOST_UNPARSED, BoundedConnection

HOST = b"Host: localhost\r\n"
CLOSE = b"Connection: close\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"

TOO_LATE = (408, 0)
"""Who still sends when the connection is closed may not get to read the answer."""

Ask = Callable[..., Awaitable[bytes]]


class Application:
    """Reads each request to its end and tells what it saw."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.takes = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.paths.append(scope["path"])
        await asyncio.sleep(self.takes)
        body, more = b"", True
        while more:
            message: Message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message["body"], message["more_body"]
        seen = {"bytes": len(body), "fields": sorted({name.decode() for name, _ in scope["headers"]})}
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(seen).encode()})


@pytest.fixture
def application() -> Application:
    return Application()


@pytest.fixture
async def ask(application: Application, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Ask]:
    """Send pieces, each after a pause, until the server closes the connection; returns all that it answered."""
    for name, seconds in (("HEADER_WITHIN", 0.2), ("BODY_WITHIN", 0.2)):
        monkeypatch.setattr(connections, name, seconds)
    config = uvicorn.Config(application, http=BoundedConnection, ws="none", log_config=None, timeout_keep_alive=1)
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: BoundedConnection(config, state, {}), "127.0.0.1", 0)

    async def ask(*pieces: bytes, pause: float = 0.0) -> bytes:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        answer = bytearray()
        reading = asyncio.ensure_future(read(reader, answer))
        with suppress(ConnectionError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.wait({reading}, timeout=pause)
                if reading.done():
                    break
        await reading
        writer.close()
        return bytes(answer)

    yield ask
    server.close()


async def read(reader: asyncio.StreamReader, answer: bytearray) -> None:
    """Until the server closes; who is sent more than it wants to read may reset the connection."""
    with suppress(ConnectionResetError):
        while piece := await reader.read(65536):
            answer += piece


def status_of(answer: bytes) -> int:
    return int(answer.split()[1]) if answer else 0


def told(answer: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(answer[answer.index(b"{") : answer.rindex(b"}") + 1])
    return found


def header_of(size: int) -> bytes:
    """Count as this one is counted: the target, and each field with its colon and the rest of its line."""
    rest = len("/" + "Host: localhost\r\n" + "Connection: close\r\n" + "X: \r\n")
    return b"GET / HTTP/1.1\r\n" + HOST + CLOSE + b"X: " + b"x" * (size - rest) + b"\r\n\r\n"


@pytest.mark.parametrize("in_pieces_of", [1_000, 10**6])
async def test_a_header_may_be_as_long_as_a_load_balancer_allows(ask: Ask, in_pieces_of: int) -> None:
    for size, status in ((LONGEST_HEADER, 200), (LONGEST_HEADER + 1, 431)):
        header = header_of(size)
        pieces = [header[at : at + in_pieces_of] for at in range(0, len(header), in_pieces_of)]
        assert status_of(await ask(*pieces)) == status


async def test_a_long_target_counts(ask: Ask, application: Application) -> None:
    assert status_of(await ask(b"GET /" + b"x" * LONGEST_HEADER + b" HTTP/1.1\r\n" + HOST + b"\r\n")) == 431
    assert application.paths == []


async def test_a_header_may_have_so_many_fields(ask: Ask) -> None:
    for fields, status in ((MOST_FIELDS, 200), (MOST_FIELDS + 1, 431)):
        header = b"GET / HTTP/1.1\r\n" + HOST + CLOSE + b"X: x\r\n" * (fields - 2) + b"\r\n"
        assert status_of(await ask(header)) == status


@pytest.mark.parametrize(
    ("begin", "status"),
    [
        (b"GET /", 431),
        (b"GET / HTTP/1.1\r\nX: ", 431),
        (b"GET / HTTP/1.1\r\n", 431),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5;", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ", 400),
    ],
    ids=["target", "value", "name", "extension of a chunk", "trailer"],
)
async def test_what_never_ends_is_refused(ask: Ask, begin: bytes, status: int) -> None:
    endless = [b"x" * 1000] * (2 * MOST_UNPARSED // 1000)
    assert status_of(await ask(begin, *endless)) == status


async def test_what_follows_a_body_is_no_part_of_the_header(ask: Ask) -> None:
    header = b"POST / HTTP/1.1\r\n" + HOST + CLOSE + b"Transfer-Encoding: chunked\r\n\r\n"
    answer = await ask(header, b"1\r\nx\r\n0\r\n", b"X-Forwarded-For: 203.0.113.9\r\n\r\n", pause=0.05)
    assert told(answer) == {"bytes": 1, "fields": ["connection", "host", "transfer-encoding"]}


@pytest.mark.parametrize("begin", [b"G", b"\r\n", b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1000\r\n\r\nx"])
async def test_who_does_not_go_on_is_told_that_it_took_too_long(ask: Ask, begin: bytes) -> None:
    assert (await ask(begin)).startswith(b"HTTP/1.1 408 Request Timeout\r\n")


@pytest.mark.parametrize(
    ("begin", "trickle"),
    [(b"GET /", b"x"), (b"GET / HTTP/1.1\r\n", b"x"), (b"\r\n", b"\r\n")],
    ids=["target", "field", "empty lines"],
)
async def test_who_takes_too_long_for_a_header_is_cut_off(
    ask: Ask, application: Application, begin: bytes, trickle: bytes
) -> None:
    assert status_of(await ask(begin, *[trickle] * 1000, pause=0.05)) in TOO_LATE
    assert application.paths == []


async def test_so_is_who_takes_too_long_for_the_second_one(ask: Ask) -> None:
    first = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
    answer = await ask(first + b"GET /", *[b"x"] * 1000, pause=0.05)
    assert status_of(answer) == 200
    assert answer.count(b"HTTP/1.1 200") == 1


@pytest.mark.parametrize("length", [b"Content-Length: 1000\r\n", b"Transfer-Encoding: chunked\r\n"])
async def test_who_takes_too_long_for_a_body_is_cut_off(ask: Ask, length: bytes) -> None:
    trickle = b"1\r\nx\r\n" if b"chunked" in length else b"x"
    answer = await ask(b"POST / HTTP/1.1\r\n" + HOST + length + b"\r\n", *[trickle] * 1000, pause=0.05)
    assert status_of(answer) in TOO_LATE


async def test_a_body_may_take_its_time_as_long_as_it_goes_on(ask: Ask) -> None:
    header = b"POST / HTTP/1.1\r\n" + HOST + CLOSE + b"Content-Length: 10000\r\n\r\n"
    assert told(await ask(header, *[b"x" * 1000] * 10, pause=0.05))["bytes"] == 10_000


async def test_who_says_nothing_at_all_is_cut_off_too(ask: Ask) -> None:
    assert await ask() == b""


async def test_an_answer_may_take_longer(ask: Ask, application: Application) -> None:
    application.takes = 0.5
    assert status_of(await ask(b"GET / HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n", b"\r\n")) == 200


async def test_others_are_served_meanwhile(ask: Ask) -> None:
    slow = [asyncio.ensure_future(ask(b"GET / HT", *[b"x"] * 1000, pause=0.05)) for _ in range(100)]
    assert status_of(await ask(b"GET / HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n")) == 200
    assert {status_of(answer) for answer in await asyncio.gather(*slow)} <= {400, *TOO_LATE}


AMBIGUOUS = {
    "both lengths": b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "both lengths, the other way round": b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 0\r\nContent-Length: 44\r\n\r\n",
    "two lengths in one": b"Content-Length: 0, 44\r\n\r\n",
    "a length with a sign": b"Content-Length: +44\r\n\r\n",
    "a length in another base": b"Content-Length: 0x2c\r\n\r\n",
    "no coding at the end": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "an unknown coding": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a coding twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "a space before the colon": b"Content-Length : 44\r\n\r\n",
    "a folded line": b"X: y\r\n Content-Length: 44\r\n\r\n",
    "a bare line feed": b"X: y\nContent-Length: 44\r\n\r\n",
    "a bare carriage return": b"X: y\rContent-Length: 44\r\n\r\n",
    "a zero byte": b"X: y\0Content-Length: 44\r\n\r\n",
    "a chunk of no size": b"Transfer-Encoding: chunked\r\n\r\n\r\n\r\n",
    "a chunk of a huge size": b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\n\r\n",
    "a chunk of a negative size": b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
    "a chunk that is longer": b"Transfer-Encoding: chunked\r\n\r\n1\r\nxx\r\n0\r\n\r\n",
    "a chunk's extension with a line feed": b"Transfer-Encoding: chunked\r\n\r\n1;x\nx\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("fields", AMBIGUOUS.values(), ids=AMBIGUOUS)
async def test_what_could_be_read_in_two_ways_is_refused(ask: Ask, application: Application, fields: bytes) -> None:
    answer = await ask(b"POST / HTTP/1.1\r\n" + HOST + fields + SMUGGLED)
    assert status_of(answer) == 400
    assert answer.count(b"HTTP/1.1 ") == 1
    assert "/smuggled" not in application.paths


async def test_nothing_is_taken_for_a_request_after_another_protocol_was_asked_for(
    ask: Ask, application: Application
) -> None:
    for protocol in (b"h2c", b"websocket"):
        upgrade = b"Connection: Upgrade\r\nUpgrade: " + protocol + b"\r\n\r\n"
        answer = await ask(b"GET /first HTTP/1.1\r\n" + HOST + upgrade + SMUGGLED, SMUGGLED)
        assert answer.count(b"HTTP/1.1 200") == 1
    assert application.paths == ["/first", "/first"]
