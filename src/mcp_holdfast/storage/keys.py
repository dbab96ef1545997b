"""The secrets that seal the store and sign tokens: from the environment, or made once and kept on the volume."""

import os
import secrets
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import SecretStr

from mcp_holdfast.settings import SHORTEST_KEY, ConfigurationError, Problem

KEY_FILE_MODE = 0o600


@dataclass(frozen=True)
class KeyRing:
    """Secrets in order: the first one seals or signs, all of them open and verify. `origin` tells their source."""

    secrets: tuple[str, ...]
    origin: str

    def derive(self, purpose: str) -> list[bytes]:
        """One 32-byte key a secret, for this purpose only (HKDF, RFC 5869)."""
        return [derive_key(secret, purpose) for secret in self.secrets]


def derive_key(secret: str, purpose: str) -> bytes:
    """A 32-byte key for one purpose from a secret of high entropy (HKDF, RFC 5869)."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=f"holdfast {purpose}".encode()).derive(secret.encode())


def given_key_ring(current: SecretStr, previous: Sequence[SecretStr], variable: str) -> KeyRing:
    """The ring that the environment gives: `current` first, then those that came before it."""
    return KeyRing(tuple(key.get_secret_value() for key in (current, *previous)), variable)


def volume_key_ring(path: Path, variable: str, *, store_is_in_use: bool) -> KeyRing:
    """The ring kept in a file on the volume, made on first use. Of several replicas starting at once one makes it.

    Raises:
        ConfigurationError: the file cannot be read or written, holds no key, or is gone although the store has records.

    """
    if store_is_in_use and not path.exists():
        what = f"is not set, and {path} is missing, without which a store in use is lost"
        remedy = f"Restore that file from a backup, or set {variable}; to begin anew, empty the volume"
        raise ConfigurationError([Problem(variable, what, remedy)])
    try:
        secret = create_once(path, secrets.token_urlsafe(32))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigurationError(
            [Problem("FASTMCP_HOME", f"cannot read or write {path}: {reason}", f"Repair it, or set {variable}")]
        ) from error
    if len(secret) < SHORTEST_KEY:
        raise ConfigurationError(
            [Problem(variable, f"{path} holds no usable key", f"Restore that file from a backup, or set {variable}")]
        )
    return KeyRing((secret,), str(path))


def temporary_key_ring() -> KeyRing:
    """A ring for this run of the server alone, for the memory backend, whose sign-ins do not outlive it either."""
    return KeyRing((secrets.token_urlsafe(32),), "this run")


def create_once(path: Path, content: str) -> str:
    """Return what the file holds, having made it durably with `content` if it was not there.

    link(2) decides between replicas that start together, on NFS too: it has exactly one winner and never shows a
    half-written file.
    """
    if (existing := _read(path)) is not None:
        return existing
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, KEY_FILE_MODE)
            file.write(f"{content}\n")
            file.flush()
            os.fsync(descriptor)
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    sync_directory(path.parent)
    return path.read_text(encoding="utf-8").strip()


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
