"""What servers with a login of their own keep, in one form: registrations (RFC 7591) and tokens that they issued."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mcp_holdfast.storage.importers.findings import (
    DAMAGED,
    EXPIRED,
    OF_NO_REGISTRATION,
    REGISTRATIONS,
    Findings,
    Record,
)
from mcp_holdfast.storage.importers.sqlite_source import Row, private_copy, rows

Readers = Mapping[str, tuple[tuple[str, ...], Callable[[Findings, Row, float], None]]]
"""By table: its columns, and what to do with a row, which is told the time (seconds since the epoch)."""

KNOWN_BY_HASH = "only the hash of its secret is known, so it could not be told from anybody else"


def read_tables(system: str, database: Path, readers: Readers) -> Findings:
    """Read a SQLite database.

    Raises:
        SourceProblem: it is being written.
        OSError: it cannot be read.

    """
    findings = Findings(system, "local", database)
    now = time.time()
    with private_copy(database) as copy:
        for table, (columns, keep) in readers.items():
            found, is_damaged = rows(copy, table, columns)
            findings.leave(table, DAMAGED, int(is_damaged))
            for row in found:
                keep(findings, row, now)
    leave_tokens_without_client(findings)
    return findings


def keep_registration(findings: Findings, client_id: str, metadata: Mapping[str, Any]) -> None:
    if metadata.get("client_id") == client_id and isinstance(metadata.get("redirect_uris"), list):
        findings.records.append(Record(REGISTRATIONS, client_id, dict(metadata)))
    else:
        findings.leave(REGISTRATIONS, DAMAGED)


def keep_token(findings: Findings, what: str, token: str, record: Mapping[str, Any], *, now: float) -> None:
    """Keep a token with the `client_id` that it was issued to and, where that is known, its `pair`."""
    client_id, expires_at, pair = record.get("client_id"), record.get("expires_at"), record.get("pair")
    if not isinstance(client_id, str) or not isinstance(expires_at, int | float | None):
        findings.leave(what, DAMAGED)
    elif expires_at is not None and expires_at <= now:
        findings.leave(what, EXPIRED)
    else:
        findings.records.append(Record(what, token, {"client_id": client_id, "pair": pair}, expires_at))


def leave_tokens_without_client(findings: Findings) -> None:
    """Leave tokens whose client is not carried over: nothing could be done with them."""
    registered = {record.key for record in findings.records if record.collection == REGISTRATIONS}
    kept = []
    for record in findings.records:
        if record.collection == REGISTRATIONS or record.value["client_id"] in registered:
            kept.append(record)
        else:
            findings.leave(record.collection, OF_NO_REGISTRATION)
    findings.records = kept
