"""Encrypt every record and bind it to its place: collection, key and expiry travel inside the ciphertext.

A record that was planted, swapped, re-dated, truncated or never encrypted is a miss; it is set aside and reported.
"""

import base64
import hashlib
import hmac
import json
import logging
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from key_value.aio._utils.managed_entry import ManagedEntry
from key_value.aio._utils.time_to_live import prepare_entry_timestamps
from key_value.aio.stores.base import BaseStore

from mcp_holdfast.settings import ConfigurationError, Problem
from mcp_holdfast.storage.backends import Backend
from mcp_holdfast.storage.keys import KeyRing

log = logging.getLogger(__name__)

FERNET_VERSION = 0x80
SHORTEST_TOKEN = 1 + 8 + 16 + 16 + 32
HOLDFAST_COLLECTION = "holdfast"
KEY_CHECK = "key_check"
KEY_CHECK_VALUE = {"purpose": "tells a replica with another storage key that this store is not its own"}


class Unsealable(Exception):
    """A record that was not sealed with our key for this collection and key."""


class Seal:
    """Seals records with the first key of a ring and opens those sealed with any of them."""

    def __init__(self, ring: KeyRing) -> None:
        keys = [Fernet(base64.urlsafe_b64encode(key)) for key in ring.derive("storage seal")]
        self._cipher = MultiFernet(keys)
        self._lookup_keys = ring.derive("storage lookup")

    def lookup_keys(self, collection: str, key: str) -> list[str]:
        """The names under which a record may be stored, the current one first; they tell nothing about the key."""
        message = json.dumps([collection, key]).encode()
        return [hmac.new(secret, message, hashlib.sha256).hexdigest() for secret in self._lookup_keys]

    def close(self, collection: str, key: str, entry: ManagedEntry) -> dict[str, Any]:
        record = {
            "collection": collection,
            "key": key,
            "created_at": entry.created_at_isoformat,
            "expires_at": entry.expires_at_isoformat,
            "value": entry.value_as_dict,
        }
        return {"sealed": self._cipher.encrypt(json.dumps(record).encode()).decode()}

    def open(self, collection: str, key: str, stored: dict[str, Any]) -> ManagedEntry:
        """Open a stored record.

        Raises:
            Unsealable: it is not a record that we sealed for this collection and key.

        """
        record = self._decrypt(stored)
        if (record["collection"], record["key"]) != (collection, key):
            raise Unsealable
        return _entry(record)

    def open_by_name(self, collection: str, name: str, stored: dict[str, Any]) -> tuple[str, ManagedEntry]:
        """Open a record found under one of its lookup keys: the key that it was stored with, and the record.

        Raises:
            Unsealable: it is not a record that we sealed for this collection and this name.

        """
        record = self._decrypt(stored)
        if record["collection"] != collection or name not in self.lookup_keys(collection, record["key"]):
            raise Unsealable
        return record["key"], _entry(record)

    def _decrypt(self, stored: dict[str, Any]) -> dict[str, Any]:
        try:
            record: dict[str, Any] = json.loads(self._cipher.decrypt(str(stored["sealed"]).encode()))
        except (KeyError, InvalidToken) as error:
            raise Unsealable from error
        return record


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


class SealedStore(BaseStore):
    """A store that keeps only sealed records in the store below it."""

    def __init__(self, store: Backend, ring: KeyRing) -> None:
        super().__init__(stable_api=True)
        self._store = store
        self._seal = Seal(ring)

    async def check_key(self) -> None:
        """Refuse a store that was sealed with other keys; leave our mark on one that has none.

        Raises:
            ConfigurationError: the store belongs to another key.

        """
        stored = await self._store.read(KEY_CHECK, collection=HOLDFAST_COLLECTION)
        if stored is not None and not is_sealed(stored.value_as_dict):
            log.warning("set aside a damaged key check", extra={"collection": HOLDFAST_COLLECTION})
            await self._store.set_aside(KEY_CHECK, collection=HOLDFAST_COLLECTION, entry=stored)
            stored = None
        if stored is None:
            mark = self._seal.close(HOLDFAST_COLLECTION, KEY_CHECK, ManagedEntry(value=KEY_CHECK_VALUE))
            await self._store.put(KEY_CHECK, mark, collection=HOLDFAST_COLLECTION)
            return
        try:
            self._seal.open(HOLDFAST_COLLECTION, KEY_CHECK, stored.value_as_dict)
        except Unsealable:
            raise ConfigurationError(
                [
                    Problem(
                        "HOLDFAST_STORAGE_KEY",
                        "the store was sealed with another key, so none of its sign-ins could be read",
                        "Give the key that it was sealed with, here or in HOLDFAST_STORAGE_KEY_PREVIOUS (a key that "
                        "Holdfast made itself is in FASTMCP_HOME/keys/storage.key), or start with an empty volume",
                    )
                ]
            ) from None

    async def _get_managed_entry(self, *, collection: str, key: str) -> ManagedEntry | None:
        for lookup_key in self._seal.lookup_keys(collection, key):
            stored = await self._store.read(lookup_key, collection=collection)
            if stored is None:
                continue
            try:
                return self._seal.open(collection, key, stored.value_as_dict)
            except Unsealable:
                log.warning("set aside a record that was not sealed with our key", extra={"collection": collection})
                await self._store.set_aside(lookup_key, collection=collection, entry=stored)
        return None

    async def _put_managed_entry(self, *, collection: str, key: str, managed_entry: ManagedEntry) -> None:
        current, *previous = self._seal.lookup_keys(collection, key)
        sealed = self._seal.close(collection, key, managed_entry)
        await self._store.put(current, sealed, collection=collection, ttl=managed_entry.ttl)
        for lookup_key in previous:
            await self._store.delete(lookup_key, collection=collection)

    async def _delete_managed_entry(self, *, key: str, collection: str) -> bool:
        lookup_keys = self._seal.lookup_keys(collection, key)
        return any([await self._store.delete(lookup_key, collection=collection) for lookup_key in lookup_keys])

    async def add(
        self, key: str, value: Mapping[str, Any], *, collection: str | None = None, ttl: float | None = None
    ) -> bool:
        """Store a record unless there is one that lives. One that is not ours is set aside first."""
        collection = collection or self.default_collection
        name = self._seal.lookup_keys(collection, key)[0]
        created_at, _, expires_at = prepare_entry_timestamps(ttl=ttl)
        entry = ManagedEntry(value=value, created_at=created_at, expires_at=expires_at)
        sealed = self._seal.close(collection, key, entry)
        for _ in range(2):
            if await self._store.add(name, sealed, collection=collection, ttl=ttl):
                return True
            if await self.get(key, collection=collection) is not None:
                return False
        return False

    async def entries(self, collection: str) -> AsyncIterator[tuple[str, ManagedEntry]]:
        """Every record of a collection that we sealed, with its key."""
        async for name, stored in self._store.entries(collection):
            try:
                key, entry = self._seal.open_by_name(collection, name, stored.value_as_dict)
            except Unsealable:
                continue
            if not entry.is_expired:
                yield key, entry

    async def close(self) -> None:
        await self._store.close()
