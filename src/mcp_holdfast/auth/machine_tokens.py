"""How the bearer tokens of machines are made, told apart and revoked; auth/static_tokens.py lets in who has one.

A token is 32 random bytes. Nobody finds it by trying, so a plain SHA-256 hides it from whoever reads the hash, and a
request costs next to nothing; Argon2 is for what people choose.
"""

import hashlib
import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence

from key_value.aio.protocols import AsyncKeyValue

from mcp_holdfast.settings import Problem, TokenSettings

SETTING = "HOLDFAST_TOKENS"
PREFIX = "holdfast_"
"""Tells programs that look for secrets which ones are ours; what has it in it goes to no identity provider."""

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
