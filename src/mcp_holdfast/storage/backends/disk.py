"""Records in one SQLite database."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

from key_value.aio._utils.compound import DEFAULT_COMPOUND_SEPARATOR as COMPOUND
from key_value.aio._utils.compound import compound_key, uncompound_key
from key_value.aio._utils.managed_entry import ManagedEntry
from key_value.aio._utils.time_to_live import prepare_entry_timestamps
from key_value.aio.errors import DeserializationError
from key_value.aio.stores.disk import DiskStore

from mcp_holdfast import metrics
from mcp_holdfast.storage.backends.backend import Backend
from mcp_holdfast.storage.backends.database import Database, open_database
from mcp_holdfast.storage.backends.swept import EXPIRED_FOR, Swept

log = logging.getLogger(__name__)

Result = TypeVar("Result")
QUARANTINE_COLLECTION = "quarantine"
UNREADABLE = (DeserializationError, OverflowError, TypeError, ValueError)
"""What a row raises that was damaged; its time of expiry may be no time."""


class SQLiteDisk(DiskStore, Backend):
    """Records in one SQLite database, in write-ahead mode, for the processes of one machine."""

    def __init__(self, directory: Path) -> None:
        super().__init__(disk_cache=open_database(directory))
        self._database: Database = self._cache

    async def _get_managed_entry(self, *, key: str, collection: str) -> ManagedEntry | None:
        try:
            return await self._finish(partial(super()._get_managed_entry, key=key, collection=collection))
        except UNREADABLE:
            metrics.count_quarantined("damaged")
            log.warning("set aside a damaged record of the disk store", extra={"collection": collection})
            await self.set_aside(key, collection=collection, entry=None)
            return None

    async def _put_managed_entry(self, *, key: str, collection: str, managed_entry: ManagedEntry) -> None:
        put = partial(super()._put_managed_entry, key=key, collection=collection, managed_entry=managed_entry)
        await self._finish(put)

    async def _delete_managed_entry(self, *, key: str, collection: str) -> bool:
        return await self._finish(partial(super()._delete_managed_entry, key=key, collection=collection))

    async def add(self, key: str, value: Mapping[str, Any], *, collection: str, ttl: float | None = None) -> bool:
        await self.setup_collection(collection=collection)
        created_at, seconds, expires_at = prepare_entry_timestamps(ttl=ttl)
        entry = ManagedEntry(value=value, created_at=created_at, expires_at=expires_at)
        text = self._serialization_adapter.dump_json(entry=entry, key=key, collection=collection)
        row = compound_key(collection=collection, key=key)
        return bool(await self._run(partial(self._cache.add, row, text, expire=seconds)))

    async def entries(self, collection: str) -> AsyncIterator[tuple[str, ManagedEntry]]:
        await self.setup_collection(collection=collection)
        for key in await self._run(self._keys, collection):
            if (entry := await self.read(key, collection=collection)) is not None:
                yield key, entry

    async def collection_names(self) -> list[str]:
        return await self._run(self._collections)

    def _collections(self) -> list[str]:
        names = {uncompound_key(row)[0] for row in self._cache if isinstance(row, str) and COMPOUND in row}
        return sorted(names - {QUARANTINE_COLLECTION})

    async def count(self, collection: str, *, at_most: int) -> int:
        return await self._run(self._count, collection, at_most)

    def _count(self, collection: str, at_most: int) -> int:
        chosen = "SELECT 1 FROM Cache WHERE raw = 1 AND key >= ? AND key < ? LIMIT ?"
        counted = self._cache._sql(f"SELECT count(*) FROM ({chosen})", (*_rows_of(collection), at_most))  # noqa: S608
        return int(counted.fetchone()[0])

    async def replace(self, key: str, *, collection: str, expected: ManagedEntry, value: Mapping[str, Any]) -> bool:
        entry = ManagedEntry(value=value, created_at=expected.created_at, expires_at=expected.expires_at)
        text = self._serialization_adapter.dump_json(entry=entry, key=key, collection=collection)
        return await self._run(self._replace, compound_key(collection=collection, key=key), expected, text)

    def _replace(self, row: str, expected: ManagedEntry, text: str) -> bool:
        with self._cache.transact():
            if self._value_in(row) != expected.value:
                return False
            self._cache._sql("UPDATE Cache SET value = ? WHERE raw = 1 AND key = ?", (text, row))
            return True

    def _keys(self, collection: str) -> list[str]:
        # By the index: asking for the beginning of a key would read every row.
        found = self._cache._sql("SELECT key FROM Cache WHERE raw = 1 AND key >= ? AND key < ?", _rows_of(collection))
        return [row.removeprefix(_rows_of(collection)[0]) for (row,) in found]

    async def set_aside(self, key: str, *, collection: str, entry: ManagedEntry | None) -> None:
        """Move a row to the quarantine; of an entry, only if the row still holds it."""
        await self._run(self._move_to_quarantine, compound_key(collection=collection, key=key), entry)

    def _move_to_quarantine(self, row: str, entry: ManagedEntry | None) -> None:
        with self._cache.transact():
            if entry is not None and self._value_in(row) != entry.value:
                return
            self._cache._sql(
                "UPDATE OR REPLACE Cache SET key = ?, store_time = ?, expire_time = NULL WHERE raw = 1 AND key = ?",
                (compound_key(collection=QUARANTINE_COLLECTION, key=row), time.time(), row),
            )

    def _value_in(self, row: str) -> Mapping[str, Any] | None:
        try:
            return self._serialization_adapter.load_json(json_str=str(self._cache.get(row))).value
        except UNREADABLE:
            return None

    async def sweep(self, *, limit: int, quarantine: float) -> AsyncGenerator[Swept, None]:
        # Finds expired rows by an index and deletes 100 in a transaction; there are few, since each write deletes some.
        expired = await self._run(self._cache.expire, time.time() - EXPIRED_FOR)
        yield Swept(examined=expired, expired=expired)
        while (removed := await self._run(self._empty_quarantine, time.time() - quarantine, limit)) > 0:
            yield Swept(examined=removed, quarantined=removed)

    def _empty_quarantine(self, before: float, limit: int) -> int:
        """Delete at most `limit` rows that were set aside before then (seconds since the epoch); tell how many."""
        chosen = "SELECT rowid FROM Cache WHERE raw = 1 AND key >= ? AND key < ? AND store_time < ? LIMIT ?"
        with self._cache.transact():
            delete = self._cache._sql(
                f"DELETE FROM Cache WHERE rowid IN ({chosen})",  # noqa: S608  # nothing in it comes from outside
                (*_rows_of(QUARANTINE_COLLECTION), before, limit),
            )
            return int(delete.rowcount)

    async def _finish(self, operation: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Do what one of DiskStore's operations does."""
        return await self._run(lambda: _finish(operation()))

    async def _run(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """Do something where SQLite cannot hold up the event loop."""
        return await asyncio.to_thread(self._database.healing, partial(work, *arguments))

    async def close(self) -> None:
        await asyncio.to_thread(self._cache.close)


def _rows_of(collection: str) -> tuple[str, str]:
    """Between which keys of the database the rows of a collection are, without the second one."""
    first = compound_key(collection=collection, key="")
    return first, first[:-1] + chr(ord(first[-1]) + 1)


def _finish(operation: Coroutine[Any, Any, Result]) -> Result:
    # DiskStore's coroutines never wait for anything, so the first step is also the last one.
    try:
        operation.send(None)
    except StopIteration as finished:
        return cast("Result", finished.value)
    raise RuntimeError("a DiskStore operation waited for the event loop")


def open_disk(directory: Path) -> SQLiteDisk:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return SQLiteDisk(directory)
