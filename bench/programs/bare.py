"""The least that a FastMCP server is: one tool, served by uvicorn on PORT. Also a payload for Holdfast."""

import os

from fastmcp import FastMCP

mcp: FastMCP = FastMCP("Bare")


@mcp.tool
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(mcp.http_app(path="/mcp"), host="0.0.0.0", port=int(os.environ["PORT"]), log_level="warning")
