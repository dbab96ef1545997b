"""Answer a person whose sign-in went wrong with a page that says what happened and what to do."""

import json
import logging
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from mcp_holdfast.asgi import AUTHORIZATION, SIGNIN, HeldAnswer, path_of
from mcp_holdfast.auth.refusals import Refusals
from mcp_holdfast.http.accept import prefers_html
from mcp_holdfast.pages import error_page
from mcp_holdfast.pages.errors import FAILED, ErrorPage, new_reference

log = logging.getLogger(__name__)

KEPT_HEADERS = ("Allow", "Link", "Retry-After")
LONGEST_DETAILS = 300


class ErrorPages:
    """Wraps an application and shows its errors on the paths of a sign-in as pages, with the same status.

    To /authorize programs come, too: there only who would rather have HTML than JSON gets a page. The other paths are
    for browsers. The form of /signin says itself what is wrong with an answer.
    """

    def __init__(self, app: ASGIApp, *, server_name: str, refusals: Refusals) -> None:
        self._app = app
        self._server_name = server_name
        self._refusals = refusals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or path_of(scope) not in self._refusals.paths:
            await self._app(scope, receive, send)
            return
        answer = HeldAnswer()
        try:
            await self._app(scope, receive, answer.send)
        except Exception:
            if _is_for_a_person(scope, is_html=False):
                await self._page(Request(scope), FAILED, 500)(scope, receive, send)
            raise
        if answer.began:
            await (await self._shown(scope, answer))(scope, receive, send)

    async def _shown(self, scope: Scope, answer: HeldAnswer) -> Response:
        headers = Headers(raw=answer.headers)
        is_html = headers.get("content-type", "").startswith("text/html")
        if answer.status < 400 or not _is_for_a_person(scope, is_html=is_html):
            return answer.response()
        http = Request(scope)
        error = await self._refusals.explain(http, answer.status)
        if headers.get("retry-after", "").isdecimal():
            error = error.after(int(headers["retry-after"]))
        page = self._page(http, error, answer.status, _details(http, answer))
        page.headers.update({name: headers[name] for name in KEPT_HEADERS if name in headers})
        return page

    def _page(self, http: Request, error: ErrorPage, status: int, details: str = "") -> Response:
        reference = new_reference()
        noted = {"path": http.url.path, "status": status, "page": error.title, "details": details[:LONGEST_DETAILS]}
        log.info("showed an error page", extra={"reference": reference, **noted})
        return error_page(error, server_name=self._server_name, status=status, reference=reference)


def _is_for_a_person(scope: Scope, *, is_html: bool) -> bool:
    path = path_of(scope)
    if path == SIGNIN:
        return not is_html
    return path != AUTHORIZATION or is_html or prefers_html(scope)


def _details(http: Request, answer: HeldAnswer) -> str:
    """What clients are told (RFC 6749, section 5.2), or what an identity provider sent the browser back with."""
    with suppress(ValueError, TypeError, KeyError):
        return str(json.loads(answer.body)["error_description"])
    given = http.query_params
    return " ".join(given[name] for name in ("error", "error_description") if name in given)
