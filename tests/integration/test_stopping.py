"""SIGTERM: calls that run get their answer, those that cannot end get an error, and nobody is left waiting."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport

from harness.oauth import OAuthClient
from harness.server import FARGATE_STOPS_WITHIN, Server
from harness.waiting import HANGS_AFTER, eventually
from integration.conftest import StartServer
from integration.test_conversations import PAYLOAD
from mcp_holdfast.http.stopping import CALLS_END_WITHIN, TOLD_WITHIN
from mcp_holdfast.serve import gunicorn_settings
from mcp_holdfast.settings import EXIT_CONFIG, Settings

AT_ONCE = 10.0
"""In seconds: half of what calls may take from SIGTERM on."""


@pytest.fixture
def server(start_server: StartServer) -> Server:
    return start_server(HOLDFAST_SERVER=f"{PAYLOAD}:mcp")


@asynccontextmanager
async def connected(server: Server) -> AsyncIterator[Client[StreamableHttpTransport]]:
    with httpx.Client(base_url=server.url, timeout=HANGS_AFTER) as http:
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


@pytest.fixture(scope="module")
def draining(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, OAuthClient]]:
    """A server that was told to stop and drains, with a client that is signed in."""
    directory = tmp_path_factory.mktemp("draining")
    server = Server(directory / "data", directory / "server.log", HOLDFAST_DRAIN="80s").start()
    with httpx.Client(base_url=server.url, timeout=AT_ONCE) as http:
        client = OAuthClient(http).sign_in()
        server.terminate()
        eventually(lambda: http.get("/readyz").status_code, lambda status: status == 503, within=AT_ONCE)
        yield server, client
    server.stop()


def test_a_server_that_drains_is_alive_but_not_ready(draining: tuple[Server, OAuthClient]) -> None:
    server, _ = draining
    # A connection of its own, as a load balancer's health check has.
    answer = httpx.get(f"{server.url}/readyz")
    assert (answer.status_code, answer.json()["reason"]) == (503, "the server is being stopped")
    assert httpx.get(f"{server.url}/livez").status_code == 200


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
def test_a_server_that_drains_begins_nothing_for_mcp(draining: tuple[Server, OAuthClient], method: str) -> None:
    server, client = draining
    headers = {"Authorization": f"Bearer {client.tokens['access_token']}"}
    answer = httpx.request(method, f"{server.url}/mcp", headers=headers)
    assert answer.status_code == 503
    assert (answer.headers["Retry-After"], answer.headers["Connection"]) == ("2", "close")
    assert (
        answer.json()["error_description"]
        == "The server is being stopped. Nothing is lost: send the same request again."
    )


def test_a_server_that_drains_still_refreshes(draining: tuple[Server, OAuthClient]) -> None:
    _, client = draining
    answer = client.refresh()
    assert answer.status_code == 200
    assert answer.headers["Connection"] == "close"


async def test_a_call_that_runs_outlives_the_drain(start_server: StartServer) -> None:
    server = start_server(HOLDFAST_SERVER=f"{PAYLOAD}:mcp", HOLDFAST_DRAIN="2s")
    async with connected(server) as client:
        call = await begin(client, 5)
        server.terminate()
        assert (await call).data == "waited"
        assert await exit_status(server) == 0


@pytest.mark.parametrize("drain", [0, 85])
def test_a_worker_is_given_the_time_that_its_calls_have(drain: int) -> None:
    given = gunicorn_settings(Settings(drain=drain))["graceful_timeout"]
    assert drain + CALLS_END_WITHIN + TOLD_WITHIN < given < FARGATE_STOPS_WITHIN


def test_a_drain_that_fargate_would_cut_off_is_refused(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", tmp_path / "server.log", HOLDFAST_DRAIN="86s")
    server.launch()
    assert server.wait_for_exit() == EXIT_CONFIG
    assert "HOLDFAST_DRAIN: must be at most 85s" in server.output()
