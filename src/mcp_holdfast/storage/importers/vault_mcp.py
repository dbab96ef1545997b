"""vault-mcp-server's state file (`OAUTH_STATE_PATH`): JSON with registrations, access tokens and refresh tokens."""

import json
import time
from pathlib import Path
from typing import Any

from mcp_holdfast.storage.importers.findings import (
    ACCESS_TOKENS,
    DAMAGED,
    REFRESH_TOKENS,
    REGISTRATIONS,
    Findings,
    SourceProblem,
    read_bytes,
)
from mcp_holdfast.storage.importers.local_records import keep_registration, keep_token, leave_tokens_without_client

SYSTEM = "vault-mcp"
VERSION = 1
LARGEST_FILE = 256 * 1024 * 1024


def read_state_file(file: Path) -> Findings:
    """Read a state file.

    Raises:
        SourceProblem: it is none, or none of the version that is known.
        OSError: it cannot be read.

    """
    state = _state(file)
    findings = Findings(SYSTEM, "local", file)
    now = time.time()
    for client_id, client in _section(state, "clients", REGISTRATIONS, findings):
        keep_registration(findings, client_id, client)
    for what, section in ((ACCESS_TOKENS, "access_tokens"), (REFRESH_TOKENS, "refresh_tokens")):
        for token, record in _section(state, section, what, findings):
            keep_token(findings, what, token, record, now=now)
    leave_tokens_without_client(findings)
    return findings


def _state(file: Path) -> dict[str, Any]:
    try:
        state = json.loads(read_bytes(file, limit=LARGEST_FILE))
    except (ValueError, RecursionError):
        raise SourceProblem(
            f"{file} is neither a SQLite database nor JSON, or is damaged. Name the old server's database, state file "
            "or directory; of a truncated state file nothing can be told apart"
        ) from None
    if not isinstance(state, dict) or "clients" not in state:
        raise SourceProblem(f"{file} is JSON, but not the state file of a system that is known here")
    if state.get("version") != VERSION:
        raise SourceProblem(f"{file} is a state file of version {state.get('version')!r}; known is {VERSION}")
    return state


def _section(state: dict[str, Any], name: str, what: str, findings: Findings) -> list[tuple[str, dict[str, Any]]]:
    section = state.get(name, {})
    if not isinstance(section, dict):
        findings.leave(what, DAMAGED)
        return []
    whole = [(key, value) for key, value in section.items() if isinstance(value, dict)]
    findings.leave(what, DAMAGED, len(section) - len(whole))
    return whole
