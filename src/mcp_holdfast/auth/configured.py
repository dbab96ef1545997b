"""Clients that the operator configured: they are known to every replica, and nothing is stored of them.

FastMCP compares secrets as they are, and of ours only hashes are known. So a right secret is replaced by a stand-in of
this process before FastMCP sees the request, and a client that FastMCP asks for has that stand-in as its secret.
"""

import asyncio
import hashlib
import hmac
import json
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Final, cast

from fastmcp.server.auth.auth import AccessToken, OAuthProvider
from fastmcp.server.auth.oauth_proxy import OAuthProxy
from joserfc import jws
from joserfc.errors import JoseError
from mcp.server.auth.provider import RefreshToken
from mcp.shared.auth import InvalidRedirectUriError, InvalidScopeError, OAuthClientInformationFull
from pydantic import AnyUrl, ValidationError
from starlette.requests import Request

from mcp_holdfast import outage
from mcp_holdfast.auth.argon2 import matches
from mcp_holdfast.auth.clients import UNAUTHENTICATED, NativeClient
from mcp_holdfast.auth.forms import Form, MalformedRequest, basic_credentials
from mcp_holdfast.auth.scopes import GetClient, advertised_scopes
from mcp_holdfast.settings import ClientSettings, Problem

SETTING = "HOLDFAST_CLIENTS"
BASIC: Final = "client_secret_basic"
POST: Final = "client_secret_post"
PUBLIC: Final = "none"
MOST_REMEMBERED = 10_000
MOST_WAITING = 20
"""Tries of one client's secret, at some 30 ms each: who comes later is told to come again."""


LoadRefreshToken = Callable[[OAuthClientInformationFull, str], Awaitable[RefreshToken | None]]
LoadAccessToken = Callable[[str], Awaitable[AccessToken | None]]


class ConfiguredClient(NativeClient):
    """A configured client as FastMCP knows clients; without scopes of its own it may ask for any that are advertised.

    The allow-list for redirect URIs is for strangers: here the operator named each one.
    """

    own_scopes: tuple[str, ...] | None = None

    def validate_scope(self, requested_scope: str | None) -> list[str] | None:
        if requested_scope is None:
            return None if self.own_scopes is None else [*self.own_scopes]
        requested = requested_scope.split()
        if self.scope is not None and (refused := set(requested) - set(self.scope.split())):
            raise InvalidScopeError(f"the client may not have the scope {min(refused)}")
        return requested


class ConfiguredClients:
    """What is configured, by client_id, and whether a request that names one of them may be believed."""

    def __init__(self, entries: Mapping[str, ClientSettings]) -> None:
        self._entries = entries
        self._stand_in = secrets.token_urlsafe(32)
        self._memory_key = secrets.token_bytes(32)
        self._right: set[tuple[str, bytes]] = set()
        self._turns = {client_id: asyncio.Semaphore() for client_id in entries}
        self._waiting = Counter[str]()

    def get(self, client_id: str, scopes: Sequence[str] | None) -> ConfiguredClient | None:
        """Find a client; `scopes` are those that the server advertises, None for any."""
        entry = self._entries.get(client_id)
        if entry is None:
            return None
        own_scopes = self.own_scopes(client_id)
        may_have = scopes if own_scopes is None else own_scopes
        is_public = entry.client_secret_hash is None
        return ConfiguredClient(
            client_id=client_id,
            client_name=entry.client_name or client_id,
            client_secret=None if is_public else self._stand_in,
            token_endpoint_auth_method=PUBLIC if is_public else POST,
            redirect_uris=list(entry.redirect_uris),
            scope=None if may_have is None else " ".join(may_have),
            own_scopes=own_scopes,
        )

    def own_scopes(self, client_id: str) -> tuple[str, ...] | None:
        """The scopes that a client is limited to; None where it is not, or is not configured."""
        entry = self._entries.get(client_id)
        return None if entry is None or entry.scope is None else tuple(entry.scope.split())

    def receive_codes_at(self, uri: str) -> bool:
        """Whether this is a redirect URI of one of them."""
        return any(_means(client, uri) for client_id in self._entries if (client := self.get(client_id, None)))

    async def authenticated(self, http: Request, form: Form) -> Form:
        """The form with the stand-in for the secret, if that is right; unchanged for all other clients.

        Raises:
            MalformedRequest: invalid_client, the secret is missing, wrong or sent in a way that is not configured.

        """
        client_id = form.required("client_id")
        entry = self._entries.get(client_id)
        if entry is None or entry.client_secret_hash is None:
            return form
        method, secret = _given_secret(http, form, client_id)
        if entry.token_endpoint_auth_method not in {None, method}:
            raise MalformedRequest(
                f"the client authenticates by {entry.token_endpoint_auth_method}", error=UNAUTHENTICATED
            )
        if not await self._is_right(client_id, secret, entry.client_secret_hash.get_secret_value()):
            raise MalformedRequest("the client secret is wrong", error=UNAUTHENTICATED)
        return form.with_parameter("client_secret", self._stand_in)

    async def _is_right(self, client_id: str, secret: str, encoded: str) -> bool:
        """Compare with the hash, for each client one at a time; one that was right is remembered and need not wait.

        Raises:
            MalformedRequest: too many tries wait already, and outage.note() was called.

        """
        known = client_id, hmac.digest(self._memory_key, secret.encode(), hashlib.sha256)
        if known in self._right:
            return True
        if self._waiting[client_id] >= MOST_WAITING:
            outage.note(f"too many try secrets of the client {client_id}")
            raise MalformedRequest("too many try secrets of this client", error=UNAUTHENTICATED)
        self._waiting[client_id] += 1
        try:
            async with self._turns[client_id]:
                is_right = await asyncio.to_thread(matches, secret, encoded)
        finally:
            self._waiting[client_id] -= 1
        if is_right:
            self._right.add(known)
        return is_right


def _means(client: ConfiguredClient, uri: str) -> bool:
    try:
        return bool(client.validate_redirect_uri(AnyUrl(uri)))
    except (InvalidRedirectUriError, ValidationError):
        return False


def _given_secret(http: Request, form: Form, client_id: str) -> tuple[str, str]:
    """How a client sent its secret, and the secret.

    Raises:
        MalformedRequest: it did not, or in two ways, or as another client (RFC 6749, section 2.3).

    """
    in_header, in_body = basic_credentials(http), form.parameters.get("client_secret")
    if in_header is None and in_body is None:
        raise MalformedRequest("the client secret is missing", error=UNAUTHENTICATED)
    if in_header is None:
        return POST, str(in_body)
    if in_body is not None:
        raise MalformedRequest("the client authenticates in two ways", error="invalid_request")
    if in_header[0] != client_id:
        raise MalformedRequest("client_id and the Authorization header name two clients", error=UNAUTHENTICATED)
    return BASIC, in_header[1]


def know_configured_clients(provider: OAuthProvider, clients: ConfiguredClients) -> None:
    """Have a provider know these clients before those that registered, and no client that is neither any more.

    The tokens of a client that was removed from the configuration are worth nothing: its refresh tokens since it cannot
    authenticate, its access tokens since they are refused here. What is granted by a refresh is what it may have now.
    """
    get_client = cast("GetClient", provider.get_client)
    load_refresh_token = cast("LoadRefreshToken", provider.load_refresh_token)
    load_access_token = cast("LoadAccessToken", provider.load_access_token)
    # Clients that are used are kept for good, so who was found once need not be looked for again.
    found: set[str] = set()

    async def any_client(client_id: str) -> OAuthClientInformationFull | None:
        return clients.get(client_id, advertised_scopes(provider)) or await get_client(client_id)

    async def narrowed_refresh_token(client: OAuthClientInformationFull, token: str) -> RefreshToken | None:
        loaded, own = await load_refresh_token(client, token), clients.own_scopes(client.client_id or "")
        if loaded is None or own is None:
            return loaded
        scopes = [scope for scope in loaded.scopes if scope in own]
        return loaded.model_copy(update={"scopes": scopes}) if scopes else None

    async def access_token_of_a_client(token: str) -> AccessToken | None:
        loaded = await load_access_token(token)
        return loaded if loaded is not None and await is_client(_client_of(token) or loaded.client_id) else None

    async def is_client(client_id: str) -> bool:
        if client_id in found or "://" in client_id:
            return True
        if await any_client(client_id) is None:
            return False
        if len(found) >= MOST_REMEMBERED:
            found.clear()
        found.add(client_id)
        return True

    provider.get_client = any_client  # type: ignore[method-assign]
    provider.load_refresh_token = narrowed_refresh_token  # type: ignore[method-assign, assignment]
    provider.load_access_token = access_token_of_a_client  # type: ignore[method-assign]


def send_codes_to_configured_uris(provider: OAuthProxy, clients: ConfiguredClients) -> None:
    """Let a proxy answer where these clients wait: it looks at its allow-list again in each step of a sign-in."""
    is_allowed = provider._validate_client_redirect_uri

    def is_allowed_or_configured(redirect_uri: str) -> bool:
        return is_allowed(redirect_uri) or clients.receive_codes_at(redirect_uri)

    provider._validate_client_redirect_uri = is_allowed_or_configured  # type: ignore[method-assign]


def _client_of(token: str) -> str | None:
    """The client that a token of ours names, which was found good; None where it is no JWT."""
    try:
        claims = json.loads(jws.extract_compact(token.encode()).payload)
    except (JoseError, ValueError):
        return None
    return claims.get("client_id") if isinstance(claims, dict) else None


def scope_problems(
    entries: Mapping[str, ClientSettings], advertised: Sequence[str] | None, required: Sequence[str]
) -> Iterator[Problem]:
    """What configured clients could never have, and what every call needs and they would not have."""
    for client_id, entry in entries.items():
        if entry.scope is None or advertised is None:
            continue
        own = entry.scope.split()
        unknown = [scope for scope in own if scope not in advertised]
        needed = [scope for scope in required if scope in advertised and scope not in own]
        if unknown:
            what = f"entry {client_id!r}: scope names {' '.join(unknown)}, which this login does not have"
            yield Problem(SETTING, what, f"Choose from {' '.join(advertised)}, or leave scope out")
        if needed:
            what = f"entry {client_id!r}: scope lacks {' '.join(needed)}, which every call needs"
            yield Problem(SETTING, what, "Add it, or leave scope out")
