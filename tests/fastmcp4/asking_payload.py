"""A payload for HOLDFAST_SERVER that asks its client by its result, as MCP 2026-07-28 has it, and as it was before."""

from typing import Any

from fastmcp import Context, FastMCP
from mcp_types import ElicitRequest, ElicitRequestFormParams, InputRequiredResult  # type: ignore[import-not-found]

mcp: FastMCP = FastMCP("Asking")

NAME = {"type": "object", "properties": {"value": {"type": "string"}}}


@mcp.tool
async def greet(ctx: Context) -> Any:
    """Ask for a name in the first round, and use it in the second."""
    answers: Any = ctx.input_responses  # type: ignore[attr-defined]
    if answers is None:
        question = ElicitRequest(params=ElicitRequestFormParams(message="What is your name?", requested_schema=NAME))
        return InputRequiredResult(input_requests={"name": question}, request_state="a greeting")
    return f"{ctx.request_state} to {answers['name'].content['value']}"  # type: ignore[attr-defined]


@mcp.tool
async def elicit(ctx: Context) -> str:
    answer: Any = await ctx.elicit("What is your name?", str)  # type: ignore[arg-type]
    return f"{answer.action} {getattr(answer, 'data', '')}"
