"""Bearer tokens of machines, beside whatever login there is (RFC 6750): the hash of each is configured, nothing else.

A token is 32 random bytes. Nobody finds it by trying, so a plain SHA-256 hides it from whoever reads the hash, and a
request costs next to nothing; Argon2 is for what people choose. Nothing else than such a token is ever compared.
"""

import hashlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence

from fastmcp.server.auth.auth import AccessToken, AuthProvider, TokenVerifier
from key_value.aio.protocols import AsyncKeyValue

from mcp_holdfast.settings import Problem, TokenSettings

log = logging.getLogger(__name__)

SETTING = "HOLDFAST_TOKENS"
PREFIX = "holdfast_"
"""Tells programs that look for secrets which ones are ours; what begins with it goes to no identity provider."""

TOKEN = re.compile(r"holdfast_[0-9a-f]{64}")
REVOKED = "holdfast_revoked_tokens"


def made_up_token() -> str:
    return f"{PREFIX}{secrets.token_hex(32)}"


def hash_of(token: str) -> str:
    """The hash of a token, as it is configured."""
    return f"sha256:{hashlib.sha256(token.encode()).hexdigest()}"


class Revocations:
    """Which tokens were revoked, for all replicas: by their hashes, so that another token may get the same name.

    They are kept for good, since an entry that expired may be given more time.
    """

    def __init__(self, store: AsyncKeyValue) -> None:
        self._store = store

    async def add(self, name: str, entry: TokenSettings) -> None:
        record = {"name": name, "revoked_at": time.time()}
        await self._store.put(entry.token_hash.get_secret_value(), record, collection=REVOKED)

    async def has(self, entry: TokenSettings) -> bool:
        return await self._store.get(entry.token_hash.get_secret_value(), collection=REVOKED) is not None


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
            return None
        entry = self._entries[name]
        if entry.expiry is not None and entry.expiry <= time.time():
            log.info("refused a token that has expired", extra={"token_name": name})
            return None
        if await self._revocations.has(entry):
            log.info("refused a token that was revoked", extra={"token_name": name})
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
    """Have a login take these tokens for good, and never see what looks like one."""
    verify = login.verify_token

    async def verify_either(token: str) -> AccessToken | None:
        return await (tokens.verify(token) if token.startswith(PREFIX) else verify(token))

    login.verify_token = verify_either  # type: ignore[method-assign]


def token_problems(entries: Mapping[str, TokenSettings], required: Sequence[str]) -> Iterator[Problem]:
    """Which tokens would be of no use: they lack a scope that every call needs."""
    for name, entry in entries.items():
        lacking = [] if entry.scope is None else [scope for scope in required if scope not in entry.scope.split()]
        if lacking:
            what = f"entry {name!r}: scope lacks {' '.join(lacking)}, which every call needs"
            yield Problem(SETTING, what, "Add it, or leave scope out")


def token_warnings(entries: Mapping[str, TokenSettings]) -> Iterator[str]:
    for name, entry in entries.items():
        if entry.expiry is None:
            yield f"{SETTING}: the token {name} never expires: whoever finds it in years to come can use it"
        elif entry.expiry <= time.time():
            yield f"{SETTING}: the token {name} has expired and is refused; remove it, or make another one"
