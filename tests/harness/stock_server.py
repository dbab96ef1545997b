"""What Holdfast is compared with: FastMCP as it comes, configured by the same variables.

FastMCP chooses the store: its own file tree below FASTMCP_HOME.
"""

import json
import os
from datetime import UTC, datetime
from typing import Any

import uvicorn
from fastmcp import FastMCP
from fastmcp.server.auth import AuthProvider, OAuthProxy
from fastmcp.server.auth.oidc_proxy import OIDCProxy
from fastmcp.server.auth.providers.jwt import JWTVerifier
from fastmcp.server.dependencies import get_access_token
from key_value.aio.stores.filetree import FileTreeStore


def arguments_for(provider_class: type[AuthProvider]) -> dict[str, Any]:
    """Read the variables of a class as it takes them: numbers, lists and mappings are JSON, all else is text."""
    prefix = f"FASTMCP_SERVER_AUTH_{provider_class.__name__.upper()}_"
    given = {name.removeprefix(prefix).lower(): text for name, text in os.environ.items() if name.startswith(prefix)}
    return {
        name: json.loads(text) if text.startswith(("[", "{")) or text.isdigit() else text
        for name, text in given.items()
    }


def login(**more: Any) -> AuthProvider:
    base_url = os.environ["HOLDFAST_BASE_URL"]
    if os.environ["FASTMCP_SERVER_AUTH"].endswith(".OIDCProxy"):
        return OIDCProxy(base_url=base_url, **arguments_for(OIDCProxy), **more)
    verifier = JWTVerifier(**arguments_for(JWTVerifier))
    return OAuthProxy(base_url=base_url, token_verifier=verifier, **arguments_for(OAuthProxy), **more)


def whoami() -> dict[str, Any]:
    """Who is signed in, as the demo of Holdfast tells it."""
    token = get_access_token()
    assert token is not None
    expiry = datetime.fromtimestamp(token.expires_at, UTC).isoformat() if token.expires_at else None
    return {
        "anonymous": False,
        "subject": token.subject or token.claims.get("sub"),
        "client_id": token.client_id,
        "scopes": token.scopes,
        "token_expires_at": expiry,
    }


def follow_dead_processes() -> None:
    """Start the server anew whenever it dies, as container engines do. Returns in each new process."""
    while os.fork():
        os.wait()


if __name__ == "__main__":
    # The tests' own modules beside this file; the environment has none of them.
    if "STORE_FAULTS" in os.environ:
        import fault_points  # type: ignore[import-not-found]

        fault_points.obey(FileTreeStore)
    if "CRASH_POINTS" in os.environ:
        import crash_points  # type: ignore[import-not-found]

        crash_points.number_operations(FileTreeStore)
        follow_dead_processes()
    server: FastMCP = FastMCP("Stock FastMCP", auth=login(), tools=[whoami])
    uvicorn.run(server.http_app(path="/mcp"), host="0.0.0.0", port=int(os.environ["PORT"]))
