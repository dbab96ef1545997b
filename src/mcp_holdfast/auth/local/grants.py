"""What the built-in login stores: clients that registered and the grants that the owner gave them.

One record holds a whole grant, and its tokens are computed from that record. So every step is one atomic write: a
kill leaves either the state before it or the state after it, and after it the same answer can be given again.
"""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from key_value.aio.adapters.pydantic import PydanticAdapter
from key_value.aio.protocols import AsyncKeyValue
from mcp.shared.auth import InvalidRedirectUriError, OAuthClientInformationFull
from pydantic import AnyUrl, BaseModel, PrivateAttr

from mcp_holdfast.auth.clients import NativeClient
from mcp_holdfast.auth.registrations import DEFAULT_ALLOW_LIST, RedirectAllowList

SCOPE = "mcp"
"""The one scope of the built-in login: to use this MCP server."""


class LocalClient(NativeClient):
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
        found = super().validate_redirect_uri(redirect_uri)
        if not self._allow_list.allows(found):
            raise InvalidRedirectUriError(self._allow_list.refusal(found))
        return found


class Grant(BaseModel):
    """What the owner allowed one client. Times are in seconds since the epoch.

    `issuer` is the public URL that the client asked at last; `generation` counts the token pairs issued: 0 while the
    code waits to be redeemed. `session` is the one that the last pair was issued for.
    """

    client_id: str
    subject: str
    scopes: list[str]
    redirect_uri: str
    redirect_uri_provided_explicitly: bool
    code_challenge: str
    approved_at: int
    code_expires_at: int
    issuer: str | None = None
    generation: int = 0
    issued_at: int = 0
    session: str | None = None


@dataclass(frozen=True)
class Issuer:
    """One of the public URLs under which a store is served; `all_urls` are these, the first being the default one."""

    url: str
    all_urls: Sequence[str] = ()

    def issued(self, issuer: str | None) -> bool:
        """Whether what `issuer` issued is good here.

        Each of several URLs is an issuer of its own (RFC 8414, section 3.3, and RFC 8707, section 2). What was issued
        under a URL that is served no more is the first one's: a server may move, as with its volume, and keeps its
        sessions. What names no issuer is of an earlier release, and good at each until it is refreshed.
        """
        if issuer is None or not self.all_urls:
            return True
        return (issuer if issuer in self.all_urls else self.all_urls[0]) == self.url


class Grants:
    """Clients, and grants of one issuer, in a store that other issuers may use too."""

    def __init__(
        self, store: AsyncKeyValue, *, issuer: Issuer, allow_list: RedirectAllowList = DEFAULT_ALLOW_LIST
    ) -> None:
        self._issuer = issuer
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
        grant = await self._grants.get(identifier)
        return grant if grant is not None and self._issuer.issued(grant.issuer) else None

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
    issuer = {"iss": grant.issuer} if grant.issuer else {}
    return {
        **issuer,
        "sub": grant.subject,
        "client_id": grant.client_id,
        "scope": " ".join(grant.scopes),
        "grant": identifier,
        "generation": grant.generation,
        "iat": grant.issued_at,
        "exp": grant.issued_at + lifetime,
    }
