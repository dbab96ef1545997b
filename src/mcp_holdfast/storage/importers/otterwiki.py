"""otterwiki-mcp's SQLite database (`MCP_OAUTH_DB`)."""

import json
from pathlib import Path

from mcp_holdfast.storage.importers.findings import (
    ACCESS_TOKENS,
    DAMAGED,
    REFRESH_TOKENS,
    SHORT_LIVED,
    SIGN_INS_UNDER_WAY,
    Findings,
)
from mcp_holdfast.storage.importers.local_records import Readers, keep_registration, keep_token, read_tables
from mcp_holdfast.storage.importers.sqlite_source import Row

SYSTEM = "otterwiki"
KINDS = {"access": ACCESS_TOKENS, "refresh": REFRESH_TOKENS}


def read_database(database: Path) -> Findings:
    """Read the database.

    Raises:
        SourceProblem: it is being written.
        OSError: it cannot be read.

    """
    return read_tables(SYSTEM, database, READERS)


def _keep_client(findings: Findings, row: Row, _: float) -> None:
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


def _leave_code(findings: Findings, _: Row, __: float) -> None:
    findings.leave(SIGN_INS_UNDER_WAY, SHORT_LIVED)


READERS: Readers = {
    "oauth_clients": (("client_id", "client_json"), _keep_client),
    "oauth_codes": (("code",), _leave_code),
    "oauth_tokens": (("token", "client_id", "expires_at", "token_type", "refresh_token"), _keep_token),
}
TABLES = frozenset(READERS)
