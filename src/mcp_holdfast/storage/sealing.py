"""Encrypt every record and bind it to its place: collection, key and expiry travel inside the ciphertext.

A record that was planted, swapped, re-dated, truncated or never encrypted is a miss; it is set aside and reported.
"""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from key_value.aio._utils.managed_entry import ManagedEntry
from key_value.aio._utils.time_to_live import now_plus, prepare_entry_timestamps
from key_value.aio.errors import KeyValueOperationError
from key_value.aio.stores.base import BaseStore

from mcp_holdfast import metrics
from mcp_holdfast.settings import ConfigurationError, Problem
from mcp_holdfast.storage.backends import Backend
from mcp_holdfast.storage.keys import KeyRing
from mcp_holdfast.storage.seal import LookupNames, Seal, Unsealable, is_sealed

log = logging.getLogger(__name__)

HOLDFAST_COLLECTION = "holdfast"
KEY_CHECK = "key_check"
KEY_CHECK_COPIES = (KEY_CHECK, f"{KEY_CHECK}_copy")
"""Where it is stored; without one of them no record could be found any more."""

LOOKED_AT_EVERY, FOLLOWED_WITHIN = 5.0, 15.0
"""Seconds after which a process looks again which key the store is sealed with, and by which it has seen it."""

SHORTEST_TTL = 0.001


def sealed_with_another_key(sealed: str, *, otherwise: str = "") -> Problem:
    """The problem of a store, or a copy of one, to which no given key belongs; `otherwise` may follow the remedy."""
    return Problem(
        "HOLDFAST_STORAGE_KEY",
        f"{sealed} was sealed with another key, so none of its sign-ins could be read",
        "Give the key that it was sealed with, here or in HOLDFAST_STORAGE_KEY_PREVIOUS (a key that Holdfast made "
        f"itself is in keys/storage.key of its volume){otherwise}",
    )


OTHER_KEY = sealed_with_another_key("the store", otherwise=", or begin with an empty store")
UNFINISHED_ROTATION = Problem(
    "HOLDFAST_STORAGE_KEY_PREVIOUS",
    "is not set, and a rotation has not ended: the key before this one still seals a part of the store",
    "Set it to that key again, and run 'holdfast rotate' to its end",
)
LOST_KEY_CHECK = Problem(
    "FASTMCP_HOME",
    f"both copies of {HOLDFAST_COLLECTION}/{KEY_CHECK} are gone, and without them nothing can be found",
    "Restore one of them from a backup, or begin with an empty store",
)
REDATED_BY = 10.0
"""Seconds by which the expiry that a backend knows may differ from the one that is sealed."""


class SealedWithAnotherKey(KeyValueOperationError):
    """The store was given a new key while this replica, which does not have it, was running."""

    def __init__(self, message: str) -> None:
        super().__init__(message=message)


class SealedStore(BaseStore):
    """A store that keeps only sealed records in the store below it."""

    def __init__(self, store: Backend, ring: KeyRing) -> None:
        super().__init__(stable_api=True)
        self._store = store
        self._store.may_be_renewed = len(ring.secrets) > 1
        self.has_previous_keys = len(ring.secrets) > 1
        self.seal = Seal(ring)
        # The oldest key is the one that the store began with, unless that was dropped since.
        self._names = LookupNames(ring.derive("storage lookup")[-1])
        self._is_checked = False
        self._refusal = ""
        self._following: asyncio.Task[None] | None = None
        self.failed_at = -math.inf
        """When the store was last looked at in vain (time.monotonic)."""
        self.is_rotating = False
        """Whether a part of the store may still be sealed with a previous key."""

    async def check_key(self) -> None:
        """Refuse a store that was sealed with other keys; leave a key check in one that has none.

        What is stored from now on is sealed with the key that the check is sealed with, and only `adopt_first_key`
        changes that: so no replica seals with a key that another one was not given yet.

        Raises:
            ConfigurationError: the store belongs to another key, in whole or in part.

        """
        for copy, stored in (await self.look_at_key()).items():
            if stored is None or not is_sealed(stored.value_as_dict):
                await self._mend(copy, stored)
        self._is_checked = True

    async def look_at_key(self) -> dict[str, ManagedEntry | None]:
        """Do what `check_key` does but for writing anything; returns the copies of the key check as they are stored.

        Raises:
            ConfigurationError: the store belongs to another key, in whole or in part.

        """
        found = {copy: await self._store.read(copy, collection=HOLDFAST_COLLECTION) for copy in KEY_CHECK_COPIES}
        checks = [check for check in map(self._opened, found.values()) if check is not None]
        if checks:
            # The first one decides: it is the last one to be changed.
            self._keep_to(*checks[0])
        else:
            await self._refuse_records_of_others()
        return found

    async def adopt_first_key(self) -> None:
        """Seal what is stored from now on with the first key of the ring.

        Other replicas do so FOLLOWED_WITHIN seconds later; those that do not have it refuse to go on. Until
        `end_rotation`, the store says that a part of it may be sealed with another key.

        Raises:
            ConfigurationError: the store belongs to another key.

        """
        await self.check_key()
        self.seal.use_first()
        self.is_rotating = True
        await self._put_key_check()

    async def end_rotation(self) -> None:
        """Say that everything is sealed with the first key."""
        self.is_rotating = False
        await self._put_key_check()

    async def _put_key_check(self) -> None:
        for copy in reversed(KEY_CHECK_COPIES):
            await self._store.put(copy, self._key_check(), collection=HOLDFAST_COLLECTION)

    def _key_check(self) -> dict[str, Any]:
        value = {**self._names.to_value(), "rotating": self.is_rotating}
        return self.seal.close(HOLDFAST_COLLECTION, KEY_CHECK, ManagedEntry(value=value))

    def _opened(self, stored: ManagedEntry | None) -> tuple[ManagedEntry, dict[str, Any]] | None:
        """A copy of the key check and what it says; None if it is missing or damaged.

        Raises:
            ConfigurationError: it was sealed with another key.

        """
        if stored is None or not is_sealed(stored.value_as_dict):
            return None
        try:
            return stored, self.seal.open(HOLDFAST_COLLECTION, KEY_CHECK, stored.value_as_dict).value_as_dict
        except Unsealable:
            raise ConfigurationError([OTHER_KEY]) from None

    def _keep_to(self, stored: ManagedEntry, check: dict[str, Any]) -> None:
        """Seal with the key, and use the names, of a key check.

        Raises:
            ConfigurationError: it is not the one that this process began with, or tells of a key that is missing.

        """
        names = LookupNames.from_value(check)
        if self._is_checked and names != self._names:
            raise ConfigurationError([OTHER_KEY])
        if check["rotating"] and not self.has_previous_keys:
            raise ConfigurationError([UNFINISHED_ROTATION])
        self.seal.use_that_of(stored.value_as_dict)
        self._names, self.is_rotating = names, check["rotating"]

    async def _refuse_records_of_others(self) -> None:
        """Look at one sealed record where no key check tells whose the store is.

        Raises:
            ConfigurationError: there is one, and it is not sealed with our key, or its name cannot be told.

        """
        for collection in await self._store.collection_names():
            async for name, stored in self._store.entries(collection):
                # A key check may have come in between: another replica begins the store, too.
                if name in KEY_CHECK_COPIES or not is_sealed(stored.value_as_dict):
                    continue
                try:
                    sealed_for, key, _ = self.seal.open_any(stored.value_as_dict)
                except Unsealable:
                    raise ConfigurationError([OTHER_KEY]) from None
                if name != self._names.name_of(sealed_for, key):
                    raise ConfigurationError([LOST_KEY_CHECK])
                return

    async def _mend(self, copy: str, damaged: ManagedEntry | None) -> None:
        """Store a copy of the key check, unless another replica begins the same store now: then do as that one does.

        Raises:
            ConfigurationError: that one has another key.

        """
        if damaged is not None:
            log.warning("set aside a damaged key check", extra={"collection": HOLDFAST_COLLECTION})
            metrics.count_quarantined("unsealed")
            await self._store.set_aside(copy, collection=HOLDFAST_COLLECTION, entry=damaged)
        if not await self._store.add(copy, self._key_check(), collection=HOLDFAST_COLLECTION):
            check = self._opened(await self._store.read(copy, collection=HOLDFAST_COLLECTION))
            if check is not None:
                self._keep_to(*check)

    async def _begin(self) -> None:
        """See to it that this process knows the store's key, and goes on looking for changes of it.

        Not before each write: what an identity provider has just issued must be stored before anything else.

        Raises:
            SealedWithAnotherKey: it is one that this process does not have.

        """
        if self._following is None or self._following.done():
            # Made in each event loop that uses the store: gunicorn's master does, before it forks.
            self._following = asyncio.create_task(self._follow())
        if not self._is_checked:
            await self._look()
        if self._refusal:
            raise SealedWithAnotherKey(self._refusal)

    async def _look(self) -> None:
        try:
            await self.check_key()
        except ConfigurationError as error:
            self._refusal = str(error)
            raise SealedWithAnotherKey(self._refusal) from None
        self._refusal = ""

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(LOOKED_AT_EVERY)
            try:
                await self._look()
            except SealedWithAnotherKey as refusal:
                log.error("the store is not used any more: %s", refusal)
            except Exception as error:  # noqa: BLE001  # whatever the store does, what was known stays true for now
                self.failed_at = time.monotonic()
                log.debug("cannot look which key the store is sealed with", extra={"error": repr(error)})

    async def _setup(self) -> None:
        await self._begin()

    async def _get_managed_entry(self, *, collection: str, key: str) -> ManagedEntry | None:
        await self._begin()
        name = self._names.name_of(collection, key)
        stored = await self._store.read(name, collection=collection)
        if stored is None:
            return None
        reason: metrics.QuarantineReason = "redated"
        try:
            entry = self.seal.open(collection, key, stored.value_as_dict)
            if not _is_redated(stored, entry):
                return entry
        except Unsealable:
            reason = "wrong_seal" if is_sealed(stored.value_as_dict) else "unsealed"
            if reason == "wrong_seal":
                # Perhaps with a key that the store has by now and this replica has not: then it must stay.
                await self._look()
        metrics.count_quarantined(reason)
        log.warning("set aside a record that was not sealed with our key", extra={"collection": collection})
        await self._store.set_aside(name, collection=collection, entry=stored)
        return None

    async def _put_managed_entry(self, *, collection: str, key: str, managed_entry: ManagedEntry) -> None:
        await self._begin()
        sealed = self.seal.close(collection, key, managed_entry)
        expires_at = managed_entry.expires_at
        if expires_at is not None:
            # What expired while the key was checked is stored all the same: it takes the place of what was there.
            expires_at = max(expires_at, now_plus(SHORTEST_TTL))
        entry = ManagedEntry(value=sealed, created_at=managed_entry.created_at, expires_at=expires_at)
        await self._store.write(self._names.name_of(collection, key), entry, collection=collection)

    async def _delete_managed_entry(self, *, key: str, collection: str) -> bool:
        await self._begin()
        return bool(await self._store.delete(self._names.name_of(collection, key), collection=collection))

    async def add(
        self, key: str, value: Mapping[str, Any], *, collection: str | None = None, ttl: float | None = None
    ) -> bool:
        """Store a record unless there is one that lives. One that is not ours is set aside first."""
        collection = collection or self.default_collection
        await self._begin()
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
        if self._following is not None:
            self._following.cancel()
        await self._store.close()


def _is_redated(stored: ManagedEntry, entry: ManagedEntry) -> bool:
    """Whether the backend was told another expiry than the one that is sealed."""
    if stored.expires_at is None or entry.expires_at is None:
        return stored.expires_at is not entry.expires_at
    return abs((stored.expires_at - entry.expires_at).total_seconds()) > REDATED_BY
