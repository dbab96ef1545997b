"""A stop (SIGTERM: a deploy, a Spot interruption) lets calls end, and tells clients of those that cannot.

Left to itself, sse-starlette ends every event stream half a second after the signal, the answer to a call with it, and
clients then wait for that answer until they lose patience.
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
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcp_holdfast.asgi import path_of
from mcp_holdfast.payload.conversation import Refused

log = logging.getLogger(__name__)

CALLS_END_WITHIN = 20.0
"""Seconds from the signal. gunicorn ends what still runs after its graceful_timeout (serve.py)."""

TOLD_WITHIN = 1.0
"""Seconds from the end of a call until its client has been told."""

REASON = "This server is being stopped and could not end what was asked for. Connect anew and ask again"


class Stopping(Middleware):
    """What is going on in this process, and how it ends.

    From the signal on: what was asked of clients (elicitation, sampling) fails, since their answers would not arrive
    here any more; event streams that only listen are closed; calls may go on for CALLS_END_WITHIN and then fail.
    """

    def __init__(self) -> None:
        self._has_begun = False
        self._calls: set[CancelScope] = set()
        self._questions: set[CancelScope] = set()
        self._streams: set[CancelScope] = set()

    def begin_at_sigterm(self) -> None:
        """Call it in a running event loop, after the server has set its own handler, which is called too."""
        AppStatus.disable_automatic_graceful_drain()  # type: ignore[no-untyped-call]
        loop, handler = asyncio.get_running_loop(), signal.getsignal(signal.SIGTERM)

        def begin(number: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(lambda: tasks.append(loop.create_task(self._stop())))
            if callable(handler):
                handler(number, frame)

        tasks: list[asyncio.Task[None]] = []
        signal.signal(signal.SIGTERM, begin)

    async def _stop(self) -> None:
        self._has_begun = True
        log.info("stopping", extra={"calls": len(self._calls), "streams": len(self._streams)})
        _cancel(self._questions | self._streams)
        await asyncio.sleep(CALLS_END_WITHIN)
        _cancel(self._calls)
        await asyncio.sleep(TOLD_WITHIN)
        # Event streams of the payload's own.
        AppStatus.should_exit = True

    async def on_initialize(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:
        if context.fastmcp_context is not None:
            session = context.fastmcp_context.session
            ask = partial(self._ask, session.send_request)
            session.send_request = ask  # type: ignore[method-assign]
        return await call_next(context)

    async def on_request(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:
        with _one_of(self._calls):
            return await call_next(context)
        raise Refused(REASON)

    async def _ask(self, send_request: Callable[..., Awaitable[Any]], *arguments: Any, **options: Any) -> Any:
        with _one_of(self._questions) as scope:
            if self._has_begun:
                scope.cancel()
            return await send_request(*arguments, **options)
        raise Refused(REASON)

    async def listen(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve an event stream that is there to listen, until the stop."""
        has_started = False

        async def send_and_note(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        with _one_of(self._streams) as cancel_scope:
            if self._has_begun:
                cancel_scope.cancel()
            await app(scope, receive, send_and_note)
            return
        if has_started:
            await send({"type": "http.response.body", "body": b""})
        else:
            await Response(status_code=503, headers={"Retry-After": "2"})(scope, receive, send)


class ListeningStreams:
    """Hands the GET requests of MCP, each of which listens for as long as its client is there, to `stopping`."""

    def __init__(self, app: ASGIApp, *, path: str, stopping: Stopping) -> None:
        self._app = app
        self._path = path
        self._stopping = stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "GET" and path_of(scope) == self._path:
            await self._stopping.listen(self._app, scope, receive, send)
        else:
            await self._app(scope, receive, send)


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
