"""The ASGI layer round POST /token."""

from collections.abc import Awaitable

from mcp.server.auth.routes import cors_middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from mcp_holdfast.asgi import TOKEN, is_post, replay
from mcp_holdfast.auth.clients import error_response
from mcp_holdfast.auth.exchange.delivery import Delivery, answer_in_time
from mcp_holdfast.auth.exchange.exchange import Exchange, ask
from mcp_holdfast.auth.exchange.request import MalformedRequest, read_token_request
from mcp_holdfast.auth.shield import Shield


class TokenEndpoint:
    """Wraps an application whose POST /token is FastMCP's; everything else passes through."""

    def __init__(self, app: ASGIApp, *, exchange: Exchange, shield: Shield) -> None:
        self._app = app
        self._exchange = exchange
        self._shield = shield
        self._endpoint = cors_middleware(self._handle, ["POST", "OPTIONS"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._endpoint if is_post(scope, TOKEN) else self._app)(scope, receive, send)

    async def _handle(self, http: Request) -> Response:
        try:
            body, request = await read_token_request(http)
        except MalformedRequest as error:
            return error_response(400, "invalid_request", str(error))
        if request is None:
            return await ask(self._app, http.scope, replay(body, http.receive))

        async def ask_provider() -> Response:
            return await ask(self._app, http.scope, replay(body, http.receive))

        def exchange(delivery: Delivery) -> Awaitable[None]:
            return self._exchange.run(request, ask_provider, delivery)

        return await answer_in_time(self._shield, http, exchange)
