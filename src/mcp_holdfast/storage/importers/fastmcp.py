"""What FastMCP's OAuthProxy of versions 2.14 to 4 keeps, and the keys that it derived to encrypt it.

FastMCP derives its signing key from `jwt_signing_key` (PBKDF2), or without one from the identity provider's client
secret (HKDF), and from that the Fernet key of its store; the first 12 digits of that one's SHA-256 are its fingerprint.
"""

import base64
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from mcp_holdfast.storage.importers.findings import (
    DAMAGED,
    EXPIRED,
    REFRESH_TOKENS,
    REGISTRATIONS,
    SHORT_LIVED,
    SIGN_INS_UNDER_WAY,
    Findings,
    Record,
    SourceProblem,
)

SIGNING_SALT, STORAGE_SALT = b"fastmcp-jwt-signing-key", b"fastmcp-storage-encryption-key"
HKDF_INFO = b"Fernet"
PBKDF2_ITERATIONS = 1_000_000
FINGERPRINT_LENGTH = 12

CLIENTS, UPSTREAM_TOKENS = "mcp-oauth-proxy-clients", "mcp-upstream-tokens"
TOKEN_IDENTIFIERS, REFRESH_TOKEN_HASHES = "mcp-jti-mappings", "mcp-refresh-tokens"

KEPT = {
    CLIENTS: REGISTRATIONS,
    UPSTREAM_TOKENS: "sessions at the identity provider",
    TOKEN_IDENTIFIERS: "token identifiers",
    REFRESH_TOKEN_HASHES: REFRESH_TOKENS,
}
"""The collections that are carried over, and what each holds."""

SHORT_LIVED_COLLECTIONS = ("mcp-oauth-transactions", "mcp-authorization-codes", "mcp-consent-csrf-tokens")

NAMED_BY = {CLIENTS: "client_id", UPSTREAM_TOKENS: "upstream_token_id", TOKEN_IDENTIFIERS: "jti"}
"""What in a record is its key as well; a refresh token's key is its hash, which the record does not hold."""

NOT_ENCRYPTED = "not encrypted, so anybody may have written it"
OTHER_KEY = "encrypted with another key, or damaged"
ELSEWHERE = "was stored under another key"


@dataclass(frozen=True)
class DerivedKey:
    """What FastMCP made of one secret: the key that signs tokens, and the Fernet key of its store."""

    signing: bytes = field(repr=False)
    storage: bytes = field(repr=False)

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.storage).hexdigest()[:FINGERPRINT_LENGTH]


def derived_keys(secrets: Sequence[str]) -> Iterator[DerivedKey]:
    """All that FastMCP may have derived from these secrets, what takes long at the end (half a second each)."""
    for secret in secrets:
        yield _derived_key(_hkdf(secret.encode(), SIGNING_SALT))
    for secret in secrets:
        stretched = PBKDF2HMAC(SHA256(), 32, SIGNING_SALT, PBKDF2_ITERATIONS).derive(secret.encode())
        yield _derived_key(base64.urlsafe_b64encode(stretched))


def _derived_key(signing: bytes) -> DerivedKey:
    return DerivedKey(signing=signing, storage=_hkdf(signing, STORAGE_SALT))


def _hkdf(material: bytes, salt: bytes) -> bytes:
    return base64.urlsafe_b64encode(HKDF(SHA256(), 32, salt, HKDF_INFO).derive(material))


@dataclass(frozen=True)
class Stored:
    """A record as FastMCP stores it, encrypted; `key` is empty where the store does not tell it."""

    collection: str
    key: str
    value: Any
    expires_at: float | None


def fingerprints_of(secrets: Sequence[str]) -> frozenset[str]:
    """The fingerprints of all that FastMCP may have derived from these secrets."""
    return frozenset(key.fingerprint for key in derived_keys(secrets))


def key_of(source: Path, records: Sequence[Stored], secrets: Sequence[str]) -> DerivedKey | None:
    """Find what the records were encrypted with, if it comes from one of these secrets; None if no record is encrypted.

    Raises:
        SourceProblem: it does not.

    """
    samples = [record for record in records if is_encrypted(record.value)]
    for key in derived_keys(secrets):
        fernet = Fernet(key.storage)
        # A tree's directory has the fingerprint for its name, unless it was copied to another one.
        if key.fingerprint == source.name or any(_decrypted(fernet, sample) is not None for sample in samples):
            return key
    if not samples:
        return None
    known = "none of the secrets that are known here leads to it" if secrets else "no secret is known here"
    raise SourceProblem(
        f"{source} is encrypted, and {known}. Give the old server's jwt_signing_key or, if it had none, the client "
        "secret that it had at the identity provider, in a file: --key-file FILE"
    )


def sort_into(findings: Findings, records: Sequence[Stored], secrets: Sequence[str]) -> None:
    """Decrypt and check records; put what can be carried over and what cannot into the findings.

    Raises:
        SourceProblem: none of the secrets leads to the key that they were encrypted with.

    """
    key, now = key_of(findings.path, records, secrets), time.time()
    if key is not None:
        findings.signing_key, findings.fingerprint = key.signing, key.fingerprint
    fernet = None if key is None else Fernet(key.storage)
    for stored in records:
        what = KEPT.get(stored.collection)
        if stored.collection in SHORT_LIVED_COLLECTIONS:
            findings.leave(SIGN_INS_UNDER_WAY, SHORT_LIVED)
        elif what is None:
            findings.leave("records of a collection that is none of FastMCP's", "nobody would read it")
        elif not is_encrypted(stored.value):
            findings.leave(what, NOT_ENCRYPTED)
        elif fernet is None or (value := _decrypted(fernet, stored)) is None:
            findings.leave(what, OTHER_KEY)
        elif not (name := _name_of(stored, value)):
            findings.leave(what, ELSEWHERE)
        elif (record := Record(stored.collection, name, value, stored.expires_at)).is_expired(now):
            findings.leave(what, EXPIRED)
        else:
            findings.records.append(record)


def leave_damaged(findings: Findings, collection: str, count: int = 1) -> None:
    findings.leave(KEPT.get(collection, SIGN_INS_UNDER_WAY), DAMAGED, count)


def is_encrypted(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("__encrypted_data__"), str)


def _decrypted(fernet: Fernet, stored: Stored) -> dict[str, Any] | None:
    if not is_encrypted(stored.value):
        return None
    try:
        token = base64.b64decode(stored.value["__encrypted_data__"], validate=True)
        value = json.loads(fernet.decrypt(token))
    except (InvalidToken, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _name_of(stored: Stored, value: dict[str, Any]) -> str:
    """The record's key, empty where what it holds says that it was stored under another one."""
    if (field_name := NAMED_BY.get(stored.collection)) is None:
        return stored.key
    name = value.get(field_name)
    return name if isinstance(name, str) and stored.key in {"", name} else ""
