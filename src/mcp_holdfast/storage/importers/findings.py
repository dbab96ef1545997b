"""What an importer finds in another system's state: records, and what cannot be carried over with the reason."""

import os
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

Family = Literal["proxy", "local"]
"""Whether sessions began at an identity provider behind FastMCP's OAuthProxy, or at a login of the server's own."""

REGISTRATIONS = "registrations"
ACCESS_TOKENS = "access tokens"
REFRESH_TOKENS = "refresh tokens"
SIGN_INS_UNDER_WAY = "sign-ins under way"

DAMAGED = "damaged"
EXPIRED = "expired"
SHORT_LIVED = "lives for minutes only: whoever is just signing in begins again"
OF_NO_REGISTRATION = "of a client whose registration is not carried over"


class SourceProblem(Exception):
    """The source cannot be imported. The message names it and says what to do; it holds nothing secret."""


@dataclass(frozen=True)
class Record:
    """One record of the source in its own words: a collection, a key, and when it expires (seconds since the epoch)."""

    collection: str
    key: str
    value: dict[str, Any]
    expires_at: float | None = None

    def is_expired(self, now: float) -> bool:
        return self.expires_at is not None and self.expires_at <= now


@dataclass
class Findings:
    """All that one source holds.

    `left` counts what is not carried over, by what it is and why. `signing_key` is what the other server signed its
    tokens with, by FastMCP's own derivation, and `fingerprint` names that key.
    """

    system: str
    family: Family
    path: Path
    records: list[Record] = field(default_factory=list)
    left: Counter[tuple[str, str]] = field(default_factory=Counter)
    signing_key: bytes | None = None
    fingerprint: str = ""

    def leave(self, what: str, reason: str, count: int = 1) -> None:
        if count:
            self.left[what, reason] += count


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file to read it, and nothing else: no link, no device, no pipe that would never end.

    Raises:
        OSError: it cannot be opened, or is something else.

    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(None, "is not a regular file", str(path))
        yield file


def read_bytes(path: Path, *, limit: int) -> bytes:
    """Read a regular file of at most `limit` bytes.

    Raises:
        OSError: it cannot be read, or is larger.

    """
    with opened(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(None, f"is larger than {limit} bytes", str(path))
    return content
