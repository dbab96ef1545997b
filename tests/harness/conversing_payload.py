"""A payload for HOLDFAST_SERVER that asks its client, takes its time, is silent for long, and takes in much.

Where STORE_FAULTS is set, the store obeys it (see faults.py).
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastmcp import Context, FastMCP
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from mcp_holdfast.fastmcp_line import McpError
from mcp_holdfast.storage.backends import FileTree

sys.path.insert(0, str(Path(__file__).parents[1]))

mcp: FastMCP = FastMCP("Conversing")
masking: FastMCP = FastMCP("Conversing and masking", mask_error_details=True)

QUESTION = "What is your name?"
NAME: dict[str, Any] = {"type": "object", "properties": {"value": {"type": "string"}}}


async def ask(ctx: Context) -> Any:
    return await ctx.elicit(QUESTION, str)  # type: ignore[arg-type]  # its overloads are told apart by docstrings


@mcp.tool
@masking.tool
async def elicit(ctx: Context) -> str:
    """Ask for a name, and tell which server got it."""
    answer = await ask(ctx)
    return f"{answer.action} {getattr(answer, 'data', '')} at {os.environ['PORT']}"


@mcp.tool
async def elicit_by_session(ctx: Context) -> str:
    return (await ctx.session.elicit(QUESTION, NAME)).action


@mcp.tool
async def elicit_or_do_without(ctx: Context) -> str:
    """Do as well-behaved payloads do whose client refuses."""
    try:
        await ask(ctx)
    except McpError:
        return "did without"
    return "asked"


@mcp.tool
async def sample(ctx: Context) -> str | None:
    return (await ctx.sample("Write a poem")).text


@mcp.tool
async def list_roots(ctx: Context) -> int:
    return len(await ctx.list_roots())


@mcp.tool
async def ping(ctx: Context) -> str:
    await ctx.session.send_ping()
    return "pong"


@mcp.tool
async def wait(ctx: Context, seconds: float) -> str:
    """Be busy, and say so to a client that wants to know."""
    await ctx.report_progress(0)
    await asyncio.sleep(seconds)
    return "waited"


@mcp.tool
def port() -> str:
    """Tell which server answers."""
    return os.environ["PORT"]


@mcp.resource("conversation://name")
async def name(ctx: Context) -> str:
    return str((await ask(ctx)).action)


@mcp.prompt
async def greet(ctx: Context) -> str:
    return str((await ask(ctx)).action)


@mcp.custom_route("/silent/{seconds}", methods=["GET"])
async def silent(request: Request) -> Response:
    """Begin to answer, and say the rest after some seconds."""

    async def answer() -> AsyncIterator[str]:
        yield "begin "
        await asyncio.sleep(float(request.path_params["seconds"]))
        yield "end"

    return StreamingResponse(answer(), media_type="text/event-stream")


@mcp.custom_route("/upload", methods=["POST"])
async def upload(request: Request) -> Response:
    """Tell how many bytes came, and from where."""
    sizes = [len(piece) async for piece in request.stream()]
    return JSONResponse({"bytes": sum(sizes), "from": request.client.host if request.client else ""})


if "STORE_FAULTS" in os.environ:
    from harness.fault_points import obey

    obey(FileTree)
