"""otterwiki-mcp's SQLite database (`MCP_OAUTH_DB`)."""

import json
import time
from pathlib import Path

from mcp_holdfast.storage.importers.findings import (
    ACCESS_TOKENS,
    DAMAGED,
    REFRESH_TOKENS,
    SHORT_LIVED,
    SIGN_INS_UNDER_WAY,
    Findings,
)
from mcp_holdfast.storage.importers.local_records import keep_registration, keep_token, leave_tokens_without_client
from mcp_holdfast.storage.importers.sqlite_source import Row, private_copy, rows

SYSTEM = "otterwiki"
COLUMNS = {
    "oauth_clients": ("client_id", "client_json"),
    "oauth_codes": ("code",),
    "oauth_tokens": ("token", "client_id", "expires_at", "token_type", "refresh_token"),
}
TABLES = frozenset(COLUMNS)
KINDS = {"access": ACCESS_TOKENS, "refresh": REFRESH_TOKENS}


def read_database(database: Path) -> Findings:
    """Read the database.

    Raises:
        SourceProblem: it is being written.
        OSError: it cannot be read.

    """
    findings = Findings(SYSTEM, "local", database)
    now = time.time()
    with private_copy(database) as copy:
        tables = {table: rows(copy, table, columns) for table, columns in COLUMNS.items()}
    for table, (_, is_damaged) in tables.items():
        findings.leave(table, DAMAGED, int(is_damaged))
    for row in tables["oauth_clients"][0]:
        _keep_client(findings, row)
    for row in tables["oauth_tokens"][0]:
        _keep_token(findings, row, now)
    findings.leave(SIGN_INS_UNDER_WAY, SHORT_LIVED, len(tables["oauth_codes"][0]))
    leave_tokens_without_client(findings)
    return findings


def _keep_client(findings: Findings, row: Row) -> None:
    try:
        metadata = json.loads(row["client_json"])
    except (TypeError, ValueError):
        metadata = {}
    keep_registration(findings, str(row["client_id"]), metadata if isinstance(metadata, dict) else {})


def _keep_token(findings: Findings, row: Row, now: float) -> None:
    what = KINDS.get(str(row["token_type"]))
    if what is None:
        findings.leave("tokens of another kind", DAMAGED)
    else:
        keep_token(findings, what, str(row["token"]), {**row, "pair": row["refresh_token"]}, now=now)
