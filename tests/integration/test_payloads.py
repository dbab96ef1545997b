"""What runs behind the login: the demo, exasol's server (with the repairs in patches/), any FastMCP server as it is."""

import json
from pathlib import Path

import httpx
import pytest
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport

from harness.oauth import OAuthClient
from harness.server import Server
from harness.waiting import HANGS_AFTER
from integration.conftest import StartServer

EXASOL_CONNECTION = {"EXA_DSN": "127.0.0.1:1", "EXA_USER": "sys", "EXA_PASSWORD": "not, a 'real' %one"}
TOOLS_WITHOUT_DATABASE = {
    "list_exasol_built_in_function_categories": {},
    "list_exasol_built_in_functions": {"category": "numeric"},
    "describe_exasol_built_in_function": {"name": "ABS"},
}


def get(url: str) -> httpx.Response:
    return httpx.get(url, timeout=HANGS_AFTER)


def signed_in(server: Server) -> Client[StreamableHttpTransport]:
    with httpx.Client(base_url=server.url, timeout=HANGS_AFTER) as http:
        token = OAuthClient(http).sign_in().tokens["access_token"]
    return Client(StreamableHttpTransport(f"{server.url}/mcp", auth=token))


async def test_the_demo_knows_who_asks_and_where_it_stores(start_server: StartServer) -> None:
    async with signed_in(start_server()) as client:
        assert {tool.name for tool in await client.list_tools()} == {"whoami", "storage_status"}
        whoami = (await client.call_tool("whoami")).data
        assert whoami["subject"] == "owner"
        status = (await client.call_tool("storage_status")).data
        assert status == {"backend": "filetree", "sealed": True, "survives_restarts": True, "problem": None}


async def test_exasol_answers_without_a_database(start_server: StartServer) -> None:
    server = start_server(HOLDFAST_SERVER="", **EXASOL_CONNECTION)
    assert "server=exasol" in server.output()
    async with signed_in(server) as client:
        for tool, arguments in TOOLS_WITHOUT_DATABASE.items():
            assert (await client.call_tool(tool, arguments)).content
    assert get(f"{server.url}/livez").status_code == 200
    assert get(f"{server.url}/readyz").status_code == 200
    assert EXASOL_CONNECTION["EXA_PASSWORD"] not in server.output()


async def test_a_missing_database_fails_the_call_and_nothing_else(start_server: StartServer) -> None:
    server = start_server(HOLDFAST_SERVER="exasol", **EXASOL_CONNECTION)
    async with signed_in(server) as client:
        result = await client.call_tool("list_exasol_schemas", raise_on_error=False)
        assert result.is_error
        assert await client.list_tools()
    assert get(f"{server.url}/readyz").status_code == 200


FASTMCP_SERVER = """
from fastmcp import FastMCP

mcp = FastMCP("Any server")
another = FastMCP("Another server")


@mcp.tool
def add(a: int, b: int) -> int:
    return a + b


@another.tool
def subtract(a: int, b: int) -> int:
    return a - b
"""


@pytest.mark.parametrize(("suffix", "tool"), [("", "add"), (":mcp", "add"), (":another", "subtract")])
async def test_a_server_in_a_file_runs_behind_the_login(
    start_server: StartServer, tmp_path: Path, suffix: str, tool: str
) -> None:
    (tmp_path / "any_server.py").write_text(FASTMCP_SERVER)
    server = start_server(HOLDFAST_SERVER=f"{tmp_path / 'any_server.py'}{suffix}")
    async with signed_in(server) as client:
        assert [found.name for found in await client.list_tools()] == [tool]


async def test_a_server_in_a_module_runs_behind_the_login(start_server: StartServer, tmp_path: Path) -> None:
    (tmp_path / "any_module.py").write_text(FASTMCP_SERVER)
    server = start_server(HOLDFAST_SERVER="any_module:mcp", PYTHONPATH=str(tmp_path))
    async with signed_in(server) as client:
        assert (await client.call_tool("add", {"a": 2, "b": 3})).data == 5


async def test_a_server_in_fastmcp_json_runs_behind_the_login(start_server: StartServer, tmp_path: Path) -> None:
    (tmp_path / "any_server.py").write_text(FASTMCP_SERVER)
    source = {"type": "filesystem", "path": str(tmp_path / "any_server.py"), "entrypoint": "mcp"}
    (tmp_path / "fastmcp.json").write_text(json.dumps({"source": source}))
    server = start_server(HOLDFAST_SERVER=str(tmp_path / "fastmcp.json"))
    async with signed_in(server) as client:
        assert (await client.call_tool("add", {"a": 2, "b": 3})).data == 5


async def test_several_workers_share_sign_ins(start_server: StartServer) -> None:
    server = start_server(WEB_CONCURRENCY="2")
    client = signed_in(server)
    for _ in range(10):
        async with client.new() as session:
            assert (await session.call_tool("whoami")).data["subject"] == "owner"
