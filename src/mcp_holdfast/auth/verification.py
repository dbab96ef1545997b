"""Verify access tokens: remembered for seconds, never cut short, one refresh at the identity provider at a time."""

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from contextvars import ContextVar
from functools import partial

from cachetools import TLRUCache
from fastmcp.server.auth.auth import AccessToken, AuthProvider
from fastmcp.server.auth.oauth_proxy import OAuthProxy
from joserfc import jws
from joserfc.errors import JoseError

from mcp_holdfast import outage
from mcp_holdfast.auth.sessions import LONGEST_WAIT, UPSTREAM_TOKENS
from mcp_holdfast.auth.shield import ANSWER_WITHIN, Shield, Unfinished
from mcp_holdfast.storage.atomic import LeaseBusy, Leases
from mcp_holdfast.storage.journal import keeping_journal

LARGEST_CACHE = 10_000

_may_refresh: ContextVar[bool] = ContextVar("may_refresh_upstream", default=True)

Verify = Callable[[str], Awaitable[AccessToken | None]]
Verified = tuple[AccessToken, float]
Answer = tuple[AccessToken | None, list[str]]


class RefreshNotWanted(Exception):
    """A token is only looked at: it is verified as it is."""


@contextmanager
def refreshing_nothing() -> Iterator[None]:
    """Verify tokens inside the block without refreshing anything at the identity provider.

    An exchange that has not been recorded may be done once more, from what its code says. What a refresh in the first
    try had rotated would then be used twice, and the identity provider would end the session.
    """
    token = _may_refresh.set(False)
    try:
        yield
    finally:
        _may_refresh.reset(token)


class VerifiedTokens:
    """Remembers what a provider said of access tokens that are good, in this process only.

    `lifetime` is in seconds, 0 to ask the provider each time; nothing is remembered past a token's own expiry. A
    token that another worker or replica revokes is refused here after `lifetime` at the latest.
    """

    def __init__(self, verify: Verify, shield: Shield, *, lifetime: float) -> None:
        self._verify = verify
        self._shield = shield
        self._lifetime = lifetime
        self._revocations = 0
        self._asking: dict[str, asyncio.Task[Answer]] = {}
        self._known: TLRUCache[str, Verified] = TLRUCache(LARGEST_CACHE, lambda _, known, __: known[1], time.time)

    async def __call__(self, token: str) -> AccessToken | None:
        key = hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()
        if (known := self._known.get(key)) is not None:
            return known[0].model_copy(deep=True)
        verified = await self._ask_shielded(key, token)
        return None if verified is None else verified.model_copy(deep=True)

    def forget(self) -> None:
        """Ask the provider again for every token: a session was revoked."""
        self._revocations += 1
        self._known.clear()
        # What is being asked may be answered from before the revocation.
        self._asking.clear()

    async def _ask_shielded(self, key: str, token: str) -> AccessToken | None:
        """Ask once for all who wait, under the shield: nothing may cut off a refresh upstream."""
        task = self._asking.get(key)
        if task is None:
            try:
                task = self._asking[key] = self._shield.start(self._ask(key, token))
            except Unfinished:
                return None
            task.add_done_callback(partial(self._answered, key))
        await asyncio.wait({task}, timeout=ANSWER_WITHIN)
        if not task.done():
            outage.note("an access token could not be verified in time")
            return None
        verified, causes = task.result()
        for cause in causes if verified is None else ():
            outage.note(cause)
        return verified

    def _answered(self, key: str, task: asyncio.Task[Answer]) -> None:
        if self._asking.get(key) is task:
            del self._asking[key]

    async def _ask(self, key: str, token: str) -> Answer:
        """What the provider says, and what it could not reach; remembered before anyone could ask again."""
        until, revocations = time.time() + self._lifetime, self._revocations
        with outage.watching() as causes, keeping_journal(hold_deletes=False):
            try:
                verified = await self._verify(token)
            except RecursionError:
                # A JWT whose JSON is nested too deeply to be read, which anyone can make up.
                return None, causes
            except Exception:
                if not causes:
                    raise
                return None, causes
        if verified is not None and revocations == self._revocations:
            self._known[key] = verified, min(until, verified.expires_at or until, _expiry_of(token) or until)
        return verified, causes


def _expiry_of(token: str) -> float | None:
    """When a token that was found good expires by its own claims, in seconds since the epoch, where it is a JWT."""
    try:
        claims = json.loads(jws.extract_compact(token.encode()).payload)
        return float(claims["exp"])
    except (JoseError, KeyError, TypeError, ValueError):
        return None


def remember_verified_tokens(provider: AuthProvider, shield: Shield, *, lifetime: float) -> VerifiedTokens:
    """Put the cache in front of a provider's own verification."""
    tokens = VerifiedTokens(provider.verify_token, shield, lifetime=lifetime)
    provider.verify_token = tokens  # type: ignore[method-assign]
    return tokens


def refresh_upstream_one_at_a_time(provider: OAuthProxy, leases: Leases) -> None:
    """Let one request of all workers and replicas refresh what the identity provider issued for a session.

    OAuthProxy does so within a process, by a lock for each record of its upstream tokens, and reads the record again
    once it has the lock.
    """

    @asynccontextmanager
    async def lock(token_id: str) -> AsyncIterator[None]:
        if not _may_refresh.get():
            raise RefreshNotWanted
        try:
            async with leases.hold(f"{UPSTREAM_TOKENS} {token_id}", wait=LONGEST_WAIT):
                yield
        except LeaseBusy:
            outage.note("another replica is still refreshing this session at the identity provider")
            raise

    def get_refresh_lock(token_id: str) -> AbstractAsyncContextManager[None]:
        return lock(token_id)

    provider._get_refresh_lock = get_refresh_lock  # type: ignore[method-assign, assignment]
