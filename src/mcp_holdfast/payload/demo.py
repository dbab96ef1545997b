"""A small server to try Holdfast with: who am I, and is the store well."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from fastmcp import FastMCP
from fastmcp.server.dependencies import get_access_token


def demo_server(check_storage: Callable[[], Awaitable[dict[str, Any]]]) -> FastMCP:
    """Make the server. Its tool `storage_status` tells what `check_storage` does."""
    server: FastMCP = FastMCP("Holdfast demo")

    @server.tool
    def whoami() -> dict[str, Any]:
        """Who is signed in, with which client and which rights, and until when the access token is good."""
        token = get_access_token()
        if token is None:
            return {"anonymous": True}
        expiry = datetime.fromtimestamp(token.expires_at, UTC).isoformat() if token.expires_at else None
        return {
            "anonymous": False,
            "subject": token.subject or token.claims.get("sub"),
            "client_id": token.client_id,
            "scopes": token.scopes,
            "token_expires_at": expiry,
        }

    @server.tool
    async def storage_status() -> dict[str, Any]:
        """Tell where sign-ins are stored and whether the store answers."""
        return await check_storage()

    return server
