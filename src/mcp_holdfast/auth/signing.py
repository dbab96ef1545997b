"""Let FastMCP's OAuthProxy take tokens and cookies for good that were signed with a previous key.

FastMCP signs its tokens with one key, and its cookies with the identity provider's client secret: changing either
would end every session, or every sign-in that is under way. Refresh tokens are also told their session.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from fastmcp.server.auth.jwt_issuer import JWTIssuer
from fastmcp.server.auth.oauth_proxy import OAuthProxy
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from mcp_holdfast.auth.origin import Origin, origin_in, session_claims, session_to_tell

ALGORITHM = "HS256"


class RotatingIssuer(JWTIssuer):
    """Signs with one key and verifies with those that came before it, too."""

    def __init__(self, issuer: JWTIssuer, previous: Sequence[bytes]) -> None:
        super().__init__(issuer.issuer, issuer.audience, issuer._signing_key)
        self._previous = [JWTIssuer(issuer.issuer, issuer.audience, key) for key in previous]
        self._keys = [OctKey.import_key(key) for key in (issuer._signing_key, *previous)]

    def issue_refresh_token(self, *arguments: Any, **named: Any) -> str:
        issued = jwt.decode(super().issue_refresh_token(*arguments, **named), self._keys[0], algorithms=[ALGORITHM])
        return jwt.encode(issued.header, issued.claims | session_claims(session_to_tell()), self._keys[0])

    def origin_of(self, refresh_token: str) -> Origin | None:
        """The session that a refresh token tells which any of the keys signed, whatever became of it since."""
        for key in self._keys:
            # Strangers choose what is parsed here.
            with suppress(Exception):
                claims = jwt.decode(refresh_token, key, algorithms=[ALGORITHM]).claims
                return origin_in(claims) if claims.get("token_use") == "refresh" else None
        return None

    def verify_token(self, token: str, expected_token_use: str = "access") -> dict[str, Any]:  # noqa: S107  # no secret
        try:
            return super().verify_token(token, expected_token_use)
        except JoseError:
            for issuer in self._previous:
                with suppress(JoseError):
                    return issuer.verify_token(token, expected_token_use)
            raise


def origin_of(provider: OAuthProxy, refresh_token: str) -> Origin | None:
    """The session that a refresh token of a provider tells; nothing where its keys were not told here."""
    issuer = provider.jwt_issuer
    return issuer.origin_of(refresh_token) if isinstance(issuer, RotatingIssuer) else None


def accept_previous_keys(provider: OAuthProxy, keys: Sequence[bytes]) -> None:
    """Let a provider verify with all of `keys` what it signs with its own; to be called before it has its routes."""
    own = provider._jwt_signing_key
    previous = [key for key in keys if key != own]
    set_mcp_path = provider.set_mcp_path

    def set_mcp_path_and_rotate(mcp_path: str | None) -> None:
        set_mcp_path(mcp_path)
        provider._jwt_issuer = RotatingIssuer(provider.jwt_issuer, previous)

    provider.set_mcp_path = set_mcp_path_and_rotate  # type: ignore[method-assign]
    _rotate_cookies(provider, own, previous)


def _rotate_cookies(provider: OAuthProxy, own: bytes, previous: Sequence[bytes]) -> None:
    key_in_use = own
    verify_with_one = provider._verify_cookie

    def verify_cookie(signed_value: str) -> str | None:
        nonlocal key_in_use
        try:
            # Nothing here waits, so no other request sees another key than its own.
            for key in (own, *previous):
                key_in_use = key
                if (payload := verify_with_one(signed_value)) is not None:
                    return payload
            return None
        finally:
            key_in_use = own

    provider._cookie_signing_key = lambda: key_in_use  # type: ignore[method-assign]
    provider._verify_cookie = verify_cookie  # type: ignore[method-assign]
