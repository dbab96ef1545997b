"""A refresh token tells the session that it belongs to, under the signature of who issued it.

So it needs no record of its own for its reuse to be noticed (RFC 9700, section 4.14.2), however long ago it was used.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

SESSION = "sid"
"""The claim of OpenID Connect for it (Front-Channel Logout 1.0, section 3; IANA's JSON Web Token Claims)."""

_session: ContextVar[str | None] = ContextVar("session of what is issued", default=None)


@dataclass(frozen=True)
class Origin:
    """The session that a refresh token was issued for, and when (seconds since the epoch)."""

    session: str
    issued_at: float


OriginOf = Callable[[str], Origin | None]
"""Reads a refresh token, also one that has expired; None if it does not tell, or was not signed by us."""


def tells_nothing(_: str) -> None:
    """The origin of a token of a provider that we cannot read."""


@contextmanager
def issuing_for(session: str) -> Iterator[None]:
    """Whatever is issued inside the block belongs to this session."""
    token = _session.set(session)
    try:
        yield
    finally:
        _session.reset(token)


def session_to_tell() -> str | None:
    """The session of what is being issued; None where nobody said."""
    return _session.get()


def session_claims(session: str | None) -> dict[str, str]:
    """What a refresh token of that session says of it."""
    return {} if session is None else {SESSION: session}


def origin_in(claims: Mapping[str, Any]) -> Origin | None:
    """What verified claims tell; those that an earlier release signed tell nothing."""
    return Origin(claims[SESSION], float(claims["iat"])) if SESSION in claims else None
