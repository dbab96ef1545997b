"""The file tree of FastMCP 3 and 4: `oauth-proxy/FINGERPRINT`, one directory a collection and one file a record."""

import json
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from key_value.aio.stores.filetree import FileTreeV1CollectionSanitizationStrategy

from mcp_holdfast.storage.importers.fastmcp import (
    FINGERPRINT_LENGTH,
    KEPT,
    REFRESH_TOKEN_HASHES,
    SHORT_LIVED_COLLECTIONS,
    Stored,
    leave_damaged,
    sort_into,
)
from mcp_holdfast.storage.importers.findings import Findings, read_bytes

SYSTEM = "FastMCP 3 or 4"
LARGEST_RECORD = 4 * 1024 * 1024
COLLECTIONS = (*KEPT, *SHORT_LIVED_COLLECTIONS)


def trees_in(directory: Path) -> list[Path]:
    """The directories of FastMCP's trees directly below this one, each named by the fingerprint of its key."""
    names = re.compile(rf"[0-9a-f]{{{FINGERPRINT_LENGTH}}}")
    return sorted(path for path in directory.iterdir() if names.fullmatch(path.name) and is_tree(path))


def is_tree(directory: Path) -> bool:
    return directory.is_dir() and any(path.is_dir() for path in _directories(directory).values())


def read_tree(directory: Path, secrets: Sequence[str]) -> Findings:
    """Read a tree that was encrypted with what FastMCP derives from one of these secrets.

    Raises:
        SourceProblem: none of them fits.
        OSError: the tree cannot be read.

    """
    findings = Findings(SYSTEM, "proxy", directory)
    records = list(_records(directory, findings))
    sort_into(findings, records, secrets)
    return findings


def _directories(root: Path) -> dict[str, Path]:
    strategy = FileTreeV1CollectionSanitizationStrategy(root)
    return {collection: root / strategy.sanitize(collection) for collection in COLLECTIONS}


def _records(root: Path, findings: Findings) -> Iterator[Stored]:
    for collection, directory in _directories(root).items():
        if not directory.is_dir():
            continue
        if directory.is_symlink():
            leave_damaged(findings, collection)
            continue
        for file in sorted(directory.glob("*.json")):
            try:
                yield _record(collection, file)
            except (OSError, ValueError, TypeError, KeyError):
                leave_damaged(findings, collection)


def _record(collection: str, file: Path) -> Stored:
    entry: dict[str, Any] = json.loads(read_bytes(file, limit=LARGEST_RECORD))
    expires_at = entry.get("expires_at")
    return Stored(
        collection=collection,
        # The name of a file is its record's key where that has nothing but letters and digits, as a hash has.
        key=file.stem if collection == REFRESH_TOKEN_HASHES else "",
        value=entry["value"],
        expires_at=None if expires_at is None else datetime.fromisoformat(expires_at).timestamp(),
    )
