"""Seal records with a key ring, and hide their names."""

import base64
import hashlib
import hmac
import json
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from key_value.aio._utils.managed_entry import ManagedEntry, dump_to_json

from mcp_holdfast.storage.keys import KeyRing

FERNET_VERSION = 0x80
SHORTEST_TOKEN = 1 + 8 + 16 + 16 + 32


class Unsealable(Exception):
    """A record that was not sealed with our key for this collection and key."""


class Seal:
    """Seals records with one key of a ring and opens those sealed with any of them."""

    def __init__(self, ring: KeyRing) -> None:
        self._keys = [Fernet(base64.urlsafe_b64encode(key)) for key in ring.derive("storage seal")]
        self._all = MultiFernet(self._keys)
        self._in_use = self._keys[0]

    @property
    def is_first_in_use(self) -> bool:
        return self._in_use is self._keys[0]

    def use_first(self) -> None:
        """Seal with the first key of the ring from now on."""
        self._in_use = self._keys[0]

    def use_that_of(self, stored: dict[str, Any]) -> None:
        """Seal from now on with the key that a record is sealed with.

        Raises:
            Unsealable: it is not a record that we sealed.

        """
        for key in self._keys:
            with suppress(InvalidToken):
                key.decrypt(_token_in(stored))
                self._in_use = key
                return
        raise Unsealable

    def close(self, collection: str, key: str, entry: ManagedEntry) -> dict[str, Any]:
        record = {
            "collection": collection,
            "key": key,
            "created_at": entry.created_at_isoformat,
            "expires_at": entry.expires_at_isoformat,
            "value": entry.value_as_dict,
        }
        return {"sealed": self._in_use.encrypt(dump_to_json(record).encode()).decode()}

    def open(self, collection: str, key: str, stored: dict[str, Any]) -> ManagedEntry:
        """Open a stored record.

        Raises:
            Unsealable: it is not a record that we sealed for this collection and key.

        """
        record = self._decrypt(stored)
        if (record["collection"], record["key"]) != (collection, key):
            raise Unsealable
        return _entry(record)

    def open_any(self, stored: dict[str, Any]) -> tuple[str, str, ManagedEntry]:
        """Open a stored record wherever it was found: its collection, its key, and the record.

        Raises:
            Unsealable: it is not a record that we sealed.

        """
        record = self._decrypt(stored)
        return record["collection"], record["key"], _entry(record)

    def renew(self, stored: dict[str, Any]) -> dict[str, Any] | None:
        """The same record, sealed with the key in use; None if it is that already.

        Raises:
            Unsealable: it is not a record that we sealed.

        """
        token = _token_in(stored)
        with suppress(InvalidToken):
            self._in_use.decrypt(token)
            return None
        try:
            return {"sealed": self._in_use.encrypt(self._all.decrypt(token)).decode()}
        except InvalidToken as error:
            raise Unsealable from error

    def _decrypt(self, stored: dict[str, Any]) -> dict[str, Any]:
        try:
            record: dict[str, Any] = json.loads(self._all.decrypt(_token_in(stored)))
        except InvalidToken as error:
            raise Unsealable from error
        return record


def _token_in(stored: dict[str, Any]) -> bytes:
    try:
        token = str(stored["sealed"]).encode()
        spelled = base64.urlsafe_b64encode(base64.urlsafe_b64decode(token))
    except (KeyError, ValueError) as error:
        raise Unsealable from error
    # The last character has bits that mean nothing, and what is no base64 is passed over.
    if token != spelled:
        raise Unsealable
    return token


@dataclass(frozen=True)
class LookupNames:
    """The names under which records are stored; they tell nothing about the keys.

    They stay when the storage key changes: otherwise two replicas that are not yet given the same first key would not
    meet under one name, and each could be the one winner.
    """

    secret: bytes = field(repr=False)

    def name_of(self, collection: str, key: str) -> str:
        return hmac.new(self.secret, json.dumps([collection, key]).encode(), hashlib.sha256).hexdigest()

    def to_value(self) -> dict[str, str]:
        """What the key check says, sealed like any record."""
        return {"lookup": base64.b64encode(self.secret).decode()}

    @classmethod
    def from_value(cls, value: dict[str, Any]) -> "LookupNames":
        return cls(base64.b64decode(value["lookup"]))


def is_sealed(stored: dict[str, Any]) -> bool:
    """Whether a stored record has the shape of a sealed one, with whatever key (Fernet tokens begin with 0x80)."""
    try:
        token = base64.urlsafe_b64decode(str(stored["sealed"]))
    except (KeyError, ValueError):
        return False
    return len(token) > SHORTEST_TOKEN and token[0] == FERNET_VERSION


def _entry(record: dict[str, Any]) -> ManagedEntry:
    return ManagedEntry(
        value=record["value"],
        created_at=_datetime(record["created_at"]),
        expires_at=_datetime(record["expires_at"]),
    )


def _datetime(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value)
