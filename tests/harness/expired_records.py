"""Records that expired, put into a backend as if it were long ago."""

import json
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mcp_holdfast.storage.backends import Backend, FileTree

COLLECTION = "things"
LONG_AGO = datetime.now(tz=UTC) - timedelta(days=1)


async def put_expired(backend: Backend, *keys: str) -> None:
    """Store records that expired a day ago."""
    for key in keys:
        await backend.put(key, {"of": "the past"}, collection=COLLECTION, ttl=1000)
    if isinstance(backend, FileTree):
        for file in (Path(backend._data_directory) / COLLECTION).glob("*.json"):
            stored = json.loads(file.read_text())
            if stored["value"] == {"of": "the past"}:
                file.write_text(json.dumps({**stored, "expires_at": LONG_AGO.isoformat()}))
    else:
        database = Path(backend._cache.directory) / "cache.db"  # type: ignore[attr-defined]
        with sqlite3.connect(database, isolation_level=None) as connection:
            connection.execute("UPDATE Cache SET expire_time = ? WHERE value LIKE '%the past%'", [LONG_AGO.timestamp()])
        connection.close()
