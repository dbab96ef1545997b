"""Headers that every answer has, whoever wrote it."""

from functools import partial

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcp_holdfast.asgi import OAUTH_PATHS, path_of

Headers = list[tuple[bytes, bytes]]

OF_ALL: Headers = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer")]
OF_SIGN_INS: Headers = [(b"cache-control", b"no-store")]
HTTPS_FOR_A_YEAR = (b"strict-transport-security", b"max-age=31536000")
"""RFC 6797. Not for subdomains: they are not ours to tell about."""


class SecurityHeaders:
    """Adds those that an answer does not have itself; what a payload says of its own answers stays."""

    def __init__(self, app: ASGIApp, *, callback_path: str, is_https: bool) -> None:
        """`callback_path` is where the identity provider sends browsers back; `is_https` is of the public URL."""
        self._app = app
        self._sign_in_paths = OAUTH_PATHS | {callback_path.rstrip("/")}
        self._of_all = [*OF_ALL, *([HTTPS_FOR_A_YEAR] if is_https else [])]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            is_sign_in = path_of(scope) in self._sign_in_paths
            send = partial(_send_with, self._of_all + OF_SIGN_INS if is_sign_in else self._of_all, send)
        await self._app(scope, receive, send)


async def _send_with(wanted: Headers, send: Send, message: Message) -> None:
    if message["type"] == "http.response.start":
        given = list(message.get("headers", []))
        names = {name.lower() for name, _ in given}
        message = {**message, "headers": given + [header for header in wanted if header[0] not in names]}
    await send(message)
