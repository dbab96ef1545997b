"""A stop (SIGTERM: a deploy, a Spot interruption) lets calls end, and tells clients of those that cannot.

Left to itself, uvicorn closes its socket at once, so that a load balancer that does not know yet answers 502; and
sse-starlette ends every event stream half a second after the signal, the answer to a call with it, and clients then
wait for that answer until they lose patience.
"""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

from anyio import CancelScope
from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
from sse_starlette.sse import AppStatus
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcp_holdfast.asgi import path_of
from mcp_holdfast.http.outage import later
from mcp_holdfast.payload.conversation import Refused

log = logging.getLogger(__name__)

CALLS_END_WITHIN = 20.0
"""Seconds from the end of the drain. gunicorn ends what still runs after its graceful_timeout (serve.py)."""

TOLD_WITHIN = 1.0
"""Seconds from the end of a call until its client has been told."""

REASON = "This server is being stopped and could not end what was asked for. Connect anew and ask again"


class Stopping(Middleware):
    """What is going on in this process, and how it ends.

    From the signal on: readiness is false and, in a drain, new MCP requests get 503; what was asked of clients
    (elicitation, sampling) fails, since their answers would not arrive here any more; event streams that only listen
    are closed. The socket closes after the drain; calls may go on for CALLS_END_WITHIN more and then fail.
    """

    def __init__(self, *, drain: float) -> None:
        """`drain` is for how many seconds from the signal the server is there to say that it is not ready."""
        self._drain = drain
        self._has_begun = False
        self._calls: set[CancelScope] = set()
        self._questions: set[CancelScope] = set()
        self._streams: set[CancelScope] = set()

    def begin_at_sigterm(self) -> None:
        """Call it in a running event loop, after the server has set its own handler, called after the drain."""
        AppStatus.disable_automatic_graceful_drain()  # type: ignore[no-untyped-call]
        loop, handler = asyncio.get_running_loop(), signal.getsignal(signal.SIGTERM)

        def begin(number: int, frame: FrameType | None) -> None:
            def close() -> None:
                if callable(handler):
                    handler(number, frame)

            if not self._has_begun:
                self._has_begun = True
                loop.call_soon_threadsafe(lambda: tasks.append(loop.create_task(self._stop(close))))

        tasks: list[asyncio.Task[None]] = []
        signal.signal(signal.SIGTERM, begin)

    async def problem(self) -> str | None:
        """Why nothing new is begun, None as long as it is."""
        return "the server is being stopped" if self._has_begun else None

    async def _stop(self, close: Callable[[], None]) -> None:
        log.info("stopping", extra={"calls": len(self._calls), "streams": len(self._streams)})
        _cancel(self._questions | self._streams)
        await asyncio.sleep(self._drain)
        close()
        await asyncio.sleep(CALLS_END_WITHIN)
        _cancel(self._calls)
        await asyncio.sleep(TOLD_WITHIN)
        # Event streams of the payload's own.
        AppStatus.should_exit = True

    async def on_request(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:
        if context.fastmcp_context is not None:
            self._watch_questions(context.fastmcp_context.session)
        with _one_of(self._calls):
            return await call_next(context)
        raise Refused(REASON)

    def _watch_questions(self, session: Any) -> None:
        """Once for each object: version 1 of the SDK has one for a session, version 2 one for a message."""
        if "send_request" not in vars(session):
            session.send_request = partial(self._ask, session.send_request)

    async def _ask(self, send_request: Callable[..., Awaitable[Any]], *arguments: Any, **options: Any) -> Any:
        with _one_of(self._questions) as scope:
            if self._has_begun:
                scope.cancel()
            return await send_request(*arguments, **options)
        raise Refused(REASON)

    async def serve(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve an MCP request, but begin none in a drain; serve one that is there to listen (GET) until the stop.

        Without a drain the socket is closed already: what comes was under way before the signal.
        """
        if self._has_begun and (self._drain > 0 or scope["method"] == "GET"):
            await _refusal()(scope, receive, send)
        elif scope["method"] == "GET":
            await self._listen(app, scope, receive, send)
        else:
            await app(scope, receive, send)

    async def send_on(self, send: Send, message: Message) -> None:
        """Send a part of an answer, which from the stop on is the last one on its connection.

        Load balancers and clients keep connections: a request that comes when they are closed is lost.
        """
        if self._has_begun and message["type"] == "http.response.start":
            headers = MutableHeaders(raw=list(message.get("headers", [])))
            headers["Connection"] = "close"
            message = {**message, "headers": headers.raw}
        await send(message)

    async def _listen(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        has_started = False

        async def send_and_note(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        with _one_of(self._streams):
            await app(scope, receive, send_and_note)
            return
        if has_started:
            await send({"type": "http.response.body", "body": b""})
        else:
            await _refusal()(scope, receive, send)


class UntilTheStop:
    """Hands what comes to the MCP endpoint to `stopping`, and every answer."""

    def __init__(self, app: ASGIApp, *, path: str, stopping: Stopping) -> None:
        self._app = app
        self._path = path
        self._stopping = stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send_on = partial(self._stopping.send_on, send)
        if path_of(scope) == self._path:
            await self._stopping.serve(self._app, scope, receive, send_on)
        else:
            await self._app(scope, receive, send_on)


def _refusal() -> Response:
    return later("The server is being stopped. Nothing is lost: send the same request again.")


@contextmanager
def _one_of(scopes: set[CancelScope]) -> Iterator[CancelScope]:
    with CancelScope() as scope:
        scopes.add(scope)
        try:
            yield scope
        finally:
            scopes.discard(scope)


def _cancel(scopes: set[CancelScope]) -> None:
    for scope in list(scopes):
        scope.cancel()
