"""Exchange a code or refresh token exactly once, knowing nothing of the provider inside.

One request at a time, of all workers and replicas, exchanges a code or the refresh token of a session. The provider
runs with its deletions held back; then the answer is recorded, and only then the deletions are done and the answer is
given. So a crash leaves either the old token good or the recorded answer to be given again.
"""

import asyncio
import base64
import json
import logging
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from cryptography.fernet import Fernet, InvalidToken
from fastmcp.server.auth.auth import OAuthProvider
from mcp.server.auth.middleware.client_auth import AuthenticationError
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope

from mcp_holdfast import audit, metrics, outage, tracing
from mcp_holdfast.asgi import HeldAnswer
from mcp_holdfast.auth.clients import NO_STORE, UNAUTHENTICATED, authenticator_of, error_response
from mcp_holdfast.auth.exchange.delivery import Delivery
from mcp_holdfast.auth.exchange.request import TokenRequest
from mcp_holdfast.auth.imported.proxy import imported_session
from mcp_holdfast.auth.origin import issuing_for
from mcp_holdfast.auth.resources import refuse_other_resources
from mcp_holdfast.auth.sessions import (
    LONGEST_WAIT,
    TOKENS,
    UPSTREAM_TOKENS,
    USED_LONG_AGO,
    Issued,
    Session,
    Sessions,
    Token,
    TokenKind,
    token_key,
)
from mcp_holdfast.auth.shield import Unfinished
from mcp_holdfast.auth.verification import refreshing_nothing
from mcp_holdfast.storage.atomic import AtomicStore, Leases, Turn
from mcp_holdfast.storage.journal import BeforeReading, Journal, Place, apply_deletes, keeping_journal
from mcp_holdfast.storage.keys import derive_key

log = logging.getLogger(__name__)

ON_ITS_WAY_FOR = 0.2
"""Seconds for which an answer that was sent may still get lost with the machine."""

LOST_CODE_ANSWER_KEPT_FOR = 600.0
"""Seconds for which the answer to a code is given again where, for all we know, it was never sent."""

REMEMBERED_FOR: Mapping[TokenKind, float] = {"authorization_code": 86400.0, "refresh_token": 30 * 86400.0}
"""Seconds for which a spent code or refresh token has a record, to be told apart from an unknown one."""

COME_TOGETHER_WITHIN = 60.0
"""Seconds, at most, between two requests that were sent beside each other, however long they were on their way."""

THIS_RUN = secrets.token_hex(8)
"""Tells this server's processes, which share a clock, from those of other replicas."""

SUBJECT_CLAIMS = ("preferred_username", "email", "login", "sub")

Ask = Callable[[], Awaitable[Response]]
"""Asks the provider for its answer to the request."""


class Registrations(Protocol):
    """What is told of clients."""

    async def keep(self, client_id: str) -> None:
        """Keep a registration from now on: its client completed a sign-in."""


@dataclass(frozen=True)
class Answer:
    """What goes back to the client, and the record to be marked as delivered then, if any."""

    response: Response
    record: Token | None = None
    result: metrics.ExchangeResult = "refused"


class Exchange:
    """What happens to a code or token between its request and the answer."""

    def __init__(
        self,
        *,
        provider: OAuthProvider,
        store: AtomicStore,
        leases: Leases,
        sessions: Sessions,
        registrations: Registrations,
        grace: float,
    ) -> None:
        """`grace` is for how many seconds a repeated refresh gets the same answer although it was sent."""
        self._provider = provider
        self._store = store
        self._leases = leases
        self._sessions = sessions
        self._registrations = registrations
        self._grace = grace
        self._authenticator = authenticator_of(provider)

    def check(self, request: TokenRequest) -> None:
        """Look at what can be told without the provider.

        Raises:
            MalformedRequest: tokens are asked for another server.

        """
        refuse_other_resources(self._provider, request.resources)

    async def run(self, request: TokenRequest, ask_provider: Ask, delivery: Delivery) -> None:
        """Exchange, give the answer to `delivery` and note that it was sent.

        Raises:
            LeaseBusy, Unfinished, StoreUnavailable: nothing was decided; the client has to come back.

        """
        exchange = self._redeem if request.kind == "authorization_code" else self._refresh
        with tracing.span(f"exchange {request.kind}"):
            try:
                await exchange(request, ask_provider, delivery)
            except Exception:
                if not delivery.has_answer:
                    _count(request, "later")
                raise

    async def _redeem(self, request: TokenRequest, ask_provider: Ask, delivery: Delivery) -> None:
        async with self._leases.hold(f"code {request.key}", wait=LONGEST_WAIT) as turn:
            token = await self._sessions.token(request.key)
            if token is None:
                answer = await self._exchange_code(request, ask_provider)
            else:
                answer = await self._answer_spent_code(request, token, turn)
            _give(answer, request, delivery)
            # Still holding the lease: whether a second use is a replay depends on whether the answer was sent.
            await self._note_delivery(request, answer, delivery)

    async def _exchange_code(self, request: TokenRequest, ask_provider: Ask) -> Answer:
        identifier = uuid.uuid4().hex
        with issuing_for(identifier), keeping_journal(hold_deletes=True) as journal:
            response = await ask_provider()
            if response.status_code != 200:
                return _refusal(response)
            issued = _issued_in(response)
            session = await self._describe(request, issued)
        record = _record_of(request, journal, identifier, session, response)
        await self._registrations.keep(record.client_id)
        if not await self._sessions.add_token(request.key, record, lifetime=REMEMBERED_FOR[request.kind]):
            # Our lease ran out and somebody else was first: what only this exchange issued must not live.
            metrics.count_lost_claim(request.kind)
            await self._discard(journal, request)
            return _invalid_grant("the authorization code was used before; sign in again")
        await self._finish(record)
        self._record("code_redeemed", record, request)
        return Answer(response, record, "issued")

    async def _answer_spent_code(self, request: TokenRequest, token: Token, turn: Turn) -> Answer:
        if (refusal := await self._refuse_other_clients(request, token)) is not None:
            return refusal
        lost = _is_within(LOST_CODE_ANSWER_KEPT_FOR, request, token) and await self._was_lost(request, token)
        if lost and (answer := await self._repeat(request, token, lost=True)) is not None:
            return answer
        if _is_replay(request, token, turn) and not lost:
            # RFC 6749, section 4.1.2
            self._record("reuse_refused", token, request)
            await self._sessions.revoke(token.session, "code_reused")
            metrics.count_reuse(request.kind)
        return _invalid_grant("the authorization code was used before; sign in again")

    async def _refresh(self, request: TokenRequest, ask_provider: Ask, delivery: Delivery) -> None:
        token = await self._sessions.refresh_token(request.credential)
        name = self._sessions.turn(token.session) if token else f"refresh {request.key}"
        async with self._leases.hold(name, wait=LONGEST_WAIT) as turn, self._one_refresh_upstream() as before_reading:
            answer = await self._refresh_in_turn(request, ask_provider, before_reading, turn)
            # It is recorded: no need to let the client wait until the leases are given back.
            _give(answer, request, delivery)
        await self._note_delivery(request, answer, delivery)

    async def _refresh_in_turn(
        self, request: TokenRequest, ask_provider: Ask, before_reading: BeforeReading, turn: Turn
    ) -> Answer:
        token = await self._sessions.refresh_token(request.credential)
        if token is None:
            # From before there were sessions, or not a token of ours: the provider knows.
            return await self._exchange_refresh_token(
                request, ask_provider, before_reading, turn, uuid.uuid4().hex, None
            )
        session = await self._sessions.get(token.session)
        if session is None:
            return _invalid_grant("the session was revoked; sign in again")
        if token.spent_at is None:
            return await self._exchange_refresh_token(
                request, ask_provider, before_reading, turn, token.session, session
            )
        if (refusal := await self._refuse_other_clients(request, token)) is not None:
            return refusal
        lost = await self._was_lost(request, token)
        if lost or _is_within(self._grace, request, token):
            repeated = await self._repeat(request, token, lost=lost)
            return repeated or _invalid_grant("the refresh token was used before, in another request")
        if _is_replay(request, token, turn):
            # RFC 9700, section 4.14.2
            self._record("reuse_refused", token, request)
            await self._sessions.revoke_in_turn(token.session, "refresh_token_reused")
            metrics.count_reuse(request.kind)
        return _invalid_grant("the refresh token was used before; sign in again")

    async def _exchange_refresh_token(
        self,
        request: TokenRequest,
        ask_provider: Ask,
        before_reading: BeforeReading,
        turn: Turn,
        identifier: str,
        session: Session | None,
    ) -> Answer:
        with issuing_for(identifier), keeping_journal(hold_deletes=True, before_reading=before_reading) as journal:
            response = await ask_provider()
        if response.status_code != 200:
            return _refusal(response)
        if session is None:
            session = await self._describe(request, _issued_in(response))
            identifier, session = await self._imported_session(journal, session) or (identifier, session)
        record = _record_of(request, journal, identifier, session, response)
        if record.spent_at is None:
            # The provider does not rotate: the token stays good, and no answer can get lost.
            await self._finish(record)
            return Answer(response, result="issued")
        if turn.was_lost:
            metrics.count_lost_claim(request.kind)
            outage.note("another replica took over the exchange of this refresh token")
            raise Unfinished
        await self._sessions.save_token(request.key, record, lifetime=REMEMBERED_FOR[request.kind])
        await self._finish(record)
        self._record("refreshed", record, request)
        return Answer(response, record, "issued")

    async def _finish(self, record: Token) -> None:
        """Do what a recorded exchange still has to do; again where it may have been done already."""
        if record.after is None:
            return
        await asyncio.gather(
            self._sessions.save(record.session, record.after),
            *(self._save_issued(record, issued) for issued in record.issued),
        )
        await apply_deletes(self._store, record.deleted)

    async def _save_issued(self, record: Token, issued: Issued) -> None:
        token = Token(kind=issued.kind, session=record.session, client_id=record.client_id)
        await self._sessions.save_token(issued.key, token, lifetime=max(1.0, issued.expires_at - time.time()))

    async def _was_lost(self, request: TokenRequest, token: Token) -> bool:
        """Whether nobody has got the answer, as far as can be told: who uses what it issued has got it."""
        if token.delivered_at is not None:
            return False
        issued = [one.key for one in token.issued if one.kind == "refresh_token"]
        if any([await self._is_spent(key) for key in issued]):
            return False
        session = await self._sessions.get(token.session)
        if session is None or not issued:
            return True
        # What was used long ago has no record. As long as an exchange was not finished, the session has the old token.
        unfinished = request.kind == "refresh_token" and session.has_token(request.key)
        return unfinished or any(session.has_token(key) for key in issued)

    async def _is_spent(self, key: str) -> bool:
        token = await self._sessions.token(key)
        return token is not None and token.spent_at is not None

    async def _repeat(self, request: TokenRequest, token: Token, *, lost: bool) -> Answer | None:
        """Give the recorded answer, to the same request; None if this is another one."""
        if token.request != request.fingerprint:
            return None
        body = open_with(request.credential, token.answer)
        if body is None:
            return None
        if lost:
            await self._finish(token)
        self._record("replayed", token, request)
        return Answer(Response(body, 200, NO_STORE, "application/json"), token if lost else None, "replayed")

    async def _note_delivery(self, request: TokenRequest, answer: Answer, delivery: Delivery) -> None:
        if answer.record is None or not await delivery.was_sent():
            return
        update: dict[str, Any] = {"delivered_at": delivery.sending_since, "delivered_by": THIS_RUN}
        update |= {"after": None, "issued": [], "deleted": []}
        if request.kind == "authorization_code":
            await asyncio.sleep(ON_ITS_WAY_FOR)
        if request.kind == "authorization_code" or not self._grace:
            update["answer"] = ""
        delivered = answer.record.model_copy(update=update)
        await self._sessions.save_token(request.key, delivered, lifetime=self._kept_for(request, delivered))

    def _kept_for(self, request: TokenRequest, delivered: Token) -> float:
        """For how many seconds the record of what was exchanged is needed, once its answer was sent."""
        if request.kind == "refresh_token" and self._sessions.tells_its_session(request.credential, delivered.session):
            return self._grace + COME_TOGETHER_WITHIN
        return REMEMBERED_FOR[request.kind]

    async def _discard(self, journal: Journal, request: TokenRequest) -> None:
        """Delete what an exchange wrote that came too late, but not what it shares with the one that was in time."""
        winner = await self._sessions.token(request.key)
        session = await self._sessions.get(winner.session) if winner else None
        shared = {(collection, key) for collection, key, _ in session.records} if session else set()
        await apply_deletes(self._store, sorted(journal.writes.keys() - shared))

    async def _refuse_other_clients(self, request: TokenRequest, token: Token) -> Answer | None:
        """Refuse who is not the client that a spent code or token was issued to (RFC 6749, section 5.2)."""
        try:
            client = await self._authenticator.authenticate_request(request.http())
        except AuthenticationError as error:
            return Answer(error_response(UNAUTHENTICATED, error.message))
        return None if client.client_id == token.client_id else _invalid_grant("it was issued to another client")

    async def _describe(self, request: TokenRequest, issued: Mapping[str, Any]) -> Session:
        client_id = request.form.get("client_id", "")
        client = await self._provider.get_client(client_id)
        parts = urlsplit(request.form.get("redirect_uri", ""))
        return Session(
            client_id=client_id,
            client_name=client.client_name if client else None,
            redirect_host=parts.netloc or None,
            subject=await self._subject_of(str(issued.get("access_token", ""))),
            created_at=time.time(),
        )

    async def _imported_session(self, journal: Journal, described: Session) -> tuple[str, Session] | None:
        """The session that was imported with what was refreshed upstream just now, if that is so."""
        for collection, key in journal.writes:
            identifier = imported_session(key)
            if collection == UPSTREAM_TOKENS and (session := await self._sessions.get(identifier)) is not None:
                told = {"subject": described.subject, "client_name": described.client_name}
                return identifier, session.model_copy(update=told)
        return None

    async def _subject_of(self, access_token: str) -> str | None:
        """Whose session it is, as far as the token that was just issued tells (RFC 7519, section 4.1.2)."""
        try:
            with refreshing_nothing():
                token = await self._provider.load_access_token(access_token)
        except Exception as error:  # noqa: BLE001  # only a label in a list
            log.info("cannot tell whose session it is", extra={"error": type(error).__name__})
            return None
        claims = getattr(token, "claims", None) or {}
        return next((str(claims[name]) for name in SUBJECT_CLAIMS if claims.get(name)), None)

    @asynccontextmanager
    async def _one_refresh_upstream(self) -> AsyncIterator[BeforeReading]:
        """Keep to itself what the provider reads in order to refresh it at the identity provider."""
        async with AsyncExitStack() as leases:
            held: set[Place] = set()

            async def before_reading(place: Place) -> None:
                if place[0] == UPSTREAM_TOKENS and place not in held:
                    await leases.enter_async_context(self._leases.hold(" ".join(place), wait=LONGEST_WAIT))
                    held.add(place)

            yield before_reading

    def _record(self, event: audit.Event, token: Token, request: TokenRequest) -> None:
        session = token.after
        audit.record(
            event,
            client_id=token.client_id,
            client_name=session.client_name if session else None,
            session=token.session,
            subject=session.subject if session else None,
            grant=request.kind,
        )


def _give(answer: Answer, request: TokenRequest, delivery: Delivery) -> None:
    _count(request, answer.result)
    delivery.give(answer.response)


def _count(request: TokenRequest, result: metrics.ExchangeResult) -> None:
    metrics.count_exchange(request.kind, result)
    tracing.tell("holdfast.exchange.result", result)


async def ask(app: ASGIApp, scope: Scope, receive: Receive) -> Response:
    """The application's whole answer."""
    answer = HeldAnswer()
    await app(scope, receive, answer.send)
    return answer.response()


def _record_of(request: TokenRequest, journal: Journal, identifier: str, session: Session, response: Response) -> Token:
    """Write down an exchange that was done: what it answered, what it wrote and what is still to be done."""
    now = time.time()
    tokens = _issued_in(response)
    issued = []
    longest = max((until for until in journal.writes.values() if until is not None), default=now + 3600)
    if access_token := tokens.get("access_token"):
        expires_at = now + float(tokens["expires_in"]) if tokens.get("expires_in") else longest
        issued.append(Issued(key=token_key("access_token", access_token), kind="access_token", expires_at=expires_at))
    refresh_token = tokens.get("refresh_token")
    if refresh_token:
        issued.append(Issued(key=token_key("refresh_token", refresh_token), kind="refresh_token", expires_at=longest))
    stays = request.kind == "refresh_token" and refresh_token in {None, request.credential}
    writes = journal.writes | {(TOKENS, token.key): token.expires_at for token in issued}
    if request.kind == "authorization_code":
        # So that a code whose session was revoked is as unknown as the session.
        writes[TOKENS, request.key] = now + REMEMBERED_FOR[request.kind]
    spent = {(TOKENS, request.key)} if request.kind == "refresh_token" and not stays else set()
    after = session.changed_by(writes, journal.deletes | spent)
    if request.kind == "refresh_token":
        after.refreshed_at = now
    return Token(
        kind=request.kind,
        session=identifier,
        client_id=after.client_id,
        spent_at=None if stays else now,
        request=request.fingerprint,
        answer=seal_with(request.credential, bytes(response.body)),
        after=after,
        issued=issued,
        deleted=sorted(journal.deletes),
    )


def _issued_in(response: Response) -> dict[str, Any]:
    tokens: dict[str, Any] = json.loads(bytes(response.body))
    return tokens


def _refusal(response: Response) -> Answer:
    """Hand on what the provider refuses, unless it only could not find out.

    Raises:
        Unfinished: that is so.

    """
    if outage.noted() or response.status_code >= 500:
        raise Unfinished
    return Answer(response)


def _invalid_grant(description: str) -> Answer:
    return Answer(error_response("invalid_grant", description))


def _is_replay(request: TokenRequest, token: Token, turn: Turn) -> bool:
    """Whether a request came after the answer, and not beside the one that got it."""
    if not turn.was_contended or token.spent_at == USED_LONG_AGO:
        return True
    # Times are compared on one machine only: the clocks of others differ.
    return token.delivered_by == THIS_RUN and request.arrived_at > (token.delivered_at or request.arrived_at)


def _is_within(seconds: float, request: TokenRequest, token: Token) -> bool:
    """Whether a request arrived in time, however long it had to wait for its turn since."""
    return token.spent_at is not None and request.arrived_at < token.spent_at + seconds


def seal_with(credential: str, answer: bytes) -> str:
    """Seal an answer so that only who has the code or token that it answers can read it."""
    return _cipher(credential).encrypt(answer).decode()


def open_with(credential: str, sealed: str) -> bytes | None:
    """Open what was sealed with a code or token; None if it was another one."""
    try:
        return _cipher(credential).decrypt(sealed.encode())
    except InvalidToken:
        return None


def _cipher(credential: str) -> Fernet:
    return Fernet(base64.urlsafe_b64encode(derive_key(credential, "recorded answer")))
