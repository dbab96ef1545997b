"""Pages of a login load nothing from elsewhere, whoever wrote them: others are not told who signs in where."""

from functools import partial

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcp_holdfast.asgi import OAUTH_PATHS, path_of

HEADER = "Content-Security-Policy"
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'"


class OwnContent:
    """Gives pages of the login that have no policy in their header one that lets browsers load only what is ours.

    A policy in the page itself holds beside it.
    """

    def __init__(self, app: ASGIApp, *, callback_path: str) -> None:
        """`callback_path` is where the identity provider sends browsers back."""
        self._app = app
        self._paths = OAUTH_PATHS | {callback_path.rstrip("/")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_page = scope["type"] == "http" and path_of(scope) in self._paths
        await self._app(scope, receive, partial(_send_with_policy, send) if is_page else send)


async def _send_with_policy(send: Send, message: Message) -> None:
    if message["type"] == "http.response.start":
        headers = MutableHeaders(raw=list(message.get("headers", [])))
        if headers.get("content-type", "").startswith("text/html"):
            headers.setdefault(HEADER, POLICY)
        message = {**message, "headers": headers.raw}
    await send(message)
