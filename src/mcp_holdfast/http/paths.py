"""Read the paths of this server's own endpoints in one way."""

from starlette.types import ASGIApp, Receive, Scope, Send

from mcp_holdfast.asgi import OAUTH_PATHS


class OwnPaths:
    """Takes slashes and line breaks at the end of our own paths away, before anything looks at them.

    Starlette would answer with a redirect to the path without, which the layers in between would take for an answer of
    the login: one with a code for a sign-in, one of the identity provider's callback for a redemption to be recorded.
    """

    def __init__(self, app: ASGIApp, *, mcp_path: str, callback_path: str) -> None:
        """`callback_path` is where the identity provider sends browsers back."""
        self._app = app
        self._served = {path.rstrip("/"): path for path in (*OAUTH_PATHS, mcp_path, callback_path)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        served = self._served.get(scope["path"].rstrip("/\n")) if scope["type"] == "http" else None
        if served is not None:
            scope = {**scope, "path": served, "raw_path": served.encode()}
        await self._app(scope, receive, send)
