"""The ASGI layer round POST /token: each exchange runs to its end, whatever becomes of the request."""

import asyncio
import logging

from mcp.server.auth.routes import cors_middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcp_holdfast import outage
from mcp_holdfast.asgi import TOKEN, is_post, replay
from mcp_holdfast.auth.clients import error_response
from mcp_holdfast.auth.exchange.exchange import Ask, Delivery, Exchange, Unfinished, ask
from mcp_holdfast.auth.exchange.request import MalformedRequest, TokenRequest, read_token_request
from mcp_holdfast.storage.atomic import LeaseBusy

log = logging.getLogger(__name__)

ANSWER_WITHIN = 20.0
"""Seconds until a client is told to come back; the exchange itself goes on and is recorded."""


class TokenEndpoint:
    """Wraps an application whose POST /token is FastMCP's; everything else passes through."""

    def __init__(self, app: ASGIApp, *, exchange: Exchange) -> None:
        self._app = app
        self._exchange = exchange
        self._running: set[asyncio.Task[None]] = set()
        self._endpoint = cors_middleware(self._handle, ["POST", "OPTIONS"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, self._drain_before_shutdown(receive), send)
            return
        await (self._endpoint if is_post(scope, TOKEN) else self._app)(scope, receive, send)

    def _drain_before_shutdown(self, receive: Receive) -> Receive:
        """Let every exchange that has begun be recorded before the process goes."""

        async def receive_later() -> Message:
            message = await receive()
            if message["type"] == "lifespan.shutdown" and self._running:
                await asyncio.wait(self._running, timeout=ANSWER_WITHIN)
            return message

        return receive_later

    async def _handle(self, http: Request) -> Response:
        try:
            body, request = await read_token_request(http)
        except MalformedRequest as error:
            return error_response(400, "invalid_request", str(error))
        if request is None:
            return await ask(self._app, http.scope, replay(body, http.receive))
        return await self._exchange_shielded(http, request)

    async def _exchange_shielded(self, http: Request, request: TokenRequest) -> Response:
        """Exchange in a task of its own: neither a client that goes away nor a shutdown cuts it short."""
        delivery = Delivery()
        task = asyncio.create_task(self._exchange_to_the_end(request, delivery))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            response = await delivery.wait(ANSWER_WITHIN)
            if await http.is_disconnected():
                delivery.end(sent=False)
        except asyncio.CancelledError:
            delivery.end(sent=False)
            raise
        if response is None:
            outage.note("the exchange could not be done, or takes longer than a client waits")
            raise Unfinished
        return _TellingResponse(response, delivery)

    async def _exchange_to_the_end(self, request: TokenRequest, delivery: Delivery) -> None:
        provider: Ask = lambda: ask(self._app, request.scope, request.receive())  # noqa: E731  # of this request
        try:
            await self._exchange.run(request, provider, delivery)
        except LeaseBusy:
            outage.note("another request with the same code or token is still being answered")
        except Exception as error:
            if not outage.noted():
                log.exception("the token endpoint failed")
                outage.note(f"the token endpoint failed: {type(error).__name__}")
        finally:
            delivery.give(None)


class _TellingResponse(Response):
    """Sends a response and tells when that was done."""

    def __init__(self, response: Response, delivery: Delivery) -> None:
        super().__init__(response.body, response.status_code)
        self.raw_headers = response.raw_headers
        self._delivery = delivery

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except BaseException:
            self._delivery.end(sent=False)
            raise
        self._delivery.end(sent=True)
