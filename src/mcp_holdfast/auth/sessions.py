"""A session is the set of records that its exchanges wrote: so any provider's sessions can be listed and revoked."""

import hashlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from typing import Literal

from key_value.aio.adapters.pydantic import PydanticAdapter
from pydantic import BaseModel, ValidationError

from mcp_holdfast import audit
from mcp_holdfast.auth.origin import Origin, OriginOf, tells_nothing
from mcp_holdfast.storage.atomic import AtomicStore, Leases
from mcp_holdfast.storage.journal import Place, apply_deletes

log = logging.getLogger(__name__)

SESSIONS = "holdfast_sessions"
TOKENS = "holdfast_tokens"
UPSTREAM_TOKENS = "mcp-upstream-tokens"
"""The collection in which OAuthProxy keeps what it got from the identity provider, to be refreshed by one at a time."""

LONGEST_WAIT = 10.0
"""In seconds, for a lease; clients wait about thirty for an answer."""

CLOCKS_DIFFER_BY = 5.0
"""Seconds, at most, between the clocks of replicas, with room to spare."""

USED_LONG_AGO = 0.0
"""When a token was spent, in seconds since the epoch, of which there is no record any more."""

EndReason = Literal["code_reused", "refresh_token_reused", "revoked_by_client", "revoked_by_operator"]
TokenKind = Literal["authorization_code", "refresh_token", "access_token"]


class Session(BaseModel):
    """One sign-in of one client. Times are in seconds since the epoch; `expires_at` is None for never.

    `records` maps the places of the records that it consists of to when they expire.
    """

    client_id: str
    client_name: str | None = None
    redirect_host: str | None = None
    subject: str | None = None
    created_at: float
    refreshed_at: float | None = None
    records: list[tuple[str, str, float | None]] = []

    @property
    def expires_at(self) -> float | None:
        times = [expires_at for _, _, expires_at in self.records]
        return None if None in times else max((time for time in times if time is not None), default=self.created_at)

    @property
    def issued_at(self) -> float:
        """When its present tokens were issued."""
        return self.refreshed_at or self.created_at

    @property
    def places(self) -> list[Place]:
        """Where its records are."""
        return [(collection, key) for collection, key, _ in self.records]

    def has_token(self, key: str) -> bool:
        """Whether a refresh or access token is one of its own that was not used up."""
        return (TOKENS, key) in self.places

    def changed_by(self, writes: dict[Place, float | None], deletes: Iterable[Place]) -> "Session":
        """The session after an exchange that wrote and deleted these records."""
        now = time.time()
        records: dict[Place, float | None] = {(collection, key): until for collection, key, until in self.records}
        records |= writes
        for place in deletes:
            records.pop(place, None)
        kept = [(*place, until) for place, until in records.items() if until is None or until > now]
        return self.model_copy(update={"records": kept})


class Issued(BaseModel):
    """A token that was issued: the key of its record, and when it expires (seconds since the epoch)."""

    key: str
    kind: TokenKind
    expires_at: float


class Token(BaseModel):
    """What is known about a code or token that was issued. The token itself is not stored, only its hash, as the key.

    `session` is the session that it belongs to. Once it was exchanged, `spent_at` says when (seconds since the epoch),
    `request` is the hash of that request, and `answer` the answer, sealed with the token itself; `after`,
    `issued` and `deleted` are what is still to be stored and deleted then. `delivered_at` says when it was sent, and
    `delivered_by` by which run of the server.
    """

    kind: TokenKind
    session: str
    client_id: str
    spent_at: float | None = None
    request: str = ""
    answer: str = ""
    after: Session | None = None
    issued: list[Issued] = []
    deleted: list[Place] = []
    delivered_at: float | None = None
    delivered_by: str = ""


def token_key(kind: TokenKind, token: str) -> str:
    """The key of a token's record; it does not tell the token."""
    return hashlib.sha256(f"{kind} {token}".encode()).hexdigest()


BeforeDeleting = Callable[[Session], Awaitable[None]]


class Sessions:
    """List and revoke. `on_revoked` is called after a session was revoked by this process."""

    def __init__(self, store: AtomicStore, leases: Leases, *, origin_of: OriginOf = tells_nothing) -> None:
        """`origin_of` reads the refresh tokens of the provider whose sessions these are."""
        self._store = store
        self._leases = leases
        self._origin_of = origin_of
        self.on_revoked: Callable[[], None] = lambda: None
        self._sessions: PydanticAdapter[Session] = PydanticAdapter(
            key_value=store, pydantic_model=Session, default_collection=SESSIONS, raise_on_validation_error=False
        )
        self._tokens: PydanticAdapter[Token] = PydanticAdapter(
            key_value=store, pydantic_model=Token, default_collection=TOKENS, raise_on_validation_error=False
        )

    async def get(self, identifier: str) -> Session | None:
        return await self._sessions.get(identifier)

    async def save(self, identifier: str, session: Session) -> None:
        expires_at = session.expires_at
        lifetime = None if expires_at is None else max(1.0, expires_at - time.time())
        await self._sessions.put(identifier, session, ttl=lifetime)

    async def token(self, key: str) -> Token | None:
        return await self._tokens.get(key)

    async def refresh_token(self, token: str) -> Token | None:
        """What is known about a refresh token; None if at most its provider knows it.

        One that tells its session keeps no record for long once it was used: the session knows which were not.
        """
        key = token_key("refresh_token", token)
        if (known := await self.token(key)) is not None:
            return known
        origin = self._origin_of(token)
        return None if origin is None else await self._token_of(origin, key)

    async def _token_of(self, origin: Origin, key: str) -> Token | None:
        session = await self.get(origin.session)
        if session is not None and origin.issued_at > session.issued_at + CLOCKS_DIFFER_BY:
            # The store was put back to an earlier time, as by a restore, when there was no such token yet.
            return None
        token = Token(kind="refresh_token", session=origin.session, client_id=session.client_id if session else "")
        if session is not None and session.has_token(key):
            # Only its record is damaged.
            return token
        return token.model_copy(update={"spent_at": USED_LONG_AGO, "delivered_at": USED_LONG_AGO})

    def tells_its_session(self, token: str, session: str) -> bool:
        """Whether a refresh token of this session would be known without a record."""
        origin = self._origin_of(token)
        return origin is not None and origin.session == session

    async def save_token(self, key: str, token: Token, *, lifetime: float) -> None:
        await self._tokens.put(key, token, ttl=lifetime)

    async def add_token(self, key: str, token: Token, *, lifetime: float) -> bool:
        """Store a token's record unless there is one: of several exchanges of one code, the first."""
        return await self._store.add(key, token.model_dump(mode="json"), collection=TOKENS, ttl=lifetime)

    async def all(self) -> AsyncIterator[tuple[str, Session]]:
        """Every session that has not expired, with its identifier."""
        async for identifier, entry in self._store.entries(SESSIONS):
            try:
                yield identifier, Session.model_validate(entry.value_as_dict)
            except ValidationError:
                log.warning("skipped a session record of another form", extra={"session": identifier[:8]})

    def turn(self, identifier: str) -> str:
        """The name of the lease that whoever changes a session holds."""
        return f"session {identifier}"

    async def revoke(self, identifier: str, reason: EndReason, *, before: BeforeDeleting | None = None) -> bool:
        """End a session: none of its tokens is good for anything afterwards. Tell whether there was one.

        `before` is awaited with the session as it is when nobody can refresh it any more.

        Raises:
            LeaseBusy: it is being refreshed, for unusually long.

        """
        async with self._leases.hold(self.turn(identifier), wait=LONGEST_WAIT):
            return await self.revoke_in_turn(identifier, reason, before=before)

    async def revoke_in_turn(self, identifier: str, reason: EndReason, *, before: BeforeDeleting | None = None) -> bool:
        """Do what `revoke` does, for who holds the session's lease already."""
        session = await self.get(identifier)
        if session is None:
            return False
        async with AsyncExitStack() as leases:
            for place in session.places:
                if place[0] == UPSTREAM_TOKENS:
                    # A call may be refreshing it at the identity provider, and would write it back.
                    await leases.enter_async_context(self._leases.hold(" ".join(place), wait=LONGEST_WAIT))
            if before is not None:
                await before(session)
            await self._delete(identifier, session)
        self.on_revoked()
        audit.record(
            "session_ended",
            client_id=session.client_id,
            client_name=session.client_name,
            session=identifier,
            subject=session.subject,
            host=session.redirect_host,
            reason=reason,
        )
        return True

    async def _delete(self, identifier: str, session: Session) -> None:
        # A kill in between must leave what leads here again: the tokens, and the session in the list.
        await apply_deletes(self._store, [place for place in session.places if place[0] != TOKENS])
        await apply_deletes(self._store, [place for place in session.places if place[0] == TOKENS])
        await self._sessions.delete(identifier)
