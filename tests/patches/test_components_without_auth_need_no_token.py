"""Who asks is looked up for components that want to know it, and for no others."""

from typing import Any

import pytest
from fastmcp import FastMCP
from fastmcp.server import dependencies
from fastmcp.server.auth import AuthContext
from fastmcp.tools import Tool


async def test_a_token_is_looked_up_only_for_a_component_with_a_check(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    seen: list[Any] = []

    def token() -> str:
        asked.append("token")
        return "a token"

    def check(context: AuthContext) -> bool:
        seen.append(context.token)
        return False

    async def plain() -> str:
        return "anyone"

    async def checked() -> str:
        return "nobody"

    server: FastMCP = FastMCP("Checked")
    monkeypatch.setattr(dependencies, "get_access_token", token)
    server.add_tool(Tool.from_function(plain))
    assert await server.get_tool("plain")
    assert [tool.name for tool in await server.list_tools()] == ["plain"]
    assert not asked

    server.add_tool(Tool.from_function(checked, auth=check))
    assert await server.get_tool("checked") is None
    assert [tool.name for tool in await server.list_tools()] == ["plain"]
    assert set(seen) == {"a token"}
