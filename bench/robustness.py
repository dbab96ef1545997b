"""What a server does with clients that send too much or too slowly, and with a call that runs when it is stopped."""

import socket
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx

from harness.raw import exchange, statuses
from harness.server import ServerProcess
from harness.waiting import eventually

LONG_HEADER = 128 * 1024
PATIENCE = 90.0
"""For how many seconds a connection is kept that sends nothing more."""

CALL_SECONDS = 3.0
DRAIN = {"HOLDFAST_DRAIN": "2s"}
"""From the signal on, for so long, a server says that it is not ready, so that nobody is sent to it any more."""

UNFINISHED = {
    "nothing sent, closed": b"",
    "half a header, closed": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nAccept:",
    "half a body, closed": b"POST /token HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
    b"application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\ngrant_type=",
}
CALL = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {"name": "wait", "arguments": {"seconds": CALL_SECONDS}},
}
HEADERS = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-06-18"}


def table_of(servers: Mapping[str, ServerProcess]) -> list[list[str]]:
    """Try all that can be tried at servers that run with programs/patient.py and no login, and stop them."""
    with ThreadPoolExecutor(len(servers) * len(UNFINISHED)) as pool:
        closed = {
            name: [pool.submit(closed_after, server.port, sent) for sent in UNFINISHED.values()]
            for name, server in servers.items()
        }
        headers = {name: long_header(server.port) for name, server in servers.items()}
        rows = [
            ["server", f"header of {LONG_HEADER // 1024} KiB", *UNFINISHED, "call at SIGTERM", "/readyz then", "end"]
        ]
        for name, server in servers.items():
            rows.append([name, headers[name], *(of.result() for of in closed[name]), *stop_in_a_call(server)])
    return rows


def long_header(port: int) -> str:
    """How a request is answered that has a header of LONG_HEADER bytes."""
    request = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Long: " + b"x" * LONG_HEADER
    answered = statuses(exchange(port, request + b"\r\n\r\n"))
    return str(answered[0]) if answered else "closed"


def closed_after(port: int, sent: bytes) -> str:
    """When a server closes a connection on which nothing follows what was `sent`."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall(sent)
        with suppress(ConnectionResetError):
            try:
                while connection.recv(65536):
                    connection.settimeout(max(0.001, began + PATIENCE - time.monotonic()))
            except TimeoutError:
                return f"not in {PATIENCE:.0f} s"
    return f"{time.monotonic() - began:.0f} s"


def stop_in_a_call(server: ServerProcess) -> list[str]:
    """Send SIGTERM while a call runs: what becomes of it, what is said of readiness, and how the server ends."""
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(call, server.url)
        eventually(server.output, lambda said: "waiting" in said, within=30)
        began = time.monotonic()
        server.terminate()
        readiness = eventually(lambda: asked(server.url), lambda said: said != "200")
        eventually(lambda: asked(server.url), lambda said: said != "503")
        told = f"{readiness}, until {time.monotonic() - began:.1f} s" if readiness == "503" else readiness
        status = server.wait_for_exit()
        return [answer.result(), told, f"status {status}, {time.monotonic() - began:.1f} s"]


def call(url: str) -> str:
    try:
        answer = httpx.post(f"{url}/mcp", json=CALL, headers=HEADERS, timeout=60)
    except httpx.TransportError:
        return "lost"
    is_right = answer.is_success and answer.json()["result"]["structuredContent"] == {"result": CALL_SECONDS}
    return "answered" if is_right else str(answer.status_code)


def asked(url: str) -> str:
    """Whether a server is ready, on a new connection."""
    try:
        return str(httpx.get(f"{url}/readyz", timeout=5).status_code)
    except httpx.TransportError:
        return "no connection"
