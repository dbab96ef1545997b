"""Count and time every request, and tell Prometheus at `/metrics` what was counted: only to who has the token."""

import asyncio
import hmac
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcp_holdfast import metrics
from mcp_holdfast.asgi import AUTHORIZATION, CONSENT, REGISTRATION, REVOCATION, SIGNIN, TOKEN, path_of
from mcp_holdfast.http.outage import HEALTH_PATHS, METADATA_PREFIX

log = logging.getLogger(__name__)

METRICS_PATH = "/metrics"
STATUS_CLASSES: dict[int, metrics.StatusClass] = {1: "1xx", 2: "2xx", 3: "3xx", 4: "4xx", 5: "5xx"}
LAG_MEASURED_EVERY = 1.0
"""In seconds."""

COUNTED_AGAIN_AFTER, COUNTED_WITHIN = 60.0, 2.0
"""In seconds."""

Count = Callable[[], Awaitable[int]]


class SessionCount:
    """Counts the sessions when it is asked to, but not twice a minute, and one count at a time."""

    def __init__(self, count: Count) -> None:
        self._count = count
        self._counting: asyncio.Task[None] | None = None
        self._began_at = 0.0

    async def refresh(self) -> None:
        """Tell metrics how many there are; on a store that does not answer in time, as many as there were."""
        if self._counting is None or (
            self._counting.done() and time.monotonic() > self._began_at + COUNTED_AGAIN_AFTER
        ):
            self._counting, self._began_at = asyncio.create_task(self._tell()), time.monotonic()
        await asyncio.wait({self._counting}, timeout=COUNTED_WITHIN)

    async def _tell(self) -> None:
        try:
            metrics.tell_sessions(await self._count())
        except Exception as error:  # noqa: BLE001  # whatever the store does
            log.info("the sessions cannot be counted", extra={"error": type(error).__name__})


class Measuring:
    """Wraps the whole application. `/metrics` needs the token as `Authorization: Bearer` (RFC 6750, section 2.1)."""

    def __init__(
        self, app: ASGIApp, *, token: SecretStr, mcp_path: str, callback_path: str, sessions: SessionCount
    ) -> None:
        self._app = app
        self._token = token.get_secret_value().encode()
        self._sessions = sessions
        self._mcp_path = mcp_path
        self._endpoints: dict[str, metrics.Endpoint] = {
            mcp_path: "mcp",
            TOKEN: "token",
            AUTHORIZATION: "authorize",
            callback_path.rstrip("/"): "callback",
            REGISTRATION: "register",
            REVOCATION: "revoke",
            SIGNIN: "signin",
            CONSENT: "consent",
            METRICS_PATH: "metrics",
            **dict.fromkeys(HEALTH_PATHS, "health"),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            async with _measuring_the_event_loop():
                await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._measure(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _measure(self, scope: Scope, receive: Receive, send: Send) -> None:
        status: metrics.StatusClass = "none"

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = STATUS_CLASSES.get(message["status"] // 100, "5xx")
            await send(message)

        endpoint, began_at = self._endpoint_of(scope), time.perf_counter()
        app = self._answer if endpoint == "metrics" else self._app
        try:
            await app(scope, receive, send_and_note)
        except Exception:
            # The server answers 500 where nothing was sent.
            status = "5xx" if status == "none" else status
            raise
        finally:
            metrics.count_request(endpoint, status, time.perf_counter() - began_at)

    def _endpoint_of(self, scope: Scope) -> metrics.Endpoint:
        path = path_of(scope)
        if path == self._mcp_path and scope["method"] == "GET":
            return "listen"
        return self._endpoints.get(path, "metadata" if path.startswith(METADATA_PREFIX) else "other")

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (await self._response(scope))(scope, receive, send)

    async def _response(self, scope: Scope) -> Response:
        if not self._has_token(Headers(scope=scope)):
            return PlainTextResponse("unauthorized\n", 401, {"WWW-Authenticate": "Bearer", "Cache-Control": "no-store"})
        if scope["method"] not in {"GET", "HEAD"}:
            return PlainTextResponse("method not allowed\n", 405, {"Allow": "GET, HEAD"})
        await self._sessions.refresh()
        # Not in a thread: all of those may be waiting for a store that hangs, and that is what is to be seen then.
        content = metrics.exposition()
        return Response(content, headers={"Content-Type": CONTENT_TYPE_LATEST, "Cache-Control": "no-store"})

    def _has_token(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        is_right = hmac.compare_digest(given.strip().encode("utf-8", "surrogatepass"), self._token)
        return scheme.lower() == "bearer" and is_right


@asynccontextmanager
async def _measuring_the_event_loop() -> AsyncIterator[None]:
    measuring = asyncio.create_task(_measure_the_event_loop())
    try:
        yield
    finally:
        measuring.cancel()
        await asyncio.wait({measuring})


async def _measure_the_event_loop() -> None:
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LAG_MEASURED_EVERY
        await asyncio.sleep(LAG_MEASURED_EVERY)
        metrics.observe_lag(max(0.0, loop.time() - due))
