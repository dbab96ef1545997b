"""The ASGI layer round POST /token."""

from mcp.server.auth.routes import cors_middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcp_holdfast.asgi import TOKEN, is_post, replay
from mcp_holdfast.auth.clients import error_response
from mcp_holdfast.auth.exchange.exchange import Exchange, ask
from mcp_holdfast.auth.exchange.request import MalformedRequest, read_token_request
from mcp_holdfast.auth.exchange.shield import Shield


class TokenEndpoint:
    """Wraps an application whose POST /token is FastMCP's; everything else passes through."""

    def __init__(self, app: ASGIApp, *, exchange: Exchange, shield: Shield) -> None:
        self._app = app
        self._exchange = exchange
        self._shield = shield
        self._endpoint = cors_middleware(self._handle, ["POST", "OPTIONS"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, self._drain_before_shutdown(receive), send)
            return
        await (self._endpoint if is_post(scope, TOKEN) else self._app)(scope, receive, send)

    def _drain_before_shutdown(self, receive: Receive) -> Receive:
        async def receive_later() -> Message:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await self._shield.drain()
            return message

        return receive_later

    async def _handle(self, http: Request) -> Response:
        try:
            body, request = await read_token_request(http)
        except MalformedRequest as error:
            return error_response(400, "invalid_request", str(error))
        if request is None:
            return await ask(self._app, http.scope, replay(body, http.receive))

        async def ask_provider() -> Response:
            return await ask(self._app, http.scope, replay(body, http.receive))

        return await self._shield.answer(http, lambda delivery: self._exchange.run(request, ask_provider, delivery))
