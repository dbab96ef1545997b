"""The store of FastMCP 2.14: `oauth-proxy/cache.db`, a SQLite database of diskcache, encrypted as a whole.

diskcache keeps long text in files beside the database, and would unpickle what a row says is an object; here a row is
text or it is left.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from diskcache.core import MODE_RAW, MODE_TEXT

from mcp_holdfast.storage.importers.fastmcp import Stored, leave_damaged, sort_into
from mcp_holdfast.storage.importers.findings import DAMAGED, Findings, read_bytes
from mcp_holdfast.storage.importers.sqlite_pages import salvaged_rows
from mcp_holdfast.storage.importers.sqlite_source import Row, private_copy, rows

SYSTEM = "FastMCP 2.14"
DATABASE = "cache.db"
TABLES = frozenset({"Cache", "Settings"})
COLUMNS = (
    "rowid",
    "key",
    "raw",
    "store_time",
    "expire_time",
    "access_time",
    "access_count",
    "tag",
    "size",
    "mode",
    "filename",
    "value",
)
LARGEST_VALUE = 4 * 1024 * 1024
SEPARATOR = "::"
PARTS_UNREADABLE = "parts of the database"


def read_disk(database: Path, secrets: Sequence[str]) -> Findings:
    """Read a database that was encrypted with what FastMCP derives from one of these secrets.

    Raises:
        SourceProblem: none of them fits, or the database is being written.
        OSError: it cannot be read.

    """
    findings = Findings(SYSTEM, "proxy", database)
    with private_copy(database) as copy:
        found, is_damaged = rows(copy, "Cache", COLUMNS[1:])
        if is_damaged:
            findings.leave(PARTS_UNREADABLE, DAMAGED)
            found = _merged(found, salvaged_rows(copy, COLUMNS))
    records = list(_records(database.parent, found, findings))
    sort_into(findings, records, secrets)
    return findings


def is_disk(path: Path) -> bool:
    return path.name == DATABASE


def _merged(read: list[Row], salvaged: Iterator[Row]) -> list[Row]:
    """What SQLite could read, and what else its pages hold: of rows with the same key, the one stored last."""
    by_key = {str(row["key"]): row for row in sorted(salvaged, key=_stored_at)}
    return list((by_key | {str(row["key"]): row for row in read}).values())


def _stored_at(row: Row) -> float:
    stored_at = row["store_time"]
    return stored_at if isinstance(stored_at, float) else 0.0


def _records(directory: Path, found: list[Row], findings: Findings) -> Iterator[Stored]:
    for row in found:
        collection, _, key = str(row["key"]).partition(SEPARATOR)
        try:
            entry = json.loads(_text_of(row, directory))
            yield Stored(collection, key, entry["value"], _expiry(row, entry))
        except (OSError, ValueError, TypeError, KeyError):
            leave_damaged(findings, collection)


def _text_of(row: Row, directory: Path) -> str:
    if row["mode"] == MODE_RAW and isinstance(row["value"], str):
        return row["value"]
    if row["mode"] == MODE_TEXT and isinstance(row["filename"], str):
        return read_bytes(_beside(directory, row["filename"]), limit=LARGEST_VALUE).decode()
    raise ValueError("not text")


def _beside(directory: Path, name: str) -> Path:
    relative = PurePosixPath(name)
    file = directory / relative
    if relative.is_absolute() or not file.resolve().is_relative_to(directory.resolve()):
        raise ValueError("names a file elsewhere")
    return file


def _expiry(row: Row, entry: dict[str, Any]) -> float | None:
    if row["expire_time"] is not None:
        return float(row["expire_time"])
    expires_at = entry.get("expires_at")
    return None if expires_at is None else datetime.fromisoformat(expires_at).timestamp()
