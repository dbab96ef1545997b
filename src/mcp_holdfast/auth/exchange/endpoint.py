"""The ASGI layer round POST /token."""

from collections.abc import Awaitable

from mcp.server.auth.routes import cors_middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from mcp_holdfast import audit
from mcp_holdfast.asgi import TOKEN, is_post
from mcp_holdfast.auth.clients import challenged, error_response
from mcp_holdfast.auth.configured import ConfiguredClients
from mcp_holdfast.auth.exchange.delivery import Delivery, answer_in_time
from mcp_holdfast.auth.exchange.exchange import Exchange, ask
from mcp_holdfast.auth.exchange.request import token_request
from mcp_holdfast.auth.forms import MalformedRequest, read_form
from mcp_holdfast.auth.shield import Shield


class TokenEndpoint:
    """Wraps an application whose POST /token is FastMCP's; everything else passes through."""

    def __init__(self, app: ASGIApp, *, exchange: Exchange, clients: ConfiguredClients, shield: Shield) -> None:
        self._app = app
        self._exchange = exchange
        self._clients = clients
        self._shield = shield
        self._endpoint = cors_middleware(self._handle, ["POST", "OPTIONS"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._endpoint if is_post(scope, TOKEN) else self._app)(scope, receive, send)

    async def _handle(self, http: Request) -> Response:
        return challenged(await self._answer(http), http)

    async def _answer(self, http: Request) -> Response:
        try:
            form = await read_form(http)
            audit.know("client_id", form.parameters.get("client_id"))
            form = await self._clients.authenticated(http, form)
            request = token_request(http, form)
            audit.know("grant", request.kind)
            self._exchange.check(request)
        except MalformedRequest as error:
            return error_response(error.error, str(error))

        async def ask_provider() -> Response:
            return await ask(self._app, request.scope, request.receive())

        def exchange(delivery: Delivery) -> Awaitable[None]:
            return self._exchange.run(request, ask_provider, delivery)

        return await answer_in_time(self._shield, http, exchange)
