"""Trace every request but those of health checks and of Prometheus."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcp_holdfast import tracing
from mcp_holdfast.asgi import OAUTH_PATHS, path_of
from mcp_holdfast.http.measuring import METRICS_PATH
from mcp_holdfast.http.outage import HEALTH_PATHS, METADATA_PREFIX

METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
OTHER = "_OTHER"
"""Anybody may make up a method (OpenTelemetry's semantic conventions for HTTP)."""

OF_A_TRACE = frozenset({b"traceparent", b"tracestate"})


class Traced:
    """Wraps the whole application, and sends spans as long as it lives."""

    def __init__(self, app: ASGIApp, *, mcp_path: str, callback_path: str) -> None:
        self._app = app
        self._routes = OAUTH_PATHS | {mcp_path, callback_path.rstrip("/")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        elif scope["type"] == "http" and path_of(scope) not in {METRICS_PATH, *HEALTH_PATHS}:
            await self._trace(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_after_spans(message: Message) -> None:
            # After this message the process ends, whatever is still to be done.
            if message["type"].startswith("lifespan.shutdown"):
                await tracing.end()
            await send(message)

        tracing.begin()
        await self._app(scope, receive, send_after_spans)

    async def _trace(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"] if scope["method"] in METHODS else OTHER
        route = self._route_of(scope)
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in OF_A_TRACE}
        name = f"{method} {route}" if route else method
        told = {"http.request.method": method} | ({"http.route": route} if route else {})
        with tracing.span(name, "SERVER", attributes=told, headers=headers) as tell:

            async def send_and_tell(message: Message) -> None:
                if message["type"] == "http.response.start":
                    tell("http.response.status_code", message["status"])
                    if message["status"] >= 500:
                        tell("error.type", str(message["status"]))
                await send(message)

            await self._app(scope, receive, send_and_tell)

    def _route_of(self, scope: Scope) -> str:
        """The path where it is one that is served; paths that strangers make up are none."""
        path = path_of(scope)
        if path.startswith(METADATA_PREFIX):
            return METADATA_PREFIX
        return path if path in self._routes else ""
