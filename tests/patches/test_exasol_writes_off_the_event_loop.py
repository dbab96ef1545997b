"""While exasol's write tool waits for the database, the server answers others."""

import asyncio
import threading
import warnings
from typing import Any

import pytest
from fastmcp import Client, FastMCP
from fastmcp.client.elicitation import ElicitResult

STATEMENT = "DELETE FROM T"


class SlowDatabase:
    """Takes as long over a statement as `ends` says, or two seconds."""

    def __init__(self) -> None:
        self.begins, self.ends = threading.Event(), threading.Event()

    def execute_query(self, *_: Any, **__: Any) -> None:
        self.begins.set()
        assert self.ends.wait(2)


async def accept(*_: Any) -> ElicitResult[Any]:
    return ElicitResult(action="accept", content={"sql": STATEMENT})


def server_of(database: SlowDatabase, *, asks: bool) -> FastMCP:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about exasol's own classes
        from exasol.ai.mcp.server.setup.server_settings import McpServerSettings  # type: ignore[import-untyped]
        from exasol.ai.mcp.server.tools.mcp_server import ExasolMCPServer  # type: ignore[import-untyped]
    settings = McpServerSettings(enable_write_query=True, disable_elicitation=not asks)
    server: FastMCP = ExasolMCPServer(database, settings)
    server.tool(server.execute_write_query)  # type: ignore[attr-defined]
    return server


@pytest.mark.parametrize("asks", [True, False])
async def test_the_event_loop_goes_on_while_a_statement_runs(asks: bool) -> None:
    database = SlowDatabase()
    async with Client(server_of(database, asks=asks), elicitation_handler=accept) as client:
        call = asyncio.create_task(client.call_tool("execute_write_query", {"query": STATEMENT}))
        await asyncio.to_thread(database.begins.wait)
        await client.ping()
        database.ends.set()
        await call
