"""SIGTERM: calls that run get their answer, those that cannot end get an error, and nobody is left waiting."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport

from harness.oauth import OAuthClient
from harness.server import Server
from integration.conftest import StartServer
from integration.test_conversations import PAYLOAD

AT_ONCE = 10.0
"""In seconds: half of what calls may take from SIGTERM on."""


@pytest.fixture
def server(start_server: StartServer) -> Server:
    return start_server(HOLDFAST_SERVER=f"{PAYLOAD}:mcp")


@asynccontextmanager
async def connected(server: Server) -> AsyncIterator[Client[StreamableHttpTransport]]:
    with httpx.Client(base_url=server.url, timeout=30) as http:
        token = OAuthClient(http).sign_in().tokens["access_token"]
    # A client that goes away says so to the server, which is not there any more.
    with suppress(httpx.ConnectError):
        async with Client(StreamableHttpTransport(f"{server.url}/mcp", auth=token)) as client:
            yield client


async def begin(client: Client[StreamableHttpTransport], seconds: float) -> "asyncio.Task[Any]":
    """Call a tool that takes so long, and return when it runs."""
    running = asyncio.Event()

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        running.set()

    arguments = {"seconds": seconds}
    call = asyncio.create_task(client.call_tool("wait", arguments, raise_on_error=False, progress_handler=on_progress))
    await asyncio.wait_for(running.wait(), 30)
    return call


async def exit_status(server: Server) -> int:
    return await asyncio.to_thread(server.wait_for_exit)


async def test_a_call_that_runs_gets_its_answer(server: Server) -> None:
    async with connected(server) as client:
        call = await begin(client, 3)
        server.terminate()
        assert (await call).data == "waited"
        assert await exit_status(server) == 0


async def test_a_call_that_cannot_end_gets_an_error(server: Server) -> None:
    async with connected(server) as client:
        call = await begin(client, 3600)
        server.terminate()
        result = await call
        assert result.is_error
        assert "This server is being stopped" in result.content[0].text
        assert await exit_status(server) == 0


def test_a_question_to_a_person_fails_at_once(server: Server) -> None:
    with httpx.Client(base_url=server.url, timeout=AT_ONCE) as http:
        headers = in_a_session(OAuthClient(http).sign_in())
        call = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "elicit", "arguments": {}}}
        with http.stream("POST", "/mcp", json=call, headers=headers) as stream:
            answer = stream.iter_lines()
            assert any("elicitation/create" in line for line in answer)
            server.terminate()
            assert any("This server is being stopped" in line for line in answer)
    assert server.wait_for_exit(AT_ONCE) == 0
    assert "stopping calls=1" in server.output()


def test_a_stream_that_only_listens_is_closed_in_order(server: Server) -> None:
    with httpx.Client(base_url=server.url, timeout=AT_ONCE) as http:
        headers = in_a_session(OAuthClient(http).sign_in())
        with http.stream("GET", "/mcp", headers=headers) as stream:
            assert stream.status_code == 200
            server.terminate()
            # Else httpx raises RemoteProtocolError.
            assert b"".join(stream.iter_bytes()) == b""
    assert server.wait_for_exit(AT_ONCE) == 0


def in_a_session(client: OAuthClient) -> dict[str, str]:
    """The headers of further requests in a session that has just been opened."""
    return {
        "Authorization": f"Bearer {client.tokens['access_token']}",
        "Mcp-Session-Id": client.call().headers["mcp-session-id"],
        "Accept": "application/json, text/event-stream",
    }
