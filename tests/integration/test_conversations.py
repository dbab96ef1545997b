"""A payload may ask its client where MCP sessions are; where they are not, it gets an error at once and no silence."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastmcp import Client
from fastmcp.client.elicitation import ElicitResult
from fastmcp.client.transports import StreamableHttpTransport
from mcp import McpError

from harness.environments import LINE
from harness.oauth import OAuthClient
from harness.server import Server
from harness.waiting import HANGS_AFTER
from integration.conftest import StartServer

PAYLOAD = str(Path(__file__).parents[1] / "harness" / "conversing_payload.py")
AT_ONCE = 20.0
"""In seconds. Without the refusal there is no answer at all."""

SPREAD = {
    "several workers": {"WEB_CONCURRENCY": "2"},
    "several replicas that answer in JSON": {"HOLDFAST_REPLICAS": "1", "FASTMCP_JSON_RESPONSE": "true"},
}
ANSWERS = {"elicit_by_session": "accept", "sample": "a poem", "list_roots": 1, "ping": "pong"}
TOOLS = ["elicit", *(["elicit_by_session", "ping"] if LINE == "fastmcp4" else ANSWERS)]
"""FastMCP 4 has taken sampling and roots out of what a payload can ask for."""


async def answer(*_: Any) -> ElicitResult[Any]:
    return ElicitResult(action="accept", content={"value": "Ann"})


async def write_a_poem(*_: Any) -> str:
    return "a poem"


@asynccontextmanager
async def connected(server: Server) -> AsyncIterator[Client[StreamableHttpTransport]]:
    """A client that could answer everything."""
    with httpx.Client(base_url=server.url, timeout=HANGS_AFTER) as http:
        token = OAuthClient(http).sign_in().tokens["access_token"]
    transport = StreamableHttpTransport(f"{server.url}/mcp", auth=token)
    async with Client(
        transport, elicitation_handler=answer, sampling_handler=write_a_poem, roots=["file:///a"]
    ) as client:
        yield client


async def refusal(server: Server, tool: str, **arguments: Any) -> str:
    async with connected(server) as client, asyncio.timeout(AT_ONCE):
        result = await client.call_tool(tool, arguments, raise_on_error=False)
    assert result.is_error
    return str(result.content[0].text)  # type: ignore[union-attr]


def says_why(message: str) -> bool:
    return "cannot ask its client anything" in message and all(
        name in message for name in ("WEB_CONCURRENCY", "HOLDFAST_REPLICAS", "Mcp-Session-Id")
    )


async def test_in_one_process_every_conversation_works(start_server: StartServer) -> None:
    server = start_server(HOLDFAST_SERVER=f"{PAYLOAD}:mcp")
    async with connected(server) as client:
        results = [(await client.call_tool(tool)).data for tool in TOOLS]
        assert [content.text for content in await client.read_resource("conversation://name")] == ["accept"]  # type: ignore[union-attr]
    assert results == [f"accept Ann at {server.port}", *(ANSWERS[tool] for tool in TOOLS[1:])]
    assert "cannot ask its client" not in server.output()


@pytest.mark.parametrize("environment", SPREAD.values(), ids=SPREAD.keys())
async def test_elsewhere_the_client_gets_an_error_at_once_and_the_log_says_so_once_a_worker(
    start_server: StartServer, environment: dict[str, str]
) -> None:
    server = start_server(HOLDFAST_SERVER=f"{PAYLOAD}:mcp", **environment)
    for tool in TOOLS:
        assert says_why(await refusal(server, tool)), tool
    async with connected(server) as client, asyncio.timeout(AT_ONCE):
        asking: list[Callable[[], Any]] = [
            lambda: client.read_resource("conversation://name"),
            lambda: client.get_prompt("greet"),
        ]
        for ask in asking:
            with pytest.raises(McpError) as error:
                await ask()
            assert says_why(str(error.value))
    told = server.output().count("WARNING This server cannot ask its client anything")
    assert 1 <= told <= int(environment.get("WEB_CONCURRENCY", "1"))


def test_without_sessions_any_replica_answers_any_request(start_server: StartServer) -> None:
    replicas = [start_server(HOLDFAST_SERVER=f"{PAYLOAD}:mcp", HOLDFAST_REPLICAS="yes") for _ in range(2)]
    with httpx.Client(base_url=replicas[0].url, timeout=HANGS_AFTER) as http:
        token = OAuthClient(http).sign_in().tokens["access_token"]
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json, text/event-stream"}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "port", "arguments": {}}}
    for replica in replicas:
        answer = httpx.post(f"{replica.url}/mcp", json=message, headers=headers, timeout=HANGS_AFTER)
        assert (answer.status_code, str(replica.port) in answer.text) == (200, True)


async def test_a_server_that_masks_its_errors_does_not_mask_this_one(start_server: StartServer) -> None:
    server = start_server(HOLDFAST_SERVER=f"{PAYLOAD}:masking", HOLDFAST_REPLICAS="true")
    assert says_why(await refusal(server, "elicit"))


async def test_a_server_that_can_do_without_an_answer_does(start_server: StartServer) -> None:
    server = start_server(HOLDFAST_SERVER=f"{PAYLOAD}:mcp", HOLDFAST_REPLICAS="true")
    async with connected(server) as client:
        assert (await client.call_tool("elicit_or_do_without")).data == "did without"
