"""Bound what strangers can make the server read before anyone knows them."""

from mcp.server.transport_security import RequestBodyLimitMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from mcp_holdfast.asgi import OAUTH_PATHS, path_of

LONGEST_OAUTH_BODY = 64 * 1024
"""In bytes; the longest thing sent to these paths is the signed request that a sign-in page carries."""


class OAuthBodyLimit:
    """Answers 413 to long bodies on the paths of every login; the MCP endpoint has its own limit."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._limited = RequestBodyLimitMiddleware(app, LONGEST_OAUTH_BODY)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        limited = scope["type"] == "http" and path_of(scope) in OAUTH_PATHS
        await (self._limited if limited else self._app)(scope, receive, send)
