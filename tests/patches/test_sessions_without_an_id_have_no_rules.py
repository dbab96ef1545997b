"""Rules about what a session sees are looked up where the session could have some."""

from typing import Any

import httpx
from fastmcp import Client, Context, FastMCP
from key_value.aio.stores.memory import MemoryStore

HEADERS = {"Accept": "application/json"}


class CountingStore(MemoryStore):
    looked_up = 0

    async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
        self.looked_up += 1
        found: dict[str, Any] | None = await super().get(key, collection=collection)
        return found


def call(tool: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": {}}}


async def test_rules_are_looked_up_only_where_there_can_be_some() -> None:
    store = CountingStore()
    server: FastMCP = FastMCP("Hiding", session_state_store=store)

    @server.tool
    async def greet() -> str:
        return "hello"

    @server.tool
    async def hide(ctx: Context) -> None:
        await ctx.disable_components(names={"greet"})

    app = server.http_app(path="/mcp", stateless_http=True, json_response=True)
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://a") as http:
        answer = await http.post("/mcp", json=call("greet"), headers=HEADERS)
        assert "hello" in answer.text
        assert store.looked_up == 0
        # Whoever names a session gets what was stored for it, without MCP sessions, too.
        of_one = {**HEADERS, "Mcp-Session-Id": "one"}
        assert "hello" in (await http.post("/mcp", json=call("greet"), headers=of_one)).text
        assert "isError" in (await http.post("/mcp", json=call("hide"), headers=of_one)).text
        assert "Unknown tool" in (await http.post("/mcp", json=call("greet"), headers=of_one)).text
        assert "hello" in (await http.post("/mcp", json=call("greet"), headers=HEADERS)).text
        assert store.looked_up

    async with Client(server) as client, Client(server) as other:
        await client.call_tool("hide")
        assert [tool.name for tool in await client.list_tools()] == ["hide"]
        assert (await client.call_tool("greet", raise_on_error=False)).is_error
        assert (await other.call_tool("greet")).data == "hello"
