"""State of servers that are in no package registry, in the form that their sources document."""

import json
import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.oauth import REDIRECT_URI

DAY = 86400
OTTERWIKI_SCHEMA = """
CREATE TABLE oauth_clients (client_id TEXT PRIMARY KEY, client_json TEXT NOT NULL, created_at REAL NOT NULL);
CREATE TABLE oauth_codes (
    code TEXT PRIMARY KEY, client_id TEXT NOT NULL, redirect_uri TEXT NOT NULL,
    redirect_uri_provided_explicitly INTEGER NOT NULL DEFAULT 1, code_challenge TEXT NOT NULL, scopes TEXT NOT NULL,
    expires_at REAL NOT NULL, resource TEXT
);
CREATE TABLE oauth_tokens (
    token TEXT PRIMARY KEY, client_id TEXT NOT NULL, scopes TEXT NOT NULL, expires_at INTEGER,
    token_type TEXT NOT NULL, refresh_token TEXT, resource TEXT
);
"""


@dataclass(frozen=True)
class SignedIn:
    """A client with its tokens; `expired` ones are of no use any more."""

    client_id: str
    access_token: str
    refresh_token: str
    client_secret: str | None = None
    expired: bool = False

    @property
    def registration(self) -> dict[str, Any]:
        return {
            "client_id": self.client_id,
            "client_secret": self.client_secret,
            "client_name": f"Client {self.client_id}",
            "redirect_uris": [REDIRECT_URI],
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "token_endpoint_auth_method": "client_secret_post" if self.client_secret else "none",
        }

    @property
    def expires_at(self) -> int:
        return int(time.time()) + (-DAY if self.expired else DAY)


def vault_mcp_state(file: Path, signed_in: Iterable[SignedIn]) -> Path:
    """The file that vault-mcp-server writes to OAUTH_STATE_PATH; its refresh tokens do not expire."""
    state: dict[str, Any] = {"version": 1, "clients": {}, "access_tokens": {}, "refresh_tokens": {}}
    for client in signed_in:
        state["clients"][client.client_id] = client.registration
        token = {"client_id": client.client_id, "scopes": [], "expires_at": client.expires_at, "resource": None}
        state["access_tokens"][client.access_token] = {**token, "token": client.access_token}
        never: dict[str, Any] = {
            "client_id": client.client_id,
            "scopes": [],
            "expires_at": None,
            "token": client.refresh_token,
        }
        state["refresh_tokens"][client.refresh_token] = never
    file.write_text(json.dumps(state))
    return file


def otterwiki_database(file: Path, signed_in: Iterable[SignedIn]) -> Path:
    """The database that otterwiki-mcp keeps at MCP_OAUTH_DB, each access token paired with its refresh token."""
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.executescript(OTTERWIKI_SCHEMA)
        for client in signed_in:
            registration = (client.client_id, json.dumps(client.registration), time.time())
            database.execute("INSERT INTO oauth_clients VALUES (?, ?, ?)", registration)
            pair = (
                (client.access_token, "access", client.refresh_token),
                (client.refresh_token, "refresh", client.access_token),
            )
            for token, kind, other in pair:
                row = (token, client.client_id, "[]", client.expires_at, kind, other, None)
                database.execute("INSERT INTO oauth_tokens VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        database.commit()
    return file
