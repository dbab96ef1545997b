"""Records in one SQLite database."""

import asyncio
import logging
import sqlite3
import time
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from diskcache import Cache, Disk
from diskcache.core import MODE_RAW, UNKNOWN
from key_value.aio._utils.compound import compound_key
from key_value.aio._utils.managed_entry import ManagedEntry
from key_value.aio._utils.time_to_live import prepare_entry_timestamps
from key_value.aio.errors import DeserializationError
from key_value.aio.stores.disk import DiskStore

from mcp_holdfast.storage.backends.backend import Backend
from mcp_holdfast.storage.backends.swept import EXPIRED_FOR, Swept

log = logging.getLogger(__name__)

Result = TypeVar("Result")
QUARANTINE_COLLECTION = "quarantine"


class InlineTextDisk(Disk):  # type: ignore[misc]  # diskcache has no type information
    """Keeps text in the database and reads nothing else.

    diskcache would unpickle a value or open the file that a row names: whoever can write the database could run code
    in the server (CVE-2025-69872) or make it read any file.
    """

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> str | None:
        if mode == MODE_RAW and isinstance(value, str):
            return value
        log.warning("ignored a row of the disk store that is not text")
        return None

    def store(self, value: Any, read: bool, key: Any = UNKNOWN) -> tuple[int, int, None, str]:
        if not isinstance(value, str):
            raise TypeError(f"the disk store holds text, not {type(value).__name__}")
        return 0, MODE_RAW, None, value


class SQLiteDisk(DiskStore, Backend):
    """Records in one SQLite database, in write-ahead mode, for the processes of one machine."""

    def __init__(self, directory: Path) -> None:
        super().__init__(disk_cache=_open_database(directory))

    async def _get_managed_entry(self, *, key: str, collection: str) -> ManagedEntry | None:
        try:
            return await _in_thread(super()._get_managed_entry(key=key, collection=collection))
        except DeserializationError:
            log.warning("set aside a damaged record of the disk store", extra={"collection": collection})
            await self.set_aside(key, collection=collection, entry=None)
            return None

    async def _put_managed_entry(self, *, key: str, collection: str, managed_entry: ManagedEntry) -> None:
        await _in_thread(super()._put_managed_entry(key=key, collection=collection, managed_entry=managed_entry))

    async def _delete_managed_entry(self, *, key: str, collection: str) -> bool:
        return await _in_thread(super()._delete_managed_entry(key=key, collection=collection))

    async def add(self, key: str, value: Mapping[str, Any], *, collection: str, ttl: float | None = None) -> bool:
        await self.setup_collection(collection=collection)
        created_at, seconds, expires_at = prepare_entry_timestamps(ttl=ttl)
        entry = ManagedEntry(value=value, created_at=created_at, expires_at=expires_at)
        text = self._serialization_adapter.dump_json(entry=entry, key=key, collection=collection)
        row = compound_key(collection=collection, key=key)
        return bool(await asyncio.to_thread(self._cache.add, row, text, expire=seconds, retry=True))

    async def entries(self, collection: str) -> AsyncIterator[tuple[str, ManagedEntry]]:
        await self.setup_collection(collection=collection)
        for key in await asyncio.to_thread(self._keys, collection):
            if (entry := await self.read(key, collection=collection)) is not None:
                yield key, entry

    def _keys(self, collection: str) -> list[str]:
        prefix = compound_key(collection=collection, key="")
        return [row.removeprefix(prefix) for row in self._cache if isinstance(row, str) and row.startswith(prefix)]

    async def set_aside(self, key: str, *, collection: str, entry: ManagedEntry | None) -> None:
        """Move a row to the quarantine; of an entry, only if the row still holds it."""
        await asyncio.to_thread(self._move_to_quarantine, compound_key(collection=collection, key=key), entry)

    def _move_to_quarantine(self, row: str, entry: ManagedEntry | None) -> None:
        with self._cache.transact():
            text = str(self._cache.get(row))
            if entry is None or self._serialization_adapter.load_json(json_str=text).value == entry.value:
                self._cache.set(compound_key(collection=QUARANTINE_COLLECTION, key=row), text)
                self._cache.delete(row)

    async def sweep(self, *, limit: int, quarantine: float) -> AsyncGenerator[Swept, None]:
        # Finds expired rows by an index and deletes 100 in a transaction; there are few, since each write deletes some.
        expired = await asyncio.to_thread(self._cache.expire, time.time() - EXPIRED_FOR)
        yield Swept(examined=expired, expired=expired)
        while (removed := await asyncio.to_thread(self._empty_quarantine, time.time() - quarantine, limit)) > 0:
            yield Swept(examined=removed, quarantined=removed)

    def _empty_quarantine(self, before: float, limit: int) -> int:
        """Delete at most `limit` rows that were set aside before then (seconds since the epoch); tell how many."""
        first = compound_key(collection=QUARANTINE_COLLECTION, key="")
        behind_last = first[:-1] + chr(ord(first[-1]) + 1)
        chosen = "SELECT rowid FROM Cache WHERE raw = 1 AND key >= ? AND key < ? AND store_time < ? LIMIT ?"
        with self._cache.transact():
            delete = self._cache._sql(
                f"DELETE FROM Cache WHERE rowid IN ({chosen})",  # noqa: S608  # nothing in it comes from outside
                (first, behind_last, before, limit),
            )
            return int(delete.rowcount)

    async def close(self) -> None:
        await asyncio.to_thread(self._cache.close)


async def _in_thread(operation: Coroutine[Any, Any, Result]) -> Result:
    """Run one of DiskStore's operations where SQLite cannot hold up the event loop."""
    return await asyncio.to_thread(_finish, operation)


def _finish(operation: Coroutine[Any, Any, Result]) -> Result:
    # DiskStore's coroutines never wait for anything, so the first step is also the last one.
    try:
        operation.send(None)
    except StopIteration as finished:
        return cast("Result", finished.value)
    raise RuntimeError("a DiskStore operation waited for the event loop")


def _open_database(directory: Path) -> Cache:
    try:
        return _database(directory)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        aside = directory.with_name(f"{directory.name}.corrupt-{int(time.time())}")
        directory.rename(aside)
        log.error("set the damaged database aside as %s and began an empty one: %s", aside, error)
        return _database(directory)


def _database(directory: Path) -> Cache:
    # SQLite's own FULL: an answered request must survive a power cut, not only a killed process.
    return Cache(directory, disk=InlineTextDisk, eviction_policy="none", sqlite_synchronous=2, timeout=10)


def open_disk(directory: Path) -> SQLiteDisk:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return SQLiteDisk(directory)
