"""The stores that hold sealed records, one small function each."""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar, cast

from diskcache import Cache, Disk
from diskcache.core import MODE_RAW, UNKNOWN
from key_value.aio._utils.compound import compound_key
from key_value.aio._utils.managed_entry import ManagedEntry
from key_value.aio.errors import DeserializationError
from key_value.aio.stores.base import BaseStore
from key_value.aio.stores.disk import DiskStore
from key_value.aio.stores.filetree import (
    FileTreeStore,
    FileTreeV1CollectionSanitizationStrategy,
    FileTreeV1KeySanitizationStrategy,
)
from key_value.aio.stores.memory import MemoryStore

log = logging.getLogger(__name__)

Result = TypeVar("Result")
QUARANTINE_COLLECTION = "quarantine"


class Backend(BaseStore):
    """A store that hands out whole entries, for sealing to judge them."""

    async def read(self, key: str, *, collection: str) -> ManagedEntry | None:
        await self.setup_collection(collection=collection)
        entry = await self._get_managed_entry(key=key, collection=collection)
        return None if entry is None or entry.is_expired else entry


class FileTree(FileTreeStore, Backend):
    """One file a record; damaged ones are renamed to `*.corrupt`."""

    async def set_aside(self, key: str, *, collection: str, entry: ManagedEntry) -> None:
        await self._set_aside_entry(key=key, collection=collection, entry=entry)

    async def close(self) -> None:
        """Files are closed after each operation."""


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

    async def set_aside(self, key: str, *, collection: str, entry: ManagedEntry | None) -> None:
        """Move a row to the quarantine; of an entry, only if the row still holds it."""
        await asyncio.to_thread(self._move_to_quarantine, compound_key(collection=collection, key=key), entry)

    def _move_to_quarantine(self, row: str, entry: ManagedEntry | None) -> None:
        with self._cache.transact():
            text = str(self._cache.get(row))
            if entry is None or self._serialization_adapter.load_json(json_str=text).value == entry.value:
                self._cache.set(compound_key(collection=QUARANTINE_COLLECTION, key=row), text)
                self._cache.delete(row)

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


def open_filetree(directory: Path) -> FileTree:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return FileTree(
        data_directory=directory,
        key_sanitization_strategy=FileTreeV1KeySanitizationStrategy(directory),
        collection_sanitization_strategy=FileTreeV1CollectionSanitizationStrategy(directory),
    )


def open_disk(directory: Path) -> SQLiteDisk:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return SQLiteDisk(directory)


def open_memory() -> MemoryStore:
    return MemoryStore()
