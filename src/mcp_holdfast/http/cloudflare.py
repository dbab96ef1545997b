"""Let in only what came through Cloudflare Access: a second gate, in front of whatever login there is."""

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from mcp_holdfast import audit, outage
from mcp_holdfast.asgi import address_of
from mcp_holdfast.auth.cloudflare import Assertions
from mcp_holdfast.http.outage import HEALTH_PATHS

HEADER = "Cf-Access-Jwt-Assertion"
DESCRIPTION = "this server is to be asked through Cloudflare Access"


class CloudflareGate:
    """Answers 403 to each request without a good assertion; whoever looks after the server's health needs none.

    403 and not 401: no token of ours would help, so a client must not throw away the one that it has.
    """

    def __init__(self, app: ASGIApp, *, assertions: Assertions) -> None:
        self._app = app
        self._assertions = assertions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in HEALTH_PATHS or await self._came_through(scope):
            await self._app(scope, receive, send)
            return
        answer = JSONResponse({"error": "access_denied", "error_description": DESCRIPTION}, 403)
        await answer(scope, receive, send)

    async def _came_through(self, scope: Scope) -> bool:
        given = Headers(scope=scope).getlist(HEADER)
        if len(given) == 1 and await self._assertions.is_good(given[0]):
            return True
        if not outage.noted():
            reason = ("missing", "not_good", "several")[min(len(given), 2)]
            with audit.of_request(address_of(scope)):
                audit.record("assertion_refused", reason=reason)
        return False
