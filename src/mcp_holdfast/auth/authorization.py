"""The ASGI layers round /authorize and the pages that follow it, for every provider."""

from functools import partial
from urllib.parse import parse_qs, urlencode

from fastmcp.server.auth.auth import OAuthProvider
from fastmcp.server.auth.oauth_proxy import OAuthProxy
from mcp.server.auth.provider import construct_redirect_uri
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcp_holdfast import audit
from mcp_holdfast.asgi import AUTHORIZATION, CONSENT, SIGNIN, path_of, replay
from mcp_holdfast.auth.configured import ConfiguredClients
from mcp_holdfast.auth.destinations import Destination
from mcp_holdfast.auth.forms import RESOURCE, MalformedRequest, Parameters, given_in, refuse_repeated
from mcp_holdfast.auth.metadata import issuer_of
from mcp_holdfast.auth.refusals import return_address
from mcp_holdfast.auth.resources import refuse_other_resources
from mcp_holdfast.auth.scopes import advertised_scopes, available

NO_STORE = {"Cache-Control": "no-store"}
DECIDES_WHERE_TO_ANSWER = frozenset({"client_id", "redirect_uri"})


class AuthorizationRequests:
    """Wraps an application whose /authorize is FastMCP's, and hands on what asks for something that can be had.

    A repeated parameter and another server's resource are refused; scopes that cannot be had are left out.
    """

    def __init__(self, app: ASGIApp, *, provider: OAuthProvider, clients: ConfiguredClients) -> None:
        self._app = app
        self._provider = provider
        self._clients = clients

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in {"GET", "POST"} or path_of(scope) != AUTHORIZATION:
            await self._app(scope, receive, send)
            return
        http = Request(scope, receive)
        try:
            body = await http.body()
        except ClientDisconnect:
            return
        try:
            parameters = await _parameters_of(Request(scope, replay(body, receive)))
        except HTTPException as error:
            await _error("invalid_request", error.detail)(scope, receive, send)
            return
        audit.know("client_id", dict(parameters).get("client_id"))
        audit.know("host", _host_of(dict(parameters).get("redirect_uri", "")))
        try:
            self._check(parameters)
        except MalformedRequest as error:
            response = await self._refuse(parameters, error)
            await response(scope, receive, send)
            return
        await self._hand_on(http, parameters, body, send)

    def _check(self, parameters: Parameters) -> None:
        refuse_repeated(parameters)
        refuse_other_resources(self._provider, [value for name, value in parameters if name == RESOURCE])

    async def _refuse(self, parameters: Parameters, error: MalformedRequest) -> Response:
        """Tell the client, if it is certain which one it is and where; else the person (RFC 6749, section 4.1.2.1)."""
        names = [name for name, _ in parameters]
        if any(names.count(name) > 1 for name in DECIDES_WHERE_TO_ANSWER):
            return _error(error.error, str(error))
        given = dict(parameters)
        client = await self._provider.get_client(given.get("client_id", ""))
        found = client and return_address(client, given.get("redirect_uri"))
        if not found:
            return _error(error.error, str(error))
        answer = {"error": error.error, "error_description": str(error), "state": given.get("state")}
        return RedirectResponse(construct_redirect_uri(str(found), **answer), 302, NO_STORE)

    async def _hand_on(self, http: Request, parameters: Parameters, body: bytes, send: Send) -> None:
        own_scopes = self._clients.own_scopes(dict(parameters).get("client_id", ""))
        scopes = advertised_scopes(self._provider) if own_scopes is None else own_scopes
        if scopes is not None:
            parameters = [(name, available(value, scopes) if name == "scope" else value) for name, value in parameters]
        query = urlencode(given_in(parameters)).encode()
        if http.method == "GET":
            await self._app({**http.scope, "query_string": query}, replay(body, http.receive), send)
        else:
            await self._app(http.scope, replay(query, http.receive), send)


class AuthorizationResponses:
    """Wraps an application and names the issuer in its answers to clients (RFC 9207, section 2).

    An answer is a redirect with a code or an error (RFC 6749, sections 4.1.2 and 4.1.2.1), from /authorize or from the
    pages that it led to.
    """

    def __init__(self, app: ASGIApp, *, provider: OAuthProvider) -> None:
        self._app = app
        self._issuer = issuer_of(provider)
        self._paths = {AUTHORIZATION, CONSENT, SIGNIN}
        if isinstance(provider, OAuthProxy):
            self._paths.add(provider._redirect_path.rstrip("/"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answers = scope["type"] == "http" and path_of(scope) in self._paths
        await self._app(scope, receive, partial(self._send, send) if answers else send)

    async def _send(self, send: Send, message: Message) -> None:
        if message["type"] == "http.response.start" and 300 <= message["status"] < 400:
            message = {**message, "headers": list(message["headers"])}
            headers = MutableHeaders(raw=message["headers"])
            headers["location"] = self._named(headers.get("location", ""))
        await send(message)

    def _named(self, location: str) -> str:
        address, _, query = location.partition("?")
        if not parse_qs(query).keys() & {"code", "error"}:
            return location
        # A client's own address may have one, and FastMCP 4 names the issuer with a slash at the end.
        others = [part for part in query.split("&") if part.partition("=")[0] != "iss"]
        return f"{address}?{'&'.join([*others, urlencode({'iss': self._issuer})])}"


async def _parameters_of(http: Request) -> Parameters:
    given = http.query_params if http.method == "GET" else await http.form()
    return given_in(given.multi_items())


def _host_of(uri: str) -> str:
    try:
        return Destination(uri).host if uri else ""
    except ValueError:
        return ""


def _error(error: str, description: str) -> Response:
    return JSONResponse({"error": error, "error_description": description}, 400, NO_STORE)
