"""Serve "later" until the identity provider can be asked for what the login is built from, then serve the server.

A provider for OpenID Connect is built from its discovery document. While that cannot be had, nobody's token can be
verified and nobody can sign in, which is no reason to end: the answer is 503, and it changes by itself.
"""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from mcp_holdfast import outage
from mcp_holdfast.auth.providers import ProviderUnreachable
from mcp_holdfast.http.health import health_routes
from mcp_holdfast.http.outage import DEFAULT_CALLBACK_PATH, OutageAnswer
from mcp_holdfast.settings import ConfigurationError

log = logging.getLogger(__name__)

TRIED_EVERY = 2.0
"""Seconds between an attempt that failed and the next."""


class ProviderWait:
    """An application that is there at once, and is what `build` returns as soon as that succeeds.

    Until then /livez is 200, /readyz 503 with the reason, and every other request 503 with Retry-After, as a page where
    a person asks. `build` runs in a thread; it raises ProviderUnreachable, or ConfigurationError where the identity
    provider answers something that cannot be used, which is tried again too: it may not be up completely.
    """

    def __init__(
        self,
        build: Callable[[], Starlette],
        reason: str,
        *,
        server_name: str,
        callback_path: str = DEFAULT_CALLBACK_PATH,
    ) -> None:
        self._build = build
        self._reason = reason
        self._application: Starlette | None = None
        self._waiting = Starlette(
            routes=[*health_routes(self), Mount("/", self._refuse)],
            middleware=[Middleware(OutageAnswer, server_name=server_name, callback_path=callback_path)],
            lifespan=self._lifespan,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._application is None or scope["type"] == "lifespan":
            await self._waiting(scope, receive, send)
        else:
            await self._application(scope, receive, send)

    async def problem(self) -> str | None:
        """Why nobody can be served."""
        return self._reason

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        outage.note(self._reason)
        raise ProviderUnreachable(self._reason)

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        end = asyncio.Event()
        serving = asyncio.create_task(self._serve_when_built(end))
        serving.add_done_callback(_end_worker_after_failure)
        yield
        end.set()
        await asyncio.wait({serving})

    async def _serve_when_built(self, end: asyncio.Event) -> None:
        while (application := await self._try_to_build()) is None:
            try:
                await asyncio.wait_for(end.wait(), TRIED_EVERY)
            except TimeoutError:
                continue
            return
        async with application.router.lifespan_context(application):
            log.info("the identity provider is there: serving")
            self._application = application
            await end.wait()

    async def _try_to_build(self) -> Starlette | None:
        try:
            return await asyncio.to_thread(self._build)
        except ProviderUnreachable as error:
            self._wait_because(str(error), str(error))
        except ConfigurationError as error:
            self._wait_because("the identity provider's answer does not fit the settings; the log says why", str(error))
        return None

    def _wait_because(self, reason: str, details: str) -> None:
        if reason != self._reason:
            log.error("still waiting for the identity provider", extra={"reason": details})
        self._reason = reason


def _end_worker_after_failure(serving: asyncio.Task[None]) -> None:
    """What else fails ends the worker, as it would have at its start; gunicorn begins another one."""
    if not serving.cancelled() and (error := serving.exception()) is not None:
        log.critical("the server cannot begin to serve", exc_info=error)
        os.kill(os.getpid(), signal.SIGTERM)
