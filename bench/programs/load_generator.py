"""Call the tool `add` of calculator.py over and over: usage: load_generator.py URL CONNECTIONS SECONDS [TOKEN].

Each connection has one call under way at any time. Every answer is compared with what it must be. Prints JSON: how many
`calls` were answered well in how many `seconds`, the `errors` by what they were, and the `latencies` in milliseconds.
"""

import asyncio
import json
import re
import sys
import time
from collections import Counter
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import uvloop

HEAD = (
    "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    "Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2025-06-18\r\n{authorization}"
)
CALL = (
    'Content-Length: %d\r\n\r\n{"jsonrpc":"2.0","id":%d,"method":"tools/call",'
    '"params":{"name":"add","arguments":{"a":%d,"b":1}}}'
)
LENGTH_AROUND_NUMBERS = len(CALL.partition("\r\n\r\n")[2]) - 2 * len("%d")
ANSWER = re.compile(rb"HTTP/1\.1 200 (?:[^\n]+\n)+?content-length: (\d+)\r\n(?:[^\r\n]+\r\n)*\r\n", re.IGNORECASE)


class Load:
    """What all connections do, and what was answered."""

    def __init__(self, url: str, token: str | None, end: float) -> None:
        parts = urlsplit(url)
        authorization = f"Authorization: Bearer {token}\r\n" if token else ""
        self.host, self.port = str(parts.hostname), int(parts.port or 80)
        self.head = HEAD.format(path=parts.path, host=parts.netloc, authorization=authorization)
        self.end = end
        self.numbers = count(1)
        self.errors: Counter[str] = Counter()
        self.latencies: list[float] = []


class Connection(asyncio.Protocol):
    """Calls again as soon as it has its answer; an error ends it. Streams would take as long as what is measured."""

    def __init__(self, load: Load) -> None:
        self.ended = asyncio.get_running_loop().create_future()
        self._load = load
        self._answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._call()

    def _call(self) -> None:
        self._answer, self._number, self._began = b"", next(self._load.numbers), time.perf_counter()
        length = LENGTH_AROUND_NUMBERS + 2 * len(str(self._number))
        self._transport.write((self._load.head + CALL % (length, self._number, self._number)).encode())

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head = ANSWER.match(self._answer)
        if head is None:
            if b"\r\n\r\n" in self._answer:
                self._end(self._answer.decode(errors="replace")[:200])
            return
        body = self._answer[head.end() :]
        if len(body) < int(head[1]):
            return
        message = json.loads(body)
        result = message.get("result", {}).get("structuredContent")
        if message["id"] != self._number or result != {"result": self._number + 1}:
            self._end(f"not the answer to call {self._number}: {message}")
            return
        now = time.perf_counter()
        self._load.latencies.append(1000 * (now - self._began))
        if now < self._load.end:
            self._call()
        else:
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(f"the connection was lost: {exc}")

    def _end(self, error: str = "") -> None:
        if self.ended.done():
            return
        self.ended.set_result(None)
        self._transport.close()
        if error:
            self._load.errors[error] += 1


async def generate(url: str, connections: int, seconds: float, token: str | None) -> dict[str, Any]:
    began = time.perf_counter()
    load, loop = Load(url, token, began + seconds), asyncio.get_running_loop()
    opened = [await loop.create_connection(lambda: Connection(load), load.host, load.port) for _ in range(connections)]
    await asyncio.gather(*(connection.ended for _, connection in opened))
    taken = time.perf_counter() - began
    return {"calls": len(load.latencies), "seconds": taken, "errors": load.errors, "latencies": load.latencies}


if __name__ == "__main__":
    url, connections, seconds, *token = sys.argv[1:]
    found = uvloop.run(generate(url, int(connections), float(seconds), token[0] if token else None))
    # With PYTHONUNBUFFERED, print would lose the rest of what a pipe takes in part.
    with open(1, "w", encoding="utf-8") as output:
        json.dump(found, output)
