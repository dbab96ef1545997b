"""What a payload on FastMCP 4 asks of clients that speak MCP 2026-07-28, whichever replica hears the answer."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fastmcp4.conftest import MODERN, ServerOnFastMCP4, call
from harness.oauth import OAuthClient
from harness.waiting import HANGS_AFTER

PAYLOAD = Path(__file__).with_name("asking_payload.py")
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}},
}
ANN = {"action": "accept", "content": {"value": "Ann"}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerOnFastMCP4]:
    directory = tmp_path_factory.mktemp("questions")
    server = ServerOnFastMCP4(directory / "data", directory / "server.log", HOLDFAST_SERVER=f"{PAYLOAD}:mcp")
    yield server.start()
    server.stop()


@pytest.fixture
def client(server: ServerOnFastMCP4) -> Iterator[OAuthClient]:
    with httpx.Client(base_url=server.url, timeout=HANGS_AFTER) as http:
        yield OAuthClient(http).sign_in()


def ask(client: OAuthClient, **parameters: Any) -> dict[str, Any]:
    """Call the tool that asks, in the words of MCP 2026-07-28."""
    parameters |= {"name": "greet", "arguments": {}, "_meta": ENVELOPE}
    headers = {
        "Authorization": f"Bearer {client.tokens['access_token']}",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": MODERN,
        "Mcp-Method": "tools/call",
        "Mcp-Name": "greet",
    }
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": parameters}
    answer: dict[str, Any] = client.http.post("/mcp", json=message, headers=headers).json()
    return answer


def test_an_answer_is_heard_by_the_process_that_comes_after_the_one_that_asked(
    server: ServerOnFastMCP4, client: OAuthClient
) -> None:
    asked = ask(client)["result"]
    assert "a greeting" not in asked["requestState"]
    server.restart()
    heard = ask(client, inputResponses={"name": ANN}, requestState=asked["requestState"])
    assert "a greeting to Ann" in str(heard["result"])


def test_what_a_tool_remembers_cannot_be_made_up(client: OAuthClient) -> None:
    refused = ask(client, inputResponses={"name": ANN}, requestState="a greeting")
    assert refused["error"]["data"] == {"reason": "invalid_request_state"}


def test_a_client_of_fastmcp_4_is_asked_by_the_result_and_not_in_between(
    server: ServerOnFastMCP4, client: OAuthClient
) -> None:
    asked, refused = call(server, client, "greet"), call(server, client, "elicit")
    assert (asked["protocol"], asked["error"], asked["text"]) == (MODERN, False, "a greeting to Ann")
    assert refused["error"]
    assert "unavailable on 2026-07-28" in refused["text"]
