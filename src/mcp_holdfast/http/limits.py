"""Bound what strangers can make the server read before anyone knows them."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from mcp.server.transport_security import RequestBodyLimitMiddleware
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from mcp_holdfast.asgi import AUTHORIZATION, OAUTH_PATHS, address_of, path_of
from mcp_holdfast.auth.registrations import network_of

LONGEST_OAUTH_BODY = 64 * 1024
"""In bytes; the longest thing sent to these paths is the signed request that a sign-in page carries."""

LONGEST_AUTHORIZATION = 8 * 1024
AUTHORIZATIONS_A_MINUTE_OF_ALL = 600
MOST_NETWORKS = 10_000


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
            await _refusal(400, "send application/x-www-form-urlencoded (RFC 6749, appendix B)")(scope, receive, send)
        else:
            await self._limited(scope, receive, send)


class Allowance:
    """So many a minute for each name, as many of them at once after a pause; for the names that were seen last."""

    def __init__(self, per_minute: int, *, most_names: int = 1, now: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._most_names = most_names
        self._now = now
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str = "") -> float:
        """Take one and return 0, or return the seconds until there is one."""
        now = self._now()
        left, since = self._left.pop(name, (float(self._per_minute), now))
        left = min(self._per_minute, left + (now - since) * self._per_minute / 60)
        wait = 0.0 if left >= 1 else (1 - left) * 60 / self._per_minute
        self._left[name] = (left if wait else left - 1, now)
        if len(self._left) > self._most_names:
            self._left.popitem(last=False)
        return wait


class AuthorizationLimits:
    """Bounds what strangers make a proxy store: each request to /authorize leaves a record for a quarter of an hour.

    Long ones get 414; so does a long `state`, which such a record carries. Too many a minute from one network or of
    all get 429.
    """

    def __init__(self, app: ASGIApp, *, per_minute: int) -> None:
        """`per_minute` is for each network, in each worker process."""
        self._app = app
        self._limited = RequestBodyLimitMiddleware(app, LONGEST_AUTHORIZATION)
        self._of_one = Allowance(per_minute, most_names=MOST_NETWORKS)
        self._of_all = Allowance(max(per_minute, AUTHORIZATIONS_A_MINUTE_OF_ALL))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or path_of(scope) != AUTHORIZATION:
            await self._app(scope, receive, send)
        elif len(scope["query_string"]) > LONGEST_AUTHORIZATION:
            await _refusal(414, f"the request is longer than {LONGEST_AUTHORIZATION} bytes")(scope, receive, send)
        elif wait := self._of_one.take(network_of(address_of(scope))) or self._of_all.take():
            response = _refusal(429, "too many sign-ins are begun; try again in a moment")
            response.headers["Retry-After"] = str(max(1, math.ceil(wait)))
            await response(scope, receive, send)
        else:
            await self._limited(scope, receive, send)


def _refusal(status: int, description: str) -> JSONResponse:
    return JSONResponse({"error": "invalid_request", "error_description": description}, status)
