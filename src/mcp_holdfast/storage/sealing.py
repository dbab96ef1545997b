"""Encrypt every record and bind it to its place: collection, key and expiry travel inside the ciphertext.

A record that was planted, swapped, re-dated, truncated or never encrypted is a miss; it is set aside and reported.
"""

import logging
import math
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from key_value.aio._utils.managed_entry import ManagedEntry
from key_value.aio._utils.time_to_live import prepare_entry_timestamps
from key_value.aio.errors import KeyValueOperationError
from key_value.aio.stores.base import BaseStore

from mcp_holdfast.settings import ConfigurationError, Problem
from mcp_holdfast.storage.backends import Backend
from mcp_holdfast.storage.keys import KeyRing
from mcp_holdfast.storage.seal import LookupNames, Seal, Unsealable, is_sealed

log = logging.getLogger(__name__)

HOLDFAST_COLLECTION = "holdfast"
KEY_CHECK = "key_check"
KEY_CHECK_COPIES = (KEY_CHECK, f"{KEY_CHECK}_copy")
"""Where it is stored; without one of them no record could be found any more."""

LOOKED_AT_EVERY, FOLLOWED_WITHIN = 5.0, 30.0
"""Seconds after which a read, and a write at the latest, looks which key the store is sealed with.

Requests read before they write, so a write seldom has to: what an identity provider has just issued must be stored at
once.
"""

SHORTEST_TTL = 0.001

OTHER_KEY = Problem(
    "HOLDFAST_STORAGE_KEY",
    "the store was sealed with another key, so none of its sign-ins could be read",
    "Give the key that it was sealed with, here or in HOLDFAST_STORAGE_KEY_PREVIOUS (a key that Holdfast made "
    "itself is in FASTMCP_HOME/keys/storage.key), or start with an empty volume",
)


class SealedWithAnotherKey(KeyValueOperationError):
    """The store was given a new key while this replica, which does not have it, was running."""

    def __init__(self, message: str) -> None:
        super().__init__(message=message)


class SealedStore(BaseStore):
    """A store that keeps only sealed records in the store below it."""

    def __init__(self, store: Backend, ring: KeyRing) -> None:
        super().__init__(stable_api=True)
        self._store = store
        self._store.renews_seals = len(ring.secrets) > 1
        self.seal = Seal(ring)
        # The oldest key is the one that the store began with, unless that was dropped since.
        self._names = LookupNames(ring.derive("storage lookup")[-1])
        self._checked_at = -math.inf

    async def check_key(self) -> None:
        """Refuse a store that was sealed with other keys; leave our mark on one that has none.

        What is stored from now on is sealed with the key that the mark is sealed with, and only `adopt_first_key`
        changes that: so no replica seals with a key that another one was not given yet.

        Raises:
            ConfigurationError: the store belongs to another key.

        """
        found = {copy: await self._read_below(copy) for copy in KEY_CHECK_COPIES}
        is_ours = {copy: self.is_our_mark(stored) for copy, stored in found.items()}
        known = next((found[copy] for copy in KEY_CHECK_COPIES if is_ours[copy]), None)
        if known is not None:
            self._keep_to(known)
        elif any(stored is not None and is_sealed(stored.value_as_dict) for stored in found.values()):
            raise ConfigurationError([OTHER_KEY])
        for copy, stored in found.items():
            if not is_ours[copy]:
                await self._mark(copy, stored)

    def is_our_mark(self, stored: ManagedEntry | None) -> bool:
        """Whether a copy of the key check was sealed with a key of the ring."""
        try:
            return stored is not None and bool(self.seal.open(HOLDFAST_COLLECTION, KEY_CHECK, stored.value_as_dict))
        except Unsealable:
            return False

    async def adopt_first_key(self) -> None:
        """Seal what is stored from now on with the first key of the ring.

        Other replicas do so FOLLOWED_WITHIN seconds later; those that do not have it refuse to go on.

        Raises:
            ConfigurationError: the store belongs to another key.

        """
        await self.check_key()
        self.seal.use_first()
        # The first copy decides, so it comes last.
        for copy in reversed(KEY_CHECK_COPIES):
            await self._store.put(copy, self._our_mark(), collection=HOLDFAST_COLLECTION)

    def _keep_to(self, mark: ManagedEntry) -> None:
        """Seal with the key, and use the names, of a mark of ours."""
        self.seal.use_that_of(mark.value_as_dict)
        check = self.seal.open(HOLDFAST_COLLECTION, KEY_CHECK, mark.value_as_dict)
        self._names = LookupNames.from_value(check.value_as_dict)

    def _our_mark(self) -> dict[str, Any]:
        return self.seal.close(HOLDFAST_COLLECTION, KEY_CHECK, ManagedEntry(value=self._names.to_value()))

    async def _mark(self, copy: str, damaged: ManagedEntry | None) -> None:
        """Store a copy of the mark, unless another replica begins the same store now: then do as that one does."""
        if damaged is not None:
            log.warning("set aside a damaged key check", extra={"collection": HOLDFAST_COLLECTION})
            await self._store.set_aside(copy, collection=HOLDFAST_COLLECTION, entry=damaged)
        if not await self._store.add(copy, self._our_mark(), collection=HOLDFAST_COLLECTION):
            stored = await self._read_below(copy)
            if stored is not None and self.is_our_mark(stored):
                self._keep_to(stored)

    async def _read_below(self, name: str) -> ManagedEntry | None:
        return await self._store.read(name, collection=HOLDFAST_COLLECTION)

    async def _follow(self, seconds: float) -> None:
        """Seal as the store is sealed, or was `seconds` ago.

        Raises:
            SealedWithAnotherKey: with a key that this replica does not have.

        """
        if time.monotonic() < self._checked_at + seconds:
            return
        # Set first, so that of many operations at once one looks.
        self._checked_at = time.monotonic()
        try:
            await self.check_key()
        except BaseException as error:
            self._checked_at = -math.inf
            if isinstance(error, ConfigurationError):
                raise SealedWithAnotherKey(str(error)) from None
            raise

    async def _setup(self) -> None:
        await self._follow(FOLLOWED_WITHIN)

    async def _get_managed_entry(self, *, collection: str, key: str) -> ManagedEntry | None:
        await self._follow(LOOKED_AT_EVERY)
        name = self._names.name_of(collection, key)
        stored = await self._store.read(name, collection=collection)
        if stored is None:
            return None
        try:
            return self.seal.open(collection, key, stored.value_as_dict)
        except Unsealable:
            if is_sealed(stored.value_as_dict):
                # Perhaps with a key that the store has by now and this replica has not: then it must stay.
                await self._follow(0)
            log.warning("set aside a record that was not sealed with our key", extra={"collection": collection})
            await self._store.set_aside(name, collection=collection, entry=stored)
            return None

    async def _put_managed_entry(self, *, collection: str, key: str, managed_entry: ManagedEntry) -> None:
        await self._follow(FOLLOWED_WITHIN)
        sealed = self.seal.close(collection, key, managed_entry)
        name = self._names.name_of(collection, key)
        ttl = managed_entry.ttl
        # What expired while the key was checked is stored all the same: it takes the place of what was there.
        await self._store.put(name, sealed, collection=collection, ttl=None if ttl is None else max(ttl, SHORTEST_TTL))

    async def _delete_managed_entry(self, *, key: str, collection: str) -> bool:
        return bool(await self._store.delete(self._names.name_of(collection, key), collection=collection))

    async def add(
        self, key: str, value: Mapping[str, Any], *, collection: str | None = None, ttl: float | None = None
    ) -> bool:
        """Store a record unless there is one that lives. One that is not ours is set aside first."""
        collection = collection or self.default_collection
        await self._follow(FOLLOWED_WITHIN)
        name = self._names.name_of(collection, key)
        created_at, _, expires_at = prepare_entry_timestamps(ttl=ttl)
        entry = ManagedEntry(value=value, created_at=created_at, expires_at=expires_at)
        sealed = self.seal.close(collection, key, entry)
        for _ in range(2):
            if await self._store.add(name, sealed, collection=collection, ttl=ttl):
                return True
            if await self.get(key, collection=collection) is not None:
                return False
        return False

    async def entries(self, collection: str) -> AsyncIterator[tuple[str, ManagedEntry]]:
        """Every record of a collection that we sealed, with its key."""
        await self.setup()
        async for name, stored in self._store.entries(collection):
            try:
                sealed_for, key, entry = self.seal.open_any(stored.value_as_dict)
            except Unsealable:
                continue
            is_in_its_place = (collection, name) == (sealed_for, self._names.name_of(sealed_for, key))
            if is_in_its_place and not entry.is_expired:
                yield key, entry

    async def close(self) -> None:
        await self._store.close()
