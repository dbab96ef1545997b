"""POST /revoke for every provider (RFC 7009): ends the session of a token, at the identity provider too."""

import asyncio
import logging
from collections.abc import Mapping
from urllib.parse import quote

from fastmcp.server.auth.auth import OAuthProvider
from fastmcp.server.auth.oauth_proxy import OAuthProxy
from fastmcp.server.auth.providers.github import GitHubProvider
from mcp.server.auth.middleware.client_auth import AuthenticationError
from mcp.server.auth.routes import cors_middleware
from mcp.server.auth.settings import RevocationOptions
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from mcp_holdfast import audit, outage
from mcp_holdfast.asgi import REVOCATION, is_post, replay
from mcp_holdfast.auth.clients import NO_STORE, UNAUTHENTICATED, authenticator_of, challenged, error_response
from mcp_holdfast.auth.configured import ConfiguredClients
from mcp_holdfast.auth.forms import MalformedRequest, read_form
from mcp_holdfast.auth.sessions import UPSTREAM_TOKENS, Session, Sessions, Token, TokenKind, token_key
from mcp_holdfast.fastmcp_line import httpx, revoke_token
from mcp_holdfast.storage.atomic import AtomicStore, LeaseBusy

log = logging.getLogger(__name__)

UPSTREAM_ANSWERS_WITHIN = 5.0
GITHUB_TOKENS = "https://api.github.com/applications/{client_id}/token"
"""GitHub has no endpoint of RFC 7009 (https://docs.github.com/en/rest/apps/oauth-applications#delete-an-app-token)."""

KINDS: tuple[TokenKind, ...] = ("refresh_token", "access_token")


def advertise_revocation(provider: OAuthProvider) -> None:
    """Have the provider's metadata name the revocation endpoint (RFC 8414, section 2)."""
    provider.revocation_options = RevocationOptions(enabled=True)


class Revocation:
    """Wraps an application; POST /revoke of a token whose session is known is answered here."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        provider: OAuthProvider,
        clients: ConfiguredClients,
        store: AtomicStore,
        sessions: Sessions,
    ) -> None:
        self._app = app
        self._provider = provider
        self._clients = clients
        self._store = store
        self._sessions = sessions
        self._authenticator = authenticator_of(provider)
        self._endpoint = cors_middleware(self._handle, ["POST", "OPTIONS"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._endpoint if is_post(scope, REVOCATION) else self._app)(scope, receive, send)

    async def _handle(self, http: Request) -> Response:
        return challenged(await self._answer(http), http)

    async def _answer(self, http: Request) -> Response:
        try:
            form = await read_form(http)
            audit.know("client_id", form.parameters.get("client_id"))
            form = await self._clients.authenticated(http, form)
            token = form.required("token")
        except MalformedRequest as error:
            return error_response(error.error, str(error))
        request = Request(http.scope, replay(form.body, http.receive))
        try:
            client = await self._authenticator.authenticate_request(request)
        except AuthenticationError as error:
            return error_response(UNAUTHENTICATED, error.message)
        for kind in KINDS:
            known = await self._known(kind, token)
            if known is not None and known.client_id == client.client_id:
                await self._end(known.session)
        # The same answer for a token that is unknown or somebody else's (RFC 7009, section 2.2).
        return Response(status_code=200, headers=NO_STORE)

    async def _known(self, kind: TokenKind, token: str) -> Token | None:
        if kind == "refresh_token":
            return await self._sessions.refresh_token(token)
        return await self._sessions.token(token_key(kind, token))

    async def _end(self, identifier: str) -> None:
        upstream_tokens: list[Mapping[str, object]] = []

        async def remember_upstream_tokens(session: Session) -> None:
            keys = [key for collection, key in session.places if collection == UPSTREAM_TOKENS]
            found = [await self._store.get(key, collection=UPSTREAM_TOKENS) for key in keys]
            upstream_tokens.extend(record for record in found if record is not None)

        try:
            # First here, so that the session is over even if the identity provider cannot be told.
            await self._sessions.revoke(identifier, "revoked_by_client", before=remember_upstream_tokens)
        except LeaseBusy:
            outage.note("the session is still being refreshed")
            raise
        if isinstance(self._provider, OAuthProxy):
            for tokens in upstream_tokens:
                await revoke_upstream(self._provider, tokens)


async def revoke_upstream(provider: OAuthProxy, tokens: Mapping[str, object]) -> None:
    """Tell the identity provider, where it can be told; a failure is logged, the session is over here."""
    revoke = _delete_at_github if isinstance(provider, GitHubProvider) else _revoke_at_endpoint
    try:
        async with asyncio.timeout(UPSTREAM_ANSWERS_WITHIN):
            await revoke(provider, tokens)
    except Exception as error:  # noqa: BLE001  # whatever the identity provider does
        log.warning("the identity provider did not revoke a token", extra={"error": type(error).__name__})


async def _revoke_at_endpoint(provider: OAuthProxy, tokens: Mapping[str, object]) -> None:
    endpoint = provider._upstream_revocation_endpoint
    hint = "refresh_token" if tokens.get("refresh_token") else "access_token"
    if not endpoint or not tokens.get(hint):
        return
    async with provider._upstream_oauth_client() as client:
        await revoke_token(client, endpoint, tokens[hint], hint)


async def _delete_at_github(provider: OAuthProxy, tokens: Mapping[str, object]) -> None:
    """Delete this one token; those of the person's other sessions stay good."""
    client_id, secret = provider._upstream_client_id, provider._upstream_client_secret
    credentials = (client_id, secret.get_secret_value() if secret else "")
    async with httpx.AsyncClient(auth=credentials) as client:
        url = GITHUB_TOKENS.format(client_id=quote(client_id, safe=""))
        response = await client.request("DELETE", url, json={"access_token": tokens.get("access_token")})
        response.raise_for_status()
