"""Another system's SQLite database: its rows, read from a private copy, so that the database itself is never touched.

A database in write-ahead mode is changed by whoever opens it, and half of its content may be in the file beside it.
"""

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from mcp_holdfast.storage.importers.findings import SourceProblem, opened

HEADER = b"SQLite format 3\0"
WAL_SUFFIX = "-wal"
COPY_NAME = "copy.db"
TRIES = 3

Row = dict[str, Any]


def has_sqlite_header(file: Path) -> bool:
    with opened(file) as content:
        return content.read(len(HEADER)) == HEADER


@contextmanager
def private_copy(database: Path) -> Iterator[Path]:
    """Copy a database with its write-ahead log into a directory that only we can read, for the time of the block.

    Raises:
        SourceProblem: it is being written, or there is no room for the copy.
        OSError: it cannot be read.

    """
    with tempfile.TemporaryDirectory(prefix="holdfast-import-") as directory:
        copy = Path(directory) / COPY_NAME
        for _ in range(TRIES):
            before = _state(database)
            _check_room(directory, before)
            for source in before:
                _copy(source, copy.with_name(copy.name + source.name.removeprefix(database.name)))
            if _state(database) == before:
                break
        else:
            raise SourceProblem(f"{database} is being written to. Stop the server that uses it, and try again")
        yield copy


def table_names(copy: Path) -> frozenset[str]:
    """The names of its tables; none where it is no database, or too damaged to say."""
    try:
        with closing(_connect(copy)) as connection:
            return frozenset(
                name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            )
    except (sqlite3.Error, UnicodeDecodeError):
        return frozenset()


def rows(copy: Path, table: str, columns: Sequence[str]) -> tuple[list[Row], bool]:
    """All rows of a table that can be read, and whether there may be more that cannot.

    From both ends, since a damaged page ends a reading wherever it comes from. A table that is not there has no rows.
    """
    tables = table_names(copy)
    if tables and table not in tables:
        return [], False
    ascending, is_whole = _read(copy, table, columns, "ASC")
    if is_whole:
        return list(ascending.values()), False
    descending, _ = _read(copy, table, columns, "DESC")
    return list((ascending | descending).values()), True


def _read(copy: Path, table: str, columns: Sequence[str], order: str) -> tuple[dict[int, Row], bool]:
    query = f"SELECT rowid, {', '.join(columns)} FROM {table} ORDER BY rowid {order}"  # noqa: S608  # our own names
    found: dict[int, Row] = {}
    try:
        with closing(_connect(copy)) as connection:
            # What is no text is not worth an exception for the whole table.
            connection.text_factory = lambda content: content.decode(errors="replace")
            for row_id, *values in connection.execute(query):
                found[row_id] = dict(zip(columns, values, strict=True))
    except (sqlite3.Error, UnicodeDecodeError):
        return found, False
    return found, True


def _connect(copy: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(copy)
    # Nothing that the schema of a stranger's database calls for is run.
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def _state(database: Path) -> dict[Path, tuple[int, int]]:
    """The files that make up a database, each with its size and time of change."""
    found = {}
    for file in (database, database.with_name(database.name + WAL_SUFFIX)):
        if file == database or file.exists():
            state = file.stat()
            found[file] = (state.st_size, state.st_mtime_ns)
    return found


def _check_room(directory: str, files: dict[Path, tuple[int, int]]) -> None:
    size = sum(size for size, _ in files.values())
    free = shutil.disk_usage(directory).free
    if size > free:
        what = (
            f"{next(iter(files))} has {size} bytes, and {tempfile.gettempdir()}, where it is read from, has {free} free"
        )
        raise SourceProblem(f"{what}. Name a directory with more room in TMPDIR")


def _copy(source: Path, target: Path) -> None:
    with opened(source) as content, target.open("wb") as copy:
        shutil.copyfileobj(content, copy)
