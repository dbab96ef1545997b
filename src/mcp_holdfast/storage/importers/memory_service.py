"""The memory service's SQLite database (mcp-memory-service, `MCP_OAUTH_SQLITE_PATH`)."""

import json
from pathlib import Path
from typing import Any

from mcp_holdfast.storage.importers.findings import (
    ACCESS_TOKENS,
    DAMAGED,
    REFRESH_TOKENS,
    REGISTRATIONS,
    SHORT_LIVED,
    SIGN_INS_UNDER_WAY,
    Findings,
)
from mcp_holdfast.storage.importers.local_records import (
    KNOWN_BY_HASH,
    Readers,
    keep_registration,
    keep_token,
    read_tables,
)
from mcp_holdfast.storage.importers.sqlite_source import Row

SYSTEM = "memory service"
TABLES = frozenset({"oauth_clients", "oauth_authorization_codes", "oauth_access_tokens"})
CLIENT_COLUMNS = (
    "client_id",
    "client_secret",
    "client_name",
    "redirect_uris",
    "response_types",
    "grant_types",
    "token_endpoint_auth_method",
    "created_at",
)
HASHED = "sha256$"
WRITE = "write"
LIMITED = "was limited to reading, and the built-in login has one scope, which allows all that the server offers"
REVOKED = "revoked"


def read_database(database: Path) -> Findings:
    """Read the database.

    Raises:
        SourceProblem: it is being written.
        OSError: it cannot be read.

    """
    return read_tables(SYSTEM, database, READERS)


def _keep_client(findings: Findings, row: Row, now: float) -> None:
    secret = str(row["client_secret"] or "")
    if secret.startswith(HASHED):
        findings.leave(REGISTRATIONS, KNOWN_BY_HASH)
        return
    metadata: dict[str, Any] = {"client_id": row["client_id"], "client_name": row["client_name"]}
    metadata |= {"client_secret": secret or None, "client_id_issued_at": _seconds(row["created_at"], now)}
    metadata["token_endpoint_auth_method"] = row["token_endpoint_auth_method"] if secret else "none"
    try:
        metadata |= {name: json.loads(row[name]) for name in ("redirect_uris", "response_types", "grant_types")}
    except (TypeError, ValueError):
        findings.leave(REGISTRATIONS, DAMAGED)
        return
    keep_registration(findings, str(row["client_id"]), metadata)


def _seconds(moment: Any, otherwise: float) -> int:
    return int(moment if isinstance(moment, int | float) else otherwise)


def _keep_access_token(findings: Findings, row: Row, now: float) -> None:
    if WRITE in str(row["scope"] or WRITE).split():
        keep_token(findings, ACCESS_TOKENS, str(row["token"]), row, now=now)
    else:
        findings.leave(ACCESS_TOKENS, LIMITED)


def _keep_refresh_token(findings: Findings, row: Row, now: float) -> None:
    if row["revoked"]:
        findings.leave(REFRESH_TOKENS, REVOKED)
    elif WRITE in str(row["scope"] or WRITE).split():
        keep_token(findings, REFRESH_TOKENS, str(row["token"]), row, now=now)
    else:
        findings.leave(REFRESH_TOKENS, LIMITED)


def _leave_code(findings: Findings, row: Row, now: float) -> None:
    findings.leave(SIGN_INS_UNDER_WAY, SHORT_LIVED)


TOKEN_COLUMNS = ("token", "client_id", "scope", "expires_at")
READERS: Readers = {
    "oauth_clients": (CLIENT_COLUMNS, _keep_client),
    "oauth_access_tokens": (TOKEN_COLUMNS, _keep_access_token),
    "oauth_refresh_tokens": ((*TOKEN_COLUMNS, "revoked"), _keep_refresh_token),
    "oauth_authorization_codes": (("code",), _leave_code),
}
"""What is read of each table, and what is done with a row of it (its time is in seconds since the epoch)."""
