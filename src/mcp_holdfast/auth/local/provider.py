"""The built-in login: an OAuth 2.1 authorization server for one household or team without an identity provider."""

import logging
import os
import re
import secrets
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

from mcp_holdfast.auth.local.grants import SCOPE, Grant, Grants, LocalClient, claims_of, grant_id
from mcp_holdfast.auth.local.pin import PinCheck
from mcp_holdfast.auth.local.registration import check_registration
from mcp_holdfast.auth.local.signin import AuthorizationRequest, SigninPage
from mcp_holdfast.auth.local.tokens import ACCESS_TOKEN, REFRESH_TOKEN, ExpiredToken, InvalidToken, TokenSigner
from mcp_holdfast.auth.local.workers import WorkersLock

log = logging.getLogger(__name__)

SUBJECT = "owner"
S256_CHALLENGE = r"[A-Za-z0-9_-]{43}"


@dataclass(frozen=True)
class Lifetimes:
    """How long things of the built-in login live, in seconds."""

    signin_page: int
    code: int
    access_token: int
    refresh_token: int
    refresh_grace: int


class LocalLogin(OAuthProvider):
    """Registration, consent with a PIN, codes with PKCE, rotating refresh tokens and revocation; all state is stored.

    A refresh token that was rotated is answered alike for the grace time, since the first answer may have been lost
    (RFC 9700, section 4.14.2); later it is a replay and ends the grant. A code is answered once. Where the server was
    restarted since it answered, the answer may have died with it: then both are answered alike for the grace time
    from the restart on.
    """

    def __init__(
        self,
        *,
        base_url: str,
        server_name: str,
        store: AsyncKeyValue,
        signer: TokenSigner,
        pin: PinCheck,
        lifetimes: Lifetimes,
    ) -> None:
        super().__init__(
            base_url=base_url,
            client_registration_options=ClientRegistrationOptions(enabled=True, default_scopes=[SCOPE]),
            revocation_options=RevocationOptions(enabled=True),
            required_scopes=[SCOPE],
        )
        self._grants = Grants(store)
        self._signer = signer
        self._lifetimes = lifetimes
        self._one_exchange_at_a_time = WorkersLock()
        self._begin_run()
        os.register_at_fork(after_in_child=self._begin_run)
        self._signin = SigninPage(
            base_url=base_url, server_name=server_name, signer=signer, pin=pin, open_grant=self._open_grant
        )

    def _begin_run(self) -> None:
        """Give each worker process a run of its own: what it answers may die with it alone."""
        self._run = secrets.token_hex(8)
        self._run_started_at = int(time.time())

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
        identifier = grant_id(authorization_code.code)
        async with self._one_exchange_at_a_time:
            grant = await self._grants.get(identifier)
            if grant is None:
                raise TokenError("invalid_grant", "the authorization code was revoked")
            if grant.generation == 0:
                return await self._issue(identifier, grant)
            if grant.generation == 1 and self._answer_may_have_died(grant):
                return self._answer(identifier, grant)
            await self._revoke(identifier, "an authorization code was used twice")
            raise TokenError("invalid_grant", "the authorization code was used before; sign in again")

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
        identifier, generation = claims["grant"], claims["generation"]
        async with self._one_exchange_at_a_time:
            grant = await self._grants.get(identifier)
            if grant is None:
                raise TokenError("invalid_grant", "the session was revoked; sign in again")
            if generation == grant.generation:
                return await self._issue(identifier, grant)
            if generation == grant.generation - 1 and self._within_grace(grant):
                return self._answer(identifier, grant)
            await self._revoke(identifier, "a refresh token was used again after its grace time")
            raise TokenError("invalid_grant", "the refresh token was used before; sign in again")

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
            # A refresh under way would otherwise write the grant back.
            async with self._one_exchange_at_a_time:
                await self._revoke(claims["grant"], "its client asked for it")

    async def _issue(self, identifier: str, grant: Grant) -> OAuthToken:
        # One write moves the grant to its next generation; a kill before it leaves the old code or token good.
        issued = grant.model_copy(
            update={"generation": grant.generation + 1, "issued_at": int(time.time()), "issued_by": self._run}
        )
        await self._grants.save(identifier, issued, lifetime=self._lifetimes.refresh_token)
        return self._answer(identifier, issued)

    def _answer(self, identifier: str, grant: Grant) -> OAuthToken:
        access = claims_of(identifier, grant, lifetime=self._lifetimes.access_token)
        refresh = claims_of(identifier, grant, lifetime=self._lifetimes.refresh_token)
        return OAuthToken(
            access_token=self._signer.sign(ACCESS_TOKEN, access),
            token_type="Bearer",  # noqa: S106  # a token type (RFC 6750), no secret
            expires_in=max(0, access["exp"] - int(time.time())),
            scope=" ".join(grant.scopes),
            refresh_token=self._signer.sign(REFRESH_TOKEN, refresh),
        )

    def _answer_may_have_died(self, grant: Grant) -> bool:
        restarted = grant.issued_by != self._run
        return restarted and time.time() <= self._run_started_at + self._lifetimes.refresh_grace

    def _within_grace(self, grant: Grant) -> bool:
        return time.time() <= grant.issued_at + self._lifetimes.refresh_grace or self._answer_may_have_died(grant)

    async def _revoke(self, identifier: str, reason: str) -> None:
        await self._grants.revoke(identifier)
        log.warning("ended a session", extra={"reason": reason, "grant": identifier[:8]})
