"""What happened to clients, sign-ins and sessions: an event each, on a logger of its own, for machines to read.

The names of events and fields are a contract (docs/observability.md). A token, code, secret or PIN is never among them.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, get_args

LOGGER = "mcp_holdfast.audit"
log = logging.getLogger(LOGGER)

Event = Literal[
    "registered",
    "registration_refused",
    "client_refused",
    "authorization_asked",
    "authorization_refused",
    "pin_refused",
    "signed_in",
    "denied",
    "code_redeemed",
    "refreshed",
    "replayed",
    "reuse_refused",
    "exchange_refused",
    "revocation_refused",
    "session_ended",
    "token_refused",
    "assertion_refused",
]
REFUSALS: frozenset[Event] = frozenset(
    {
        "registration_refused",
        "client_refused",
        "authorization_refused",
        "pin_refused",
        "denied",
        "reuse_refused",
        "exchange_refused",
        "revocation_refused",
        "token_refused",
        "assertion_refused",
    }
)
Field = Literal["client_id", "client_name", "session", "subject", "grant", "reason", "host", "address"]
FIELDS: tuple[Field, ...] = get_args(Field)

LONGEST_VALUE = 200
"""In characters: strangers choose some of them."""

SHOWN_OF_SESSION = 12
"""Characters of a session's identifier, as 'holdfast sessions' shows it."""

Facts = dict[Field, str]

_facts: ContextVar[Facts | None] = ContextVar("audit_facts", default=None)


@contextmanager
def of_request(address: str) -> Iterator[None]:
    """Collect what is known of a request that comes from this address; each event inside the block tells it."""
    token = _facts.set({"address": address})
    try:
        yield
    finally:
        _facts.reset(token)


def know(field: Field, value: str | None) -> None:
    """From now on, tell this with each event of the request; nothing happens outside of one."""
    facts = _facts.get()
    if facts is not None and value:
        facts[field] = value


def record(
    event: Event,
    *,
    client_id: str | None = None,
    client_name: str | None = None,
    session: str | None = None,
    subject: str | None = None,
    grant: str | None = None,
    reason: str | None = None,
    host: str | None = None,
) -> None:
    """Write an event down, with what is known of the request where it is not said here; `session` is an identifier."""
    said: dict[Field, str | None] = {
        "client_id": client_id,
        "client_name": client_name,
        "session": session[:SHOWN_OF_SESSION] if session else None,
        "subject": subject,
        "grant": grant,
        "reason": reason,
        "host": host,
    }
    known = _facts.get() or {}
    told = {name: said.get(name) or known.get(name, "") for name in FIELDS}
    fields: dict[str, str] = {name: value[:LONGEST_VALUE] for name, value in told.items() if value}
    log.info(event, extra={"result": "refused" if event in REFUSALS else "success", **fields})
