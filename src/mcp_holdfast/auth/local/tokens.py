"""Signed tokens of the built-in login: access and refresh tokens, and the request that a sign-in page carries."""

import time
from typing import Any

from joserfc import jwt
from joserfc.jwk import KeySet, OctKey

from mcp_holdfast.storage.keys import KeyRing

ALGORITHM = "HS256"
ACCESS_TOKEN = "at+jwt"  # noqa: S105  # a media type (RFC 9068, section 2.1), no secret
REFRESH_TOKEN = "rt+jwt"  # noqa: S105
AUTHORIZATION_REQUEST = "authorization-request+jwt"


class ExpiredToken(Exception):
    """The token is ours but its time is over."""


class InvalidToken(Exception):
    """The token is not ours, or not of this type."""


class TokenSigner:
    """Signs with the first key of a ring and verifies with any of them."""

    def __init__(self, ring: KeyRing) -> None:
        keys = [OctKey.import_key(key, {"use": "sig", "alg": ALGORITHM}) for key in ring.derive("local login tokens")]
        for key in keys:
            key.ensure_kid()
        self._signing_key = keys[0]
        self._keys = KeySet([*keys])

    def sign(self, token_type: str, claims: dict[str, Any]) -> str:
        """Sign claims, among them `exp`. The same claims give the same token, so that an answer can be given again."""
        header = {"alg": ALGORITHM, "typ": token_type, "kid": self._signing_key.kid}
        return jwt.encode(header, claims, self._signing_key)

    def verify(self, token_type: str, token: str) -> dict[str, Any]:
        """Return the claims of a token of this type.

        Raises:
            InvalidToken: its signature or type is not ours.
            ExpiredToken: its `exp` has passed.

        """
        claims = self.read(token_type, token)
        if claims["exp"] <= time.time():
            raise ExpiredToken
        return claims

    def read(self, token_type: str, token: str) -> dict[str, Any]:
        """Return the claims of a token of this type, expired or not.

        Raises:
            InvalidToken: its signature or type is not ours.

        """
        try:
            decoded = jwt.decode(token, self._keys, algorithms=[ALGORITHM])
        except Exception as error:  # strangers choose what is parsed here, and nothing else can go wrong
            raise InvalidToken from error
        if decoded.header.get("typ") != token_type:
            raise InvalidToken
        return decoded.claims
