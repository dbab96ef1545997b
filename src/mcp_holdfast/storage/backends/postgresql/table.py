"""The table, and every statement that uses it."""

import re

from mcp_holdfast.storage.backends.engine import EngineProblem

TABLE = "holdfast_store"

SCHEMA = """\
CREATE TABLE IF NOT EXISTS {table} (
    collection text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    value jsonb NOT NULL,
    ttl double precision,
    created_at timestamptz,
    updated_at timestamptz NOT NULL,
    expires_at timestamptz,
    PRIMARY KEY (collection, key)
);
CREATE INDEX IF NOT EXISTS {index} ON {table} (expires_at) WHERE expires_at IS NOT NULL;
"""

# Times as numbers: a timestamptz may be infinite, or after the year 9999, which a datetime cannot be.
SELECT = """
    SELECT key, value, extract(epoch FROM created_at)::float8 AS created_at,
        extract(epoch FROM expires_at)::float8 AS expires_at FROM {table}
"""
GET = f"{SELECT} WHERE collection = $1 AND key = $2"
NEXT = f"{SELECT} WHERE collection = $1 AND key > $2 ORDER BY key LIMIT $3"
INSERT = "INSERT INTO {table} AS stored (collection, key, value, ttl, created_at, updated_at, expires_at)"
UPDATE = """
    ON CONFLICT (collection, key) DO UPDATE SET (value, ttl, created_at, updated_at, expires_at)
        = (excluded.value, excluded.ttl, excluded.created_at, excluded.updated_at, excluded.expires_at)
"""
PUT = f"{INSERT} VALUES ($1, $2, $3, $4, $5, $6, $7) {UPDATE}"
ADD = f"{PUT} WHERE stored.expires_at <= $6 RETURNING key"
DELETE = "DELETE FROM {table} WHERE collection = $1 AND key = $2 RETURNING key"
REPLACE = """
    UPDATE {table} SET value = $6, updated_at = $7 WHERE collection = $1 AND key = $2 AND value = $3::jsonb
        AND created_at IS NOT DISTINCT FROM $4 AND expires_at IS NOT DISTINCT FROM $5 RETURNING key
"""
MOVED = "DELETE FROM {table} WHERE collection = $1 AND key = $2 AND value = $3::jsonb RETURNING value, created_at"
SET_ASIDE = f"""
    WITH moved AS ({MOVED})
    {INSERT} SELECT $4::text, $5::text, value, $6::float8, created_at, $7::timestamptz, $8::timestamptz FROM moved
    {UPDATE}
"""  # noqa: S608  # nothing in it comes from outside
# From one name to the next by the primary key, however many records each collection has.
COLLECTION_NAMES = """
    WITH RECURSIVE names (name) AS (
        SELECT min(collection) FROM {table}
        UNION ALL
        SELECT (SELECT min(collection) FROM {table} WHERE collection > name) FROM names WHERE name IS NOT NULL
    )
    SELECT name FROM names WHERE name <> $1
"""
COUNT = "SELECT count(*) FROM (SELECT FROM {table} WHERE collection = $1 LIMIT $2) AS counted"
# Processes that sweep at once take different rows, and wait for nobody who writes one.
SWEEP = """
    WITH swept AS (
        DELETE FROM {table} WHERE ctid = ANY(ARRAY(
            SELECT ctid FROM {table} WHERE expires_at < $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED
        )) RETURNING collection
    )
    SELECT count(*) AS removed, count(*) FILTER (WHERE collection = $3) AS quarantined FROM swept
"""
EXISTS = "SELECT to_regclass($1) IS NOT NULL AS exists"
DURABILITY = """
    SELECT current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes,
        current_setting('synchronous_commit') AS synchronous_commit, current_setting('is_superuser') AS superuser,
        (SELECT relpersistence = 'u' FROM pg_class WHERE oid = to_regclass($1)) AS unlogged
"""


def quoted(table: str) -> str:
    """A table's name, or SCHEMA.TABLE, as SQL has it.

    Raises:
        EngineProblem: it is no name, or has more than 50 characters.

    """
    # Below PostgreSQL's 63, to leave room for the name of the index.
    if not re.fullmatch(r"([a-z_][a-z0-9_]{0,49}\.)?[a-z_][a-z0-9_]{0,49}", table):
        what = "a table's name has lower-case letters, digits and _, and at most 50 of them"
        raise EngineProblem(f"{what}; a schema may stand before it, with a dot")
    return ".".join(f'"{part}"' for part in table.split("."))


def schema(table: str = TABLE) -> str:
    """The statements that make a table where it is missing, for a DBA or for the server itself.

    There is an index for what is swept, and none on `updated_at`: nothing but people asks for it, and each write would
    have to keep it.

    Raises:
        EngineProblem: it is no name of a table.

    """
    return SCHEMA.format(table=quoted(table), index=f'"{table.split(".")[-1]}_expires_at"')
