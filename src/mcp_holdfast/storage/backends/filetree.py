"""One file a record."""

import errno
import os
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from functools import cache, wraps
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from anyio import to_thread
from key_value.aio._utils.managed_entry import ManagedEntry, load_from_json
from key_value.aio._utils.time_to_live import prepare_entry_timestamps
from key_value.aio.errors import DeserializationError, StoreSetupError
from key_value.aio.stores.filetree import (
    FileTreeStore,
    FileTreeV1CollectionSanitizationStrategy,
    FileTreeV1KeySanitizationStrategy,
)
from key_value.aio.stores.filetree import store as upstream
from key_value.aio.stores.filetree.store import load_or_set_aside

from mcp_holdfast import metrics
from mcp_holdfast.storage.backends.backend import Backend
from mcp_holdfast.storage.backends.record_directory import content_of, opened_directory
from mcp_holdfast.storage.backends.record_lock import is_open_as, locked
from mcp_holdfast.storage.backends.renewal_lock import RenewalLocks
from mcp_holdfast.storage.backends.swept import EXPIRED_FOR, Swept
from mcp_holdfast.storage.backends.tree_sweep import (
    DESCRIPTION_SUFFIX,
    QUARANTINE_SUFFIX,
    REPLACED_MEANWHILE,
    TEMPORARY_PREFIX,
    TEMPORARY_SUFFIX,
    TreeSweep,
)
from mcp_holdfast.storage.keys import sync_directory

TRIES = 5

NOT_SEALED_BY_US = "unusable"
"""Why `set_aside_entry` sets a file aside, which sealing asks for and counts."""

DAMAGED = (DeserializationError, KeyError, RecursionError, TypeError, ValueError)
"""What a file that holds no record raises."""

UNKNOWN_TO_THE_SERVER = frozenset({errno.ESTALE, errno.EBADF, errno.EIO})
"""How an NFS client says that what was opened is not there any more, or that its server has forgotten who opened it."""


class FileTree(FileTreeStore, Backend):
    """One file a record; damaged ones are renamed to `*.corrupt`.

    Where seals may be renewed, every write asks for a lock: see `replace`.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(
            data_directory=directory,
            key_sanitization_strategy=FileTreeV1KeySanitizationStrategy(directory),
            collection_sanitization_strategy=FileTreeV1CollectionSanitizationStrategy(directory),
        )
        self._locks = RenewalLocks(directory)
        self._directories: dict[str, Path] = {}

    async def add(self, key: str, value: Mapping[str, Any], *, collection: str, ttl: float | None = None) -> bool:
        await self.setup_collection(collection=collection)
        created_at, _, expires_at = prepare_entry_timestamps(ttl=ttl)
        entry = ManagedEntry(value=value, created_at=created_at, expires_at=expires_at)
        text = self._serialization_adapter.dump_json(entry=entry)
        return await to_thread.run_sync(self._add, self._file(key, collection), text.encode())

    async def entries(self, collection: str) -> AsyncIterator[tuple[str, ManagedEntry]]:
        await self.setup_collection(collection=collection)
        for name in await to_thread.run_sync(_record_names, self._directory(collection)):
            if (entry := await self.read(name, collection=collection)) is not None:
                yield name, entry

    async def collection_names(self) -> list[str]:
        return await to_thread.run_sync(_collections_in, Path(self._data_directory))

    async def count(self, collection: str, *, at_most: int) -> int:
        directory = Path(self._data_directory) / self._sanitize_collection(collection)
        return await to_thread.run_sync(_count_records, directory, at_most)

    async def replace(self, key: str, *, collection: str, expected: ManagedEntry, value: Mapping[str, Any]) -> bool:
        await self.setup_collection(collection=collection)
        entry = ManagedEntry(value=value, created_at=expected.created_at, expires_at=expected.expires_at)
        text = self._serialization_adapter.dump_json(entry=entry)
        file = self._file(key, collection)
        async with self._locks.hold(file):
            return await to_thread.run_sync(self._replace, file, expected, text.encode())

    async def set_aside(self, key: str, *, collection: str, entry: ManagedEntry) -> None:
        await self._set_aside_entry(key=key, collection=collection, entry=entry)

    async def sweep(self, *, limit: int, quarantine: float) -> AsyncGenerator[Swept, None]:
        sweep = TreeSweep(Path(self._data_directory), remove_if_expired=self._remove_if_expired, quarantine=quarantine)
        pieces = sweep.pieces(limit)
        while (swept := await to_thread.run_sync(next, pieces, None)) is not None:
            yield swept

    async def close(self) -> None:
        """Files are closed after each operation."""

    async def _get_managed_entry(self, *, key: str, collection: str) -> ManagedEntry | None:
        return await to_thread.run_sync(self._read, self._file(key, collection))

    async def _put_managed_entry(self, *, key: str, collection: str, managed_entry: ManagedEntry) -> None:
        file = self._file(key, collection)
        text = self._serialization_adapter.dump_json(entry=managed_entry)
        async with self._not_being_renewed(file):
            await to_thread.run_sync(_put, file, text.encode())

    async def _delete_managed_entry(self, *, key: str, collection: str) -> bool:
        file = self._file(key, collection)
        async with self._not_being_renewed(file):
            return await to_thread.run_sync(_take, file)

    @asynccontextmanager
    async def _not_being_renewed(self, file: Path) -> AsyncIterator[None]:
        if not self.may_be_renewed:
            yield
            return
        async with self._locks.hold(file):
            yield

    def _directory(self, collection: str) -> Path:
        if collection not in self._directories:
            self._directories[collection] = Path(self._data_directory) / self._sanitize_collection(collection)
        return self._directories[collection]

    def _file(self, key: str, collection: str) -> Path:
        return self._directory(collection) / f"{self._key_sanitization_strategy.sanitize(value=key)}.json"

    def _read(self, file: Path) -> ManagedEntry | None:
        """Read a record, with as few file operations as can be: each may be a round trip.

        Raises:
            FileNotFoundError: the whole store is gone, as where its volume is not mounted any more. Its records are
                not missing then: they cannot be read now.

        """
        try:
            content = self._content_of(file)
        except OSError as error:
            if error.errno not in UNKNOWN_TO_THE_SERVER:
                raise
            # Replaced between being opened and being read.
            content = self._content_of(file)
        if content is None:
            return None
        try:
            return self._entry_of(load_from_json(json_str=content.decode()))
        except DAMAGED:
            return self._load_again(file)

    def _content_of(self, file: Path) -> bytes | None:
        """What a record's file holds, nothing at all where it is no file; None where there is none."""
        try:
            with opened_directory(file.parent) as directory:
                try:
                    return content_of(file.name, directory) or b""
                except FileNotFoundError:
                    return None
        except FileNotFoundError:
            Path(self._data_directory).stat()
            return None

    def _load_again(self, file: Path) -> ManagedEntry | None:
        """Set a file that is damaged aside, unless it was replaced since."""
        with suppress(FileNotFoundError):
            return self._load(file)
        return None

    def _add(self, file: Path, content: bytes) -> bool:
        temporary = _written_beside(file, content)
        try:
            return self._link(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)

    def _replace(self, file: Path, expected: ManagedEntry, content: bytes) -> bool:
        try:
            if self._load(file) != expected:
                return False
        except FileNotFoundError:
            return False
        _put(file, content)
        return True

    def _link(self, temporary: Path, file: Path) -> bool:
        """Give a new record its name, durably, unless that is taken: link(2) has one winner, on NFS too."""
        for _ in range(TRIES):
            try:
                os.link(temporary, file)
            except FileExistsError:
                # NFS may have lost the first reply and repeated the request: then the name is ours already.
                if _links(temporary) > 1:
                    sync_directory(file.parent)
                    return True
            else:
                return _belongs_durably(file, temporary.stat())
            with _unless_replaced_meanwhile():
                if not self._make_way(file):
                    return False
        return False

    def _make_way(self, file: Path) -> bool:
        """Remove a record that has expired, as one of several processes only; tell whether that was done.

        Not by putting another one in its place: an NFS client that has the replaced file open (for the lock) renames it
        away first, and then its name is free for a moment, for others to take.

        Raises:
            FileNotFoundError: there is no record any more.

        """
        with locked(file) as opened:
            if opened is None:
                return False
            entry = self._load(file)
            return entry is None or (entry.is_expired and _take_away(file, opened))

    def _remove_if_expired(self, file: Path) -> bool:
        """Remove a record that expired a while ago, and never one that took its place; tell whether it was removed.

        Raises:
            FileNotFoundError: there is no record any more.

        """
        if not self._expired_a_while_ago(file):
            return False
        with locked(file) as opened:
            return opened is not None and self._expired_a_while_ago(file) and _take_away(file, opened)

    def _expired_a_while_ago(self, file: Path) -> bool:
        entry = self._load(file)
        if entry is None or entry.expires_at is None:
            return False
        return (datetime.now(tz=UTC) - entry.expires_at).total_seconds() > EXPIRED_FOR

    def _load(self, file: Path) -> ManagedEntry | None:
        return load_or_set_aside(file, self._entry_of)

    def _entry_of(self, data: dict[str, Any]) -> ManagedEntry:
        entry = self._serialization_adapter.load_dict(data=data)
        if entry.expires_at is not None and entry.expires_at.tzinfo is None:
            raise DeserializationError(message="expires_at has no time zone")
        return entry


def _take(file: Path) -> bool:
    """Remove a record; of all who do so at once exactly one is told that it was there.

    By renaming it first: where NFS has lost the reply to that, the file is found under its new name. An unlink(2) that
    is repeated finds nothing, and then nobody would have removed it.
    """
    aside = _temporary_beside(file)
    with suppress(FileNotFoundError):
        file.rename(aside)
    try:
        aside.unlink()
    except FileNotFoundError:
        return False
    sync_directory(file.parent)
    return True


def _take_away(file: Path, expected: BinaryIO) -> bool:
    """Remove a file if it is the one that is open; tell whether it was.

    put() replaces files without asking for the lock, so whatever is compared first, the name may belong to a new
    record when it is removed. Renaming takes exactly one file away; only then is it certain which one, and a new one
    is given its name back.
    """
    aside = _temporary_beside(file)
    # On NFS this may also say that a first try, whose reply was lost, has succeeded; opening it tells.
    with suppress(FileNotFoundError):
        file.rename(aside)
    try:
        is_expected = is_open_as(expected, aside)
    except OSError:
        is_expected = False
    if not is_expected:
        # Where this fails too, the file stays aside until it is an hour old.
        with suppress(FileExistsError):
            os.link(aside, file)
    aside.unlink(missing_ok=True)
    return is_expected


def _put(file: Path, content: bytes) -> None:
    """Put a file in its place, durably, as a whole or not at all."""
    with opened_directory(file.parent) as directory:
        temporary = _written_beside(file, content)
        try:
            _rename(temporary, file, content)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        os.fsync(directory)


def _rename(temporary: Path, file: Path, content: bytes) -> None:
    """Rename a file; NFS may have lost the first reply, and then a second try finds it gone already."""
    try:
        temporary.rename(file)
    except FileNotFoundError:
        with opened_directory(file.parent) as directory:
            if content_of(file.name, directory) != content:
                raise


def _belongs_durably(file: Path, ours: os.stat_result) -> bool:
    """See to it that a name that was linked to our file stays, unless it has been given to another one.

    Where it was free only because an NFS client was about to replace what it belonged to, it is that one's now.
    """
    with opened_directory(file.parent) as directory:
        # Where there is none it was ours, and has been removed already.
        with _unless_replaced_meanwhile(), file.open("rb") as now:
            if not os.path.samestat(ours, os.fstat(now.fileno())):
                return False
        os.fsync(directory)
    return True


@contextmanager
def _unless_replaced_meanwhile() -> Iterator[None]:
    """Go on behind the block where a file that was there is not any more (ESTALE: it was open)."""
    try:
        yield
    except OSError as error:
        if error.errno not in REPLACED_MEANWHILE:
            raise


def _links(file: Path) -> int:
    """How many names a file has. Opened, because NFS remembers for a while what it knows of one that is not."""
    with file.open("rb") as opened:
        return os.fstat(opened.fileno()).st_nlink


def _temporary_beside(file: Path) -> Path:
    return file.parent / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"


def _written_beside(file: Path, content: bytes) -> Path:
    """A temporary file that durably holds what a record is to be."""
    temporary = _temporary_beside(file)
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _collections_in(root: Path) -> list[str]:
    """The names of all collections, which the files beside their directories tell; other directories are not ours.

    Raises:
        StoreSetupError: such a file is damaged; who uses the collection next writes it anew.

    """
    collections = list[str]()
    with os.scandir(root) as entries:
        directories = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    for name in directories:
        description = root / f"{name}{DESCRIPTION_SUFFIX}"
        try:
            collection = load_or_set_aside(description, lambda data: str(data["collection"]))
        except FileNotFoundError:
            collection = None
        if collection is not None:
            collections.append(collection)
        elif description.with_name(f"{description.name}{QUARANTINE_SUFFIX}").exists():
            what = f"{description.name} is damaged; restart the server and sign in, then repeat"
            raise StoreSetupError(message=what)
    return collections


def _count_records(directory: Path, at_most: int) -> int:
    try:
        with os.scandir(directory) as files:
            return sum(1 for _ in islice((file for file in files if file.name.endswith(".json")), at_most))
    except FileNotFoundError:
        return 0


def _record_names(directory: Path) -> list[str]:
    with os.scandir(directory) as files:
        return [file.name.removesuffix(".json") for file in files if file.name.endswith(".json")]


@cache
def _count_damaged_files() -> None:
    """From now on, count files that are set aside because they hold no record at all."""
    set_aside = upstream.set_aside

    @wraps(set_aside)
    def set_aside_and_count(file: Path, *, stat_at_read: os.stat_result, reason: str) -> None:
        set_aside(file, stat_at_read=stat_at_read, reason=reason)
        if reason != NOT_SEALED_BY_US and not os.path.lexists(file):
            metrics.count_quarantined("damaged")

    upstream.set_aside = set_aside_and_count


def open_filetree(directory: Path) -> FileTree:
    _count_damaged_files()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return FileTree(directory)
