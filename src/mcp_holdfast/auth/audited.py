"""The ASGI layer that writes down how requests of clients and people were answered, for every provider."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

from fastmcp.server.auth.auth import OAuthProvider
from fastmcp.server.auth.oauth_proxy import OAuthProxy
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcp_holdfast import audit
from mcp_holdfast.asgi import AUTHORIZATION, CONSENT, REGISTRATION, REVOCATION, SIGNIN, TOKEN, address_of, path_of
from mcp_holdfast.auth.clients import UNAUTHENTICATED
from mcp_holdfast.auth.destinations import Destination

REFUSED_AT: Mapping[str, audit.Event] = {
    TOKEN: "exchange_refused",
    REVOCATION: "revocation_refused",
    REGISTRATION: "registration_refused",
    AUTHORIZATION: "authorization_refused",
}
PAGES = frozenset({AUTHORIZATION, CONSENT, SIGNIN})
ACCESS_DENIED = "access_denied"
"""RFC 6749, section 4.1.2.1."""


class AuditedRequests:
    """Wraps an application; what only the rooms inside know of a request they tell `audit` themselves.

    A failure of the server (5xx) is no event: nothing was decided.
    """

    def __init__(self, app: ASGIApp, *, provider: OAuthProvider | None) -> None:
        """`provider` is None where nothing is issued here: then these paths are nobody's, or the payload's."""
        self._app = app
        self._refused_at = {**REFUSED_AT}
        if isinstance(provider, OAuthProxy):
            self._refused_at[provider._redirect_path.rstrip("/")] = "authorization_refused"
        self._watched = frozenset() if provider is None else PAGES | self._refused_at.keys()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with audit.of_request(address_of(scope)):
            path = path_of(scope)
            if path in self._watched:
                send = _Watched(scope, self._refused_at.get(path), send).send
            await self._app(scope, receive, send)


class _Watched:
    """An answer on its way; those of clients come in one piece."""

    def __init__(self, scope: Scope, refused_as: audit.Event | None, send: Send) -> None:
        """`refused_as` is what a refusal is called, None where there is none."""
        self._path = path_of(scope)
        self._query = parse_qs(scope["query_string"].decode("latin-1"))
        self._refused_as = refused_as
        self._send = send
        self._status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            if 300 <= self._status < 400:
                self._sent_on(Headers(raw=list(message.get("headers", []))).get("location", ""))
        elif self._path == REGISTRATION and self._status == 201:
            _registered(json.loads(message["body"]))
        elif self._refused_as is not None and 400 <= self._status < 500:
            self._refused(self._refused_as, _error_in(message.get("body", b"")))
        await self._send(message)

    def _sent_on(self, location: str) -> None:
        """Tell of a redirect: back to the client, with a code or an error, or on to where the person signs in."""
        host = Destination(location).host
        # The address of a client may have parameters of these names, too: those of the answer come after them.
        told = [given for given in parse_qsl(urlsplit(location).query) if given[0] in {"code", "error"}]
        match told[-1:]:
            case [("code", _)]:
                audit.record("signed_in", host=host)
            case [("error", error)] if error == ACCESS_DENIED:
                audit.record("denied", host=host)
            case [("error", error)]:
                audit.record("authorization_refused", reason=error, host=host)
            case _ if self._path == AUTHORIZATION:
                audit.record("authorization_asked")

    def _refused(self, event: audit.Event, error: str | None) -> None:
        if error == UNAUTHENTICATED:
            event = "client_refused"
        elif error == ACCESS_DENIED:
            # By us: what the identity provider says is in the query of the person who comes back.
            event, error = "denied", "not_allowed"
        audit.record(event, reason=error or self._query.get("error", ["invalid_request"])[0])


def _registered(client: Mapping[str, Any]) -> None:
    hosts = {Destination(uri).host for uri in client.get("redirect_uris") or []}
    name = client.get("client_name")
    audit.record("registered", client_id=client["client_id"], client_name=name, host=" ".join(sorted(hosts)))


def _error_in(body: bytes) -> str | None:
    """The code of an OAuth error response (RFC 6749, section 5.2); a page for people has none."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return None
