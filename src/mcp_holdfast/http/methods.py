"""Which methods the pages of a sign-in do not take."""

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from mcp_holdfast.asgi import AUTHORIZATION, CONSENT, SIGNIN, path_of


class RefusedHead:
    """Answers HEAD with 405 where GET takes a step of a sign-in.

    HEAD must not change anything (RFC 9110, section 9.2.1). Starlette does for it whatever it does for GET: a program
    that looks where a link leads would use up the code of the identity provider.
    """

    def __init__(self, app: ASGIApp, *, callback_path: str) -> None:
        """`callback_path` is where the identity provider sends browsers back."""
        self._app = app
        self._allowed = dict.fromkeys((AUTHORIZATION, CONSENT, SIGNIN), "GET, POST")
        self._allowed[callback_path.rstrip("/")] = "GET"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_head = scope["type"] == "http" and scope["method"] == "HEAD"
        allowed = self._allowed.get(path_of(scope)) if is_head else None
        if allowed is None:
            await self._app(scope, receive, send)
        else:
            await PlainTextResponse(status_code=405, headers={"Allow": allowed})(scope, receive, send)
