"""Records in one table of a PostgreSQL database."""

from mcp_holdfast.storage.backends.postgresql.engine import PostgreSQLEngine
from mcp_holdfast.storage.backends.postgresql.table import TABLE, schema

__all__ = ["TABLE", "PostgreSQLEngine", "schema"]
