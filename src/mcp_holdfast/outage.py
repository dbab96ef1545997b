"""Note what could not be reached while a request was answered: then its answer is "later", never "no".

A store that fails and an identity provider that cannot be reached say nothing about a token (RFC 6749, section 5.2,
and RFC 6750, section 3.1, have errors for tokens only; RFC 9110, section 15.6.4, has 503 for this).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_causes: ContextVar[list[str] | None] = ContextVar("outage_causes", default=None)


@contextmanager
def watching() -> Iterator[list[str]]:
    """Collect what is noted by this task and the tasks that it starts: one plain sentence a cause, no secrets."""
    causes: list[str] = []
    token = _causes.set(causes)
    try:
        yield causes
    finally:
        _causes.reset(token)


def note(cause: str) -> None:
    """Note that something could not be reached; nothing happens where nobody watches."""
    causes = _causes.get()
    if causes is not None:
        causes.append(cause)


def noted() -> bool:
    """Whether anything could not be reached since the request began."""
    return bool(_causes.get())
