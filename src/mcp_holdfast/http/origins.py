"""Websites that call the server from a browser: which may, and what they may read of the answers (CORS)."""

import logging
import re
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from mcp_holdfast.asgi import REGISTRATION, REVOCATION, TOKEN, path_of
from mcp_holdfast.http.outage import METADATA_PREFIX

log = logging.getLogger(__name__)

CLIENT_ENDPOINTS = frozenset({REGISTRATION, REVOCATION, TOKEN})
LOOPBACK = r"https?://(localhost|([a-z0-9-]+\.)+localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?"
WEBSITE = re.compile(r"https?://.*|null", re.DOTALL)
EXPOSED = ("MCP-Protocol-Version", "Mcp-Session-Id", "Retry-After", "WWW-Authenticate")
LONGEST_LOGGED = 200
REFUSAL = "this website may not call the server. Who runs it: name the origin in HOLDFAST_ALLOWED_ORIGINS"


class CrossOrigin:
    """Lets every website speak OAuth as a client, and those of `origins` and of this machine call the MCP endpoint.

    Other websites get 403 there (MCP, "Streamable HTTP", on the Origin header); a website's own calls to its own host
    pass. Origins that are no websites, as those of desktop applications, are nobody's to fake in a browser. Cookies
    are for pages of a sign-in alone: no answer allows credentials, and those pages can be read by no other website.
    """

    def __init__(self, app: ASGIApp, *, mcp_path: str, origins: Collection[str]) -> None:
        """`origins` are as browsers send them: a scheme, a host and, where it is not the usual one, a port."""
        self._app = app
        self._mcp_path = mcp_path
        shared = {"allow_headers": ["*"], "expose_headers": EXPOSED}
        self._mcp = CORSMiddleware(
            app,
            [*origins],
            ["GET", "POST", "DELETE"],
            allow_origin_regex=LOOPBACK,
            **shared,  # type: ignore[arg-type]
        )
        self._endpoints = CORSMiddleware(app, ["*"], ["GET", "POST"], **shared)  # type: ignore[arg-type]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app_for(scope)(scope, receive, send)

    def _app_for(self, scope: Scope) -> ASGIApp:
        if scope["type"] != "http":
            return self._app
        path = path_of(scope)
        if path == self._mcp_path:
            # Nearly all calls come from programs, and cost nothing here.
            is_of_a_browser = any(name == b"origin" for name, _ in scope["headers"])
            return (self._refusal_of(Headers(scope=scope)) or self._mcp) if is_of_a_browser else self._app
        is_for_clients = path in CLIENT_ENDPOINTS or path.startswith(METADATA_PREFIX)
        return self._endpoints if is_for_clients else self._app

    def _refusal_of(self, headers: Headers) -> ASGIApp | None:
        for origin in headers.getlist("origin"):
            if not WEBSITE.fullmatch(origin) or self._mcp.is_allowed_origin(origin):
                continue
            if origin.partition("://")[2] != headers.get("host"):
                log.info("refused a call of a website", extra={"origin": origin[:LONGEST_LOGGED]})
                return JSONResponse({"error": "forbidden_origin", "error_description": REFUSAL}, 403)
        return None
