"""FastMCP's client. Reads a tool's name a line and prints what the tool answered, as JSON, a line.

usage: fastmcp_client.py URL                     sign in by OAuth and keep the tokens in ~/tokens
       fastmcp_client.py COMMAND [ARGUMENT ...]  speak to a program over standard input and output
"""

import asyncio
import json
import os
import sys
from pathlib import Path

from fastmcp import Client
from fastmcp.client.auth import OAuth
from fastmcp.client.transports import ClientTransport, StdioTransport, StreamableHttpTransport
from key_value.aio.stores.disk import DiskStore
from mcp import McpError


def open_transport(target: str, *arguments: str) -> ClientTransport:
    if not target.startswith("http"):
        return StdioTransport(target, list(arguments), env=dict(os.environ))
    tokens = DiskStore(directory=Path.home() / "tokens")
    return StreamableHttpTransport(target, auth=OAuth(client_name="FastMCP", token_storage=tokens))


async def next_tool() -> str:
    line: str = await asyncio.to_thread(sys.stdin.readline)
    return line.strip()


async def main() -> None:
    client = Client(open_transport(*sys.argv[1:]))
    tool = await next_tool()
    while tool:
        async with client:
            try:
                while tool:
                    print(json.dumps((await client.call_tool(tool)).data), flush=True)
                    tool = await next_tool()
            except McpError as error:
                # A restarted server does not know the MCP session any more; clients then open a new one.
                if "Session terminated" not in str(error):
                    raise


asyncio.run(main())
