"""Let machines in by bearer tokens, beside whatever login there is (RFC 6750).

The hash of each is configured, nothing else, and nothing else than such a token is ever compared.
"""

import hmac
import time
from collections.abc import Mapping, Sequence

from fastmcp.server.auth.auth import AccessToken, AuthProvider, TokenVerifier

from mcp_holdfast import audit
from mcp_holdfast.auth.machine_tokens import PREFIX, TOKEN, Revocations, hash_of
from mcp_holdfast.settings import TokenSettings


class StaticTokens:
    """What is configured, by name. Who has no `scope` has `scopes`, those that every call needs."""

    def __init__(self, entries: Mapping[str, TokenSettings], revocations: Revocations, scopes: Sequence[str]) -> None:
        self._entries = entries
        self._revocations = revocations
        self._scopes = scopes

    async def verify(self, token: str) -> AccessToken | None:
        """Tell what payloads learn of who presents this token; None where it is unknown, expired or revoked.

        Raises:
            StoreUnavailable: whether it was revoked cannot be told now.

        """
        name = self._name_of(token)
        if name is None:
            audit.record("token_refused", reason="unknown")
            return None
        entry = self._entries[name]
        if entry.expiry is not None and entry.expiry <= time.time():
            audit.record("token_refused", reason="expired", subject=name)
            return None
        if await self._revocations.has(entry):
            audit.record("token_refused", reason="revoked", subject=name)
            return None
        return AccessToken(
            # Not the token itself: payloads hand on what they find here, as to a database.
            token=f"{PREFIX}{name}",
            client_id=name,
            subject=name,
            scopes=[*self._scopes] if entry.scope is None else entry.scope.split(),
            expires_at=None if entry.expiry is None else int(entry.expiry),
            claims={"sub": name, **entry.claims},
        )

    def _name_of(self, token: str) -> str | None:
        if not TOKEN.fullmatch(token):
            return None
        presented = hash_of(token)
        matching = [
            name
            for name, entry in self._entries.items()
            if hmac.compare_digest(entry.token_hash.get_secret_value(), presented)
        ]
        return matching[0] if matching else None


class NoLogin(TokenVerifier):
    """Lets nobody in by itself, for servers that only machines use."""

    async def verify_token(self, token: str) -> AccessToken | None:
        return None


def accept_static_tokens(login: AuthProvider, tokens: StaticTokens) -> None:
    """Have a login take these tokens for good, and never see what has one in it.

    A machine may send its own with a space or a quotation mark too many: that is no good token, and still a secret.
    """
    verify = login.verify_token

    async def verify_either(token: str) -> AccessToken | None:
        return await (tokens.verify(token) if PREFIX in token.lower() else verify(token))

    login.verify_token = verify_either  # type: ignore[method-assign]
