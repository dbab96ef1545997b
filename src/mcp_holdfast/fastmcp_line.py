"""The two lines of FastMCP that Holdfast runs on, and what it has to do otherwise on the newer one.

FastMCP 3 is made of version 1 of the MCP SDK and of httpx, FastMCP 4 of version 2 of the SDK and of httpx2. Modules
that need what the two call or make differently get it here; docs/fastmcp4.md tells which lines there are.
"""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

IS_FASTMCP_4 = version("fastmcp-slim").startswith("4.")

if TYPE_CHECKING or not IS_FASTMCP_4:
    import httpx
    from mcp import McpError
    from mcp.server.lowlevel.server import request_ctx
    from mcp.types import ErrorData
else:
    import httpx2 as httpx
    from fastmcp.server.dependencies import fastmcp_request_ctx as request_ctx
    from mcp import MCPError as McpError

__all__ = ["IS_FASTMCP_4", "McpError", "error_arguments", "httpx", "is_in_a_message", "method_of", "revoke_token"]


def error_arguments(code: int, message: str) -> tuple[Any, ...]:
    """What an McpError is made of."""
    return (code, message) if IS_FASTMCP_4 else (ErrorData(code=code, message=message),)


def is_in_a_message() -> bool:
    """Whether an MCP message is being handled here, by the payload."""
    return request_ctx.get(None) is not None


def method_of(request: Any) -> str:
    """The method of a request to the client, which version 1 of the SDK wraps."""
    return str(getattr(request, "root", request).method)


async def revoke_token(client: Any, endpoint: str, token: object, hint: str) -> None:
    """Ask an identity provider to revoke a token (RFC 7009), with the client that a proxy asks it for tokens with.

    FastMCP 4's own client has no word for it, but authenticates any form.

    Raises:
        httpx.HTTPError: it did not, or cannot be reached.

    """
    if hasattr(client, "revoke_token"):
        response = await client.revoke_token(endpoint, token=token, token_type_hint=hint)
    else:
        form, headers = {"token": token, "token_type_hint": hint}, {"Accept": "application/json"}
        client._apply_client_auth(form, headers)
        response = await client._client.post(endpoint, data=form, headers=headers)
    response.raise_for_status()
