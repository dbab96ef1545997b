"""A payload for HOLDFAST_SERVER that lets its server be killed at any operation of its store."""

import os
import sys
from pathlib import Path

from fastmcp import FastMCP
from fastmcp.server.dependencies import get_access_token

from mcp_holdfast.storage.backends import FileTree, SQLiteDisk, open_engine

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness.crash_points import number_operations

number_operations(FileTree, SQLiteDisk)
if url := os.environ.get("HOLDFAST_STORAGE_URL"):
    number_operations(type(open_engine(url)))

mcp: FastMCP = FastMCP("Crashing")


@mcp.tool
def whoami() -> str:
    """Tell which client calls."""
    token = get_access_token()
    return token.client_id if token else "nobody"
