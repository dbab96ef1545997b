"""A payload with one tool that takes its time, and says in the log that it was called."""

import asyncio

from fastmcp import FastMCP

mcp: FastMCP = FastMCP("Patient")


@mcp.tool
async def wait(seconds: float) -> float:
    """Answer after so many seconds."""
    print("waiting", flush=True)
    await asyncio.sleep(seconds)
    return seconds
