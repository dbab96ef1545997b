"""Answer "later" (503) where a request failed because something could not be reached.

What is behind turns such failures into 401, invalid_grant, 400 or 500, and clients then throw away a session that is
good (RFC 9110, section 15.6.4, has 503 and Retry-After for this).
"""

import logging
from collections.abc import Sequence
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcp_holdfast import outage
from mcp_holdfast.asgi import AUTHORIZATION, CONSENT, OAUTH_PATHS, SIGNIN, path_of
from mcp_holdfast.http.accept import prefers_html
from mcp_holdfast.pages import error_page
from mcp_holdfast.pages.errors import LATER, new_reference

log = logging.getLogger(__name__)

HEALTH_PATHS = frozenset({"/livez", "/readyz"})
METADATA_PREFIX = "/.well-known/"
PATHS_FOR_PEOPLE = frozenset({AUTHORIZATION, CONSENT, SIGNIN})
DEFAULT_CALLBACK_PATH = "/auth/callback"
"""Where OAuthProxy lets the identity provider send the browser back."""

RETRY_AFTER = 2
ALREADY_LATER = frozenset({429, 503})
FAILURES_BEHIND_THE_LOGIN = frozenset({401, 403, 500})
"""What a failed check of a token becomes; the payload's other answers are its own."""

LONGEST_LOGGED = 200

DESCRIPTION = "The server cannot reach what it needs right now. Nothing is lost: send the same request again."


class OutageAnswer:
    """Answers 503 instead of an error where something was noted (outage.note) while the request was answered.

    Of the login's paths each error is replaced but 429 and 503, and a redirect from /authorize that hands on
    server_error (RFC 6749, section 4.1.2.1). Of the MCP endpoint and the payload's other paths only the statuses of a
    check of a token that failed. What has begun to be sent, and an exception without an outage, pass unchanged.
    """

    def __init__(self, app: ASGIApp, *, server_name: str, callback_path: str = DEFAULT_CALLBACK_PATH) -> None:
        """`server_name` is for the page; `callback_path` is where the identity provider sends browsers back."""
        self._app = app
        self._server_name = server_name
        self._paths_for_people = PATHS_FOR_PEOPLE | {callback_path.rstrip("/")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in HEALTH_PATHS:
            await self._app(scope, receive, send)
            return
        with outage.watching() as causes:
            await self._answer(scope, receive, send, causes)

    def _is_for_people(self, scope: Scope) -> bool:
        return path_of(scope) in self._paths_for_people

    async def _answer(self, scope: Scope, receive: Receive, send: Send, causes: Sequence[str]) -> None:
        began = replaced = False

        async def replace() -> None:
            nonlocal began, replaced
            began = replaced = True
            await self._later(scope, "; ".join(dict.fromkeys(causes)))(scope, receive, send)

        async def send_or_replace(message: Message) -> None:
            nonlocal began
            if replaced:
                return
            if not began and causes and message["type"] == "http.response.start" and self._is_failure(scope, message):
                await replace()
                return
            began = True
            await send(message)

        try:
            await self._app(scope, receive, send_or_replace)
        except Exception:
            if not replaced and (began or not causes):
                raise
            if not replaced:
                await replace()

    def _is_failure(self, scope: Scope, start: Message) -> bool:
        path, status = path_of(scope), start["status"]
        if not (path in OAUTH_PATHS or path.startswith(METADATA_PREFIX) or self._is_for_people(scope)):
            return status in FAILURES_BEHIND_THE_LOGIN
        if path == AUTHORIZATION and 300 <= status < 400:
            return _hands_on_server_error(start)
        return status >= 400 and status not in ALREADY_LATER

    def _later(self, scope: Scope, causes: str) -> Response:
        noted = {"path": scope["path"][:LONGEST_LOGGED], "causes": causes}
        if self._is_for_people(scope) and prefers_html(scope):
            noted["reference"] = new_reference()
            response: Response = error_page(
                LATER, server_name=self._server_name, status=503, reference=noted["reference"]
            )
        else:
            response = later(DESCRIPTION)
        log.warning("answered 503", extra=noted)
        response.headers["Retry-After"] = str(RETRY_AFTER)
        response.headers["Cache-Control"] = "no-store"
        return response


def later(description: str) -> JSONResponse:
    """Tell a program to send the same request again (RFC 9110, section 15.6.4)."""
    headers = {
        "Retry-After": str(RETRY_AFTER),
        # A client in a browser would else see a failed connection instead of an answer.
        "Access-Control-Allow-Origin": "*",
        "Access-Control-Expose-Headers": "Retry-After",
    }
    return JSONResponse({"error": "temporarily_unavailable", "error_description": description}, 503, headers)


def _hands_on_server_error(start: Message) -> bool:
    location = Headers(raw=list(start.get("headers", []))).get("location", "")
    return parse_qs(urlsplit(location).query).get("error") == ["server_error"]
