"""The built-in login: an OAuth 2.1 authorization server for one household or team without an identity provider."""

import re
import time
from dataclasses import dataclass
from typing import Any

from fastmcp.server.auth.auth import AccessToken, OAuthProvider
from key_value.aio.protocols import AsyncKeyValue
from mcp.server.auth.provider import (
    AuthorizationCode,
    AuthorizationParams,
    AuthorizeError,
    RefreshToken,
    TokenError,
)
from mcp.server.auth.settings import ClientRegistrationOptions, RevocationOptions
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken
from starlette.routing import Route

from mcp_holdfast.auth.local.grants import SCOPE, Grant, Grants, Issuer, LocalClient, claims_of, grant_id
from mcp_holdfast.auth.local.pin import PinCheck
from mcp_holdfast.auth.local.registration import check_registration
from mcp_holdfast.auth.local.signin import AuthorizationRequest, SigninPage
from mcp_holdfast.auth.local.tokens import ACCESS_TOKEN, REFRESH_TOKEN, ExpiredToken, InvalidToken, TokenSigner
from mcp_holdfast.auth.origin import Origin, origin_in, session_claims, session_to_tell
from mcp_holdfast.auth.registrations import RedirectAllowList

SUBJECT = "owner"
UNANSWERED_FOR = 7 * 86400
"""Seconds for which an exchange that was cut short can be repeated; the exchange remembers spent tokens for longer."""

S256_CHALLENGE = r"[A-Za-z0-9_-]{43}"


@dataclass(frozen=True)
class Lifetimes:
    """How long things of the built-in login live, in seconds."""

    signin_page: int
    code: int
    access_token: int
    refresh_token: int


class LocalLogin(OAuthProvider):
    """Registration, consent with a PIN, codes with PKCE, rotating refresh tokens and revocation; all state is stored.

    Each step writes one record, the grant. A code or refresh token whose exchange was cut short after that write gives
    the same tokens again; that one which was answered does not come here a second time is the exchange's part.
    """

    def __init__(
        self,
        *,
        issuer: Issuer,
        server_name: str,
        store: AsyncKeyValue,
        signer: TokenSigner,
        pin: PinCheck,
        lifetimes: Lifetimes,
        allow_list: RedirectAllowList,
    ) -> None:
        super().__init__(
            base_url=issuer.url,
            client_registration_options=ClientRegistrationOptions(enabled=True, default_scopes=[SCOPE]),
            revocation_options=RevocationOptions(enabled=True),
            required_scopes=[SCOPE],
        )
        self._grants = Grants(store, issuer=issuer, allow_list=allow_list)
        self._issuer = issuer
        self._signer = signer
        self._lifetimes = lifetimes
        self._signin = SigninPage(
            issuer=issuer, server_name=server_name, signer=signer, pin=pin, open_grant=self._open_grant
        )

    def get_routes(self, mcp_path: str | None = None) -> list[Route]:
        page = Route("/signin", self._signin.handle, methods=["GET", "POST"])
        return [*super().get_routes(mcp_path), page]

    async def get_client(self, client_id: str) -> LocalClient | None:
        return await self._grants.client(client_id)

    async def register_client(self, client_info: OAuthClientInformationFull) -> None:
        check_registration(client_info)
        client_info.scope = SCOPE
        await self._grants.register(client_info)

    async def authorize(self, client: OAuthClientInformationFull, params: AuthorizationParams) -> str:
        if not re.fullmatch(S256_CHALLENGE, params.code_challenge):
            raise AuthorizeError("invalid_request", "code_challenge is not a SHA-256 hash (RFC 7636, section 4.2)")
        request = AuthorizationRequest(
            client_id=client.client_id or "",
            client_name=client.client_name or "",
            redirect_uri=str(params.redirect_uri),
            redirect_uri_provided_explicitly=params.redirect_uri_provided_explicitly,
            code_challenge=params.code_challenge,
            scopes=params.scopes or [SCOPE],
            state=params.state,
            issuer=self._issuer.url,
        )
        return self._signin.url(request, lifetime=self._lifetimes.signin_page)

    async def _open_grant(self, request: AuthorizationRequest) -> str:
        now = int(time.time())
        grant = Grant(
            client_id=request.client_id,
            subject=SUBJECT,
            scopes=request.scopes,
            redirect_uri=request.redirect_uri,
            redirect_uri_provided_explicitly=request.redirect_uri_provided_explicitly,
            code_challenge=request.code_challenge,
            approved_at=now,
            code_expires_at=now + self._lifetimes.code,
            issuer=self._issuer.url,
        )
        return await self._grants.open(grant, lifetime=self._lifetimes.code)

    async def load_authorization_code(
        self, client: OAuthClientInformationFull, authorization_code: str
    ) -> AuthorizationCode | None:
        grant = await self._grants.get(grant_id(authorization_code))
        if grant is None:
            return None
        return AuthorizationCode.model_validate(
            {
                **grant.model_dump(include={"client_id", "scopes", "code_challenge", "redirect_uri", "subject"}),
                "code": authorization_code,
                "expires_at": grant.code_expires_at,
                "redirect_uri_provided_explicitly": grant.redirect_uri_provided_explicitly,
            }
        )

    async def exchange_authorization_code(
        self, client: OAuthClientInformationFull, authorization_code: AuthorizationCode
    ) -> OAuthToken:
        return await self._issue(grant_id(authorization_code.code), generation=0)

    async def load_refresh_token(self, client: OAuthClientInformationFull, refresh_token: str) -> RefreshToken | None:
        claims = await self._living_claims(REFRESH_TOKEN, refresh_token)
        if claims is None:
            return None
        return RefreshToken(
            token=refresh_token,
            client_id=claims["client_id"],
            scopes=claims["scope"].split(),
            expires_at=claims["exp"],
            subject=claims["sub"],
        )

    async def exchange_refresh_token(
        self, client: OAuthClientInformationFull, refresh_token: RefreshToken, scopes: list[str]
    ) -> OAuthToken:
        claims = self._signer.verify(REFRESH_TOKEN, refresh_token.token)
        return await self._issue(claims["grant"], generation=claims["generation"])

    def origin_of(self, refresh_token: str) -> Origin | None:
        """The session that a refresh token of this login tells."""
        try:
            return origin_in(self._signer.read(REFRESH_TOKEN, refresh_token))
        except InvalidToken:
            return None

    async def load_access_token(self, token: str) -> AccessToken | None:
        claims = await self._living_claims(ACCESS_TOKEN, token)
        if claims is None:
            return None
        return AccessToken(
            token=token,
            client_id=claims["client_id"],
            scopes=claims["scope"].split(),
            expires_at=claims["exp"],
            subject=claims["sub"],
            claims=claims,
        )

    async def _living_claims(self, token_type: str, token: str) -> dict[str, Any] | None:
        """The claims of a token that we signed, that has not expired and whose grant was not revoked."""
        try:
            claims = self._signer.verify(token_type, token)
        except (InvalidToken, ExpiredToken):
            return None
        return claims if await self._grants.get(claims["grant"]) is not None else None

    async def revoke_token(self, token: AccessToken | RefreshToken) -> None:
        """End the whole grant, whichever of its tokens is given (RFC 7009, section 2.1)."""
        for token_type in (ACCESS_TOKEN, REFRESH_TOKEN):
            try:
                claims = self._signer.verify(token_type, token.token)
            except (InvalidToken, ExpiredToken):
                continue
            await self._grants.revoke(claims["grant"])

    async def _issue(self, identifier: str, *, generation: int) -> OAuthToken:
        """Issue the tokens that follow this generation of the grant; again if they were issued and nobody was told."""
        grant = await self._grants.get(identifier)
        if grant is None:
            raise TokenError("invalid_grant", "the session was revoked; sign in again")
        cut_short = generation == grant.generation - 1 and time.time() < grant.issued_at + UNANSWERED_FOR
        if generation != grant.generation and not cut_short:
            raise TokenError("invalid_grant", "this was used before; sign in again")
        if not cut_short:
            issued = {"generation": generation + 1, "issued_at": int(time.time()), "issuer": self._issuer.url}
            grant = grant.model_copy(update={**issued, "session": session_to_tell()})
            await self._grants.save(identifier, grant, lifetime=self._lifetimes.refresh_token)
        return self._answer(identifier, grant)

    def _answer(self, identifier: str, grant: Grant) -> OAuthToken:
        access = claims_of(identifier, grant, lifetime=self._lifetimes.access_token) | {"aud": str(self._resource_url)}
        refresh = claims_of(identifier, grant, lifetime=self._lifetimes.refresh_token) | session_claims(grant.session)
        return OAuthToken(
            access_token=self._signer.sign(ACCESS_TOKEN, access),
            token_type="Bearer",  # noqa: S106  # a token type (RFC 6750), no secret
            expires_in=max(0, access["exp"] - int(time.time())),
            scope=" ".join(grant.scopes),
            refresh_token=self._signer.sign(REFRESH_TOKEN, refresh),
        )
