"""What happens to SQLite databases on network file systems, full disks and at power cuts."""

import os
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

PAGE = 4096


def settle(database: Path) -> None:
    """Bring everything from the write-ahead log into the database, as a clean stop does."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def lose_header(database: Path) -> None:
    _overwrite(database, 0, os.urandom(100))


def lose_first_page(database: Path) -> None:
    _overwrite(database, 0, bytes(PAGE))


def lose_page_of(name: str) -> Callable[[Path], None]:
    def lose(database: Path) -> None:
        with closing(sqlite3.connect(database)) as connection:
            (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()
        _overwrite(database, (page - 1) * PAGE, bytes(PAGE))

    return lose


DAMAGES: Mapping[str, Callable[[Path], None]] = {
    "the header overwritten": lose_header,
    "the first page zeroed": lose_first_page,
    "a page of the settings zeroed": lose_page_of("Settings"),
    "an index zeroed": lose_page_of("sqlite_autoindex_Settings_1"),
}


def share_without_locks(directory: Path, other: Path) -> None:
    """Give two servers one database in write-ahead mode, and each a file of its own for the locks on it.

    So it is on a network file system whose clients do not share memory, which is where SQLite keeps those locks.
    """
    other.mkdir(parents=True)
    for name in ("cache.db", "cache.db-wal"):
        (other / name).hardlink_to(directory / name)


def _overwrite(database: Path, offset: int, content: bytes) -> None:
    with database.open("r+b") as file:
        file.seek(offset)
        file.write(content)
