"""Bound what strangers can make the server read before anyone knows them."""

from mcp.server.transport_security import RequestBodyLimitMiddleware
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from mcp_holdfast.asgi import OAUTH_PATHS, path_of

LONGEST_OAUTH_BODY = 64 * 1024
"""In bytes; the longest thing sent to these paths is the signed request that a sign-in page carries."""


UNSUPPORTED = JSONResponse(
    {"error": "invalid_request", "error_description": "send application/x-www-form-urlencoded (RFC 6749, appendix B)"},
    415,
)


class OAuthBodyLimit:
    """Answers 413 to long bodies on the paths of every login; the MCP endpoint has its own limit.

    Multipart bodies, which carry files, are not read at all: OAuth's requests are short forms or JSON.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._limited = RequestBodyLimitMiddleware(app, LONGEST_OAUTH_BODY)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or path_of(scope) not in OAUTH_PATHS:
            await self._app(scope, receive, send)
        elif Headers(scope=scope).get("content-type", "").lower().startswith("multipart/"):
            await UNSUPPORTED(scope, receive, send)
        else:
            await self._limited(scope, receive, send)
