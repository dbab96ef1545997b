"""The SQLite database of the disk backend, which gives way to an empty one where it is damaged."""

import fcntl
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

from diskcache import Cache, Disk, Timeout
from diskcache.core import DBNAME, MODE_RAW, UNKNOWN
from key_value.aio.errors import DeserializationError

log = logging.getLogger(__name__)

Result = TypeVar("Result")
Identity = tuple[int, int] | None
"""Which file it is: its device and inode; None for no file."""

TIMEOUT = 10
"""In seconds, for which a connection waits while another one writes."""

SETTINGS = {
    "eviction_policy": "none",
    # SQLite's own FULL: an answered request must survive a power cut, not only a killed process.
    "sqlite_synchronous": 2,
    # A file that is mapped into memory ends the process where it cannot be read.
    "sqlite_mmap_size": 0,
}


class InlineTextDisk(Disk):  # type: ignore[misc]  # diskcache has no type information
    """Keeps text in the database and reads nothing else.

    diskcache would unpickle a value or open the file that a row names: whoever can write the database could run code
    in the server (CVE-2025-69872) or make it read any file.
    """

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> str:
        if mode == MODE_RAW and isinstance(value, str):
            return value
        raise DeserializationError(message="a row of the disk store is not text")

    def store(self, value: Any, read: bool, key: Any = UNKNOWN) -> tuple[int, int, None, str]:
        if not isinstance(value, str):
            raise TypeError(f"the disk store holds text, not {type(value).__name__}")
        return 0, MODE_RAW, None, value


class Database(Cache):  # type: ignore[misc]  # diskcache has no type information
    """Text in a database for all processes of one machine, in a directory of its own.

    What is damaged is found by an operation, or by `check`. Its directory is then renamed to `*.corrupt-*` by one
    process, and each connection of all of them goes on with the new database when it is used next. One that was deleted
    gives way to an empty one, too.

    Whoever makes one holds `_alone`, so that nobody opens it before its tables are there.
    """

    def __init__(self, directory: Path) -> None:
        self._file = directory / DBNAME
        self._turn = threading.RLock()
        self._is_made = False
        super().__init__(directory, disk=InlineTextDisk, timeout=TIMEOUT, **SETTINGS)
        self._is_made = True

    @property
    def _con(self) -> sqlite3.Connection:
        if getattr(self._local, "con", None) is None or self._local.identity != _identity_of(self._file):
            self.close()
            with _locked(self._file.parent.parent, fcntl.LOCK_SH) if self._is_made else nullcontext():
                self._connect()
        connection: sqlite3.Connection = super()._con
        # To SQLite's module damaged text is an error of the whole database.
        connection.text_factory = _text
        return connection

    def _connect(self) -> None:
        self._local.identity = _identity_of(self._file)
        _ = super()._con
        # It makes a file where there is none.
        self._local.identity = _identity_of(self._file)

    @contextmanager
    def _transact(self, retry: bool = False, filename: str | None = None) -> Iterator[Any]:
        # One thread after the other: SQLite would have those that wait sleep, each time for longer.
        if not self._turn.acquire(timeout=TIMEOUT):
            raise Timeout
        try:
            # With `retry` diskcache would try for ever, whatever is wrong.
            with super()._transact(filename=filename) as transaction:
                yield transaction
        finally:
            self._turn.release()

    def healing(self, work: Callable[[], Result]) -> Result:
        """Do something with the database; where that is damaged, once more with an empty one."""
        try:
            return work()
        except sqlite3.DatabaseError as error:
            if not is_damage(error) and not is_absence(error):
                raise
            self._give_way(error)
            return work()

    def check(self) -> None:
        """Look for damage in the whole database."""
        self.healing(self._look_for_damage)

    def _look_for_damage(self) -> None:
        ((found,),) = self._sql("PRAGMA quick_check(1)").fetchall()
        if found != "ok":
            raise sqlite3.DatabaseError(found)

    def _give_way(self, error: sqlite3.DatabaseError) -> None:
        found = getattr(self._local, "identity", None)
        self.close()
        with _alone(self._file.parent.parent):
            if _identity_of(self._file) == found:
                if is_damage(error):
                    set_aside(self._file.parent, error)
                else:
                    log.error("the database %s was deleted while it was used; began an empty one", self._file)
                Database(self._file.parent).close()


def open_database(directory: Path) -> Database:
    """Open the database in a directory, or begin one; one that cannot be opened for its damage is set aside."""
    with _alone(directory.parent):
        try:
            database = Database(directory)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            set_aside(directory, error)
            database = Database(directory)
    database.check()
    return database


def is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether SQLite says that a file is malformed, or no database; it has classes of their own for all else."""
    return type(error) is sqlite3.DatabaseError


def is_absence(error: sqlite3.DatabaseError) -> bool:
    """Whether SQLite says that a file has no tables, as one that it made itself where somebody had deleted it."""
    return isinstance(error, sqlite3.OperationalError) and str(error).startswith("no such table")


def set_aside(directory: Path, damage: sqlite3.DatabaseError) -> None:
    aside = directory.with_name(f"{directory.name}.corrupt-{time.time_ns()}")
    directory.rename(aside)
    directory.mkdir(mode=0o700)
    log.error("set the damaged database aside as %s and began an empty one: %s", aside, damage)


def _alone(directory: Path) -> AbstractContextManager[None]:
    """Keep others from opening or replacing the databases in a directory."""
    return _locked(directory, fcntl.LOCK_EX)


@contextmanager
def _locked(directory: Path, how: int) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)


def _identity_of(file: Path) -> Identity:
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _text(stored: bytes) -> str:
    return stored.decode(errors="replace")
