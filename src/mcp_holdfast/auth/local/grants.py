"""What the built-in login stores: clients that registered and the grants that the owner gave them.

One record holds a whole grant, and its tokens are computed from that record. So every step is one atomic write: a
kill leaves either the state before it or the state after it, and after it the same answer can be given again.
"""

import hashlib
import secrets
from typing import Any

from key_value.aio.adapters.pydantic import PydanticAdapter
from key_value.aio.protocols import AsyncKeyValue
from mcp.shared.auth import InvalidRedirectUriError, OAuthClientInformationFull
from pydantic import AnyUrl, BaseModel, PrivateAttr

from mcp_holdfast.auth.registrations import DEFAULT_ALLOW_LIST, RedirectAllowList
from mcp_holdfast.settings import is_loopback

SCOPE = "mcp"
"""The one scope of the built-in login: to use this MCP server."""


class LocalClient(OAuthClientInformationFull):
    """A registered client, as lenient as real clients need."""

    _allow_list: RedirectAllowList = PrivateAttr(default=DEFAULT_ALLOW_LIST)

    def limited_to(self, allow_list: RedirectAllowList) -> "LocalClient":
        """Send codes to nowhere else, whatever could be registered in earlier times."""
        self._allow_list = allow_list
        return self

    def validate_scope(self, requested_scope: str | None) -> list[str]:
        """Grant our one scope whatever is asked for; the token response says so (RFC 6749, section 3.3)."""
        return [SCOPE]

    def validate_redirect_uri(self, redirect_uri: AnyUrl | None) -> AnyUrl:
        """Accept a registered URI that is allowed now."""
        found = self._registered(redirect_uri)
        if not self._allow_list.allows(found):
            raise InvalidRedirectUriError(self._allow_list.refusal(found))
        return found

    def _registered(self, redirect_uri: AnyUrl | None) -> AnyUrl:
        """Find a registered URI; a loopback one on any port, which native clients choose anew (RFC 8252, 7.3)."""
        try:
            return super().validate_redirect_uri(redirect_uri)
        except InvalidRedirectUriError:
            if redirect_uri is not None and any(_same_loopback(redirect_uri, uri) for uri in self.redirect_uris or []):
                return redirect_uri
            raise


def _same_loopback(one: AnyUrl, other: AnyUrl) -> bool:
    def but_port(uri: AnyUrl) -> tuple[str | None, ...]:
        return uri.scheme, uri.username, uri.password, uri.host, uri.path, uri.query, uri.fragment

    host = (one.host or "").strip("[]")
    return one.scheme == "http" and is_loopback(host) and but_port(one) == but_port(other)


class Grant(BaseModel):
    """What the owner allowed one client. Times are in seconds since the epoch.

    `generation` counts the token pairs issued: 0 while the code waits to be redeemed.
    """

    client_id: str
    subject: str
    scopes: list[str]
    redirect_uri: str
    redirect_uri_provided_explicitly: bool
    code_challenge: str
    approved_at: int
    code_expires_at: int
    generation: int = 0
    issued_at: int = 0


class Grants:
    """Clients and grants in a store."""

    def __init__(self, store: AsyncKeyValue, *, allow_list: RedirectAllowList = DEFAULT_ALLOW_LIST) -> None:
        self._allow_list = allow_list
        self._clients: PydanticAdapter[LocalClient] = PydanticAdapter(
            key_value=store,
            pydantic_model=LocalClient,
            default_collection="holdfast_clients",
            raise_on_validation_error=False,
        )
        self._grants: PydanticAdapter[Grant] = PydanticAdapter(
            key_value=store,
            pydantic_model=Grant,
            default_collection="holdfast_grants",
            raise_on_validation_error=False,
        )

    async def client(self, client_id: str) -> LocalClient | None:
        client = await self._clients.get(client_id)
        return None if client is None else client.limited_to(self._allow_list)

    async def register(self, client: OAuthClientInformationFull) -> None:
        await self._clients.put(str(client.client_id), LocalClient.model_validate(client.model_dump()))

    async def open(self, grant: Grant, *, lifetime: int) -> str:
        """Store a new grant for `lifetime` seconds and return its authorization code."""
        code = secrets.token_urlsafe(32)
        await self.save(grant_id(code), grant, lifetime=lifetime)
        return code

    async def get(self, identifier: str) -> Grant | None:
        return await self._grants.get(identifier)

    async def save(self, identifier: str, grant: Grant, *, lifetime: int) -> None:
        await self._grants.put(identifier, grant, ttl=lifetime)

    async def revoke(self, identifier: str) -> None:
        """End a grant: its code, access tokens and refresh tokens are worth nothing from now on."""
        await self._grants.delete(identifier)


def grant_id(code: str) -> str:
    """The identifier of the grant that a code opened. Tokens carry it, so it must not tell the code."""
    return hashlib.sha256(code.encode()).hexdigest()


def claims_of(identifier: str, grant: Grant, *, lifetime: int) -> dict[str, Any]:
    """The claims that access and refresh token of the grant's present generation share (RFC 9068, section 2.2)."""
    return {
        "sub": grant.subject,
        "client_id": grant.client_id,
        "scope": " ".join(grant.scopes),
        "grant": identifier,
        "generation": grant.generation,
        "iat": grant.issued_at,
        "exp": grant.issued_at + lifetime,
    }
