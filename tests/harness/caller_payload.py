"""A payload that tells what it learns of its caller."""

from typing import Any

from fastmcp import FastMCP
from fastmcp.server.dependencies import get_access_token

mcp = FastMCP("Caller")


@mcp.tool
def caller() -> dict[str, Any]:
    """Everything that the access token brings along."""
    token = get_access_token()
    return {} if token is None else token.model_dump(mode="json")
