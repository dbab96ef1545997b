"""A payload for HOLDFAST_SERVER whose import makes the store obey the file that STORE_FAULTS names (see faults.py).

The server imports its payload before it opens the store and before it forks, so every worker obeys.
"""

import os
import sys
from pathlib import Path

import httpx
from fastmcp import FastMCP

from mcp_holdfast.storage.backends import FileTree, SQLiteDisk

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness.fault_points import obey

NOBODY_LISTENS = "http://127.0.0.1:9/"

mcp: FastMCP = FastMCP(os.environ.get("PAYLOAD_NAME", "Faulty"))


@mcp.tool
def greet() -> str:
    """Need nothing that could fail."""
    return "hello"


@mcp.tool
async def call_a_dead_host() -> str:
    """Fail as a payload does whose own backend is gone."""
    async with httpx.AsyncClient(timeout=5) as client:
        return (await client.get(NOBODY_LISTENS)).text


obey(FileTree, SQLiteDisk)
