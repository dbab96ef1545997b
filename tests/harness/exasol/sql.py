"""The stand-in's SQL: what exasol's MCP server writes of Exasol's dialect, translated by sqlglot and run by SQLite."""

import re
import sqlite3
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import sqlglot
from sqlglot import exp

CATALOGUE = Path(__file__).with_name("catalogue.sql")
SCHEMAS = ("RETAIL", "SYS", "EXA_STATISTICS")
WITHOUT_EFFECT = re.compile(r"(ALTER\s+SESSION|FLUSH\s+STATISTICS)\b", re.IGNORECASE)
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)

BARE_JOIN = re.compile(r'\bJOIN (SELECT .*) AS "O" ON ', re.DOTALL)
"""Exasol takes it (exasol's own tests run it there), sqlglot does not read it."""

IN_EVERY_SESSION = {"CURRENT_SESSION": 1, "CURRENT_STATEMENT": 2}
"""As in the only row of the catalogue's statistics."""

Row = tuple[str | int | float | None, ...]


class SqlError(Exception):
    """The statement cannot be executed."""


@dataclass(frozen=True)
class ResultSet:
    columns: list[str]
    rows: list[Row]


class Sql:
    """One database for all sessions; each statement is a transaction."""

    def __init__(self) -> None:
        self._sqlite = sqlite3.connect(":memory:", isolation_level=None)
        for schema in SCHEMAS:
            self._sqlite.execute(f"ATTACH ':memory:' AS {schema}")
        self._sqlite.executescript(CATALOGUE.read_text())

    def execute(self, statement: str, *, user: str) -> ResultSet | int:
        """Return the rows, or how many were changed.

        Raises:
            SqlError: it is wrong, or not in this dialect of a dialect.

        """
        statement = COMMENT.sub("", statement).strip()
        if WITHOUT_EFFECT.match(statement):
            return 0
        try:
            cursor = self._sqlite.execute(translated(statement, user))
            if cursor.description is None:
                return max(cursor.rowcount, 0)
            return ResultSet([column[0] for column in cursor.description], cursor.fetchall())
        except (sqlglot.ParseError, sqlite3.Error) as error:
            raise SqlError(str(error)) from error


def translated(statement: str, user: str) -> str:
    parsed = sqlglot.parse_one(BARE_JOIN.sub(r'JOIN (\1) AS "O" ON ', statement), read="exasol")
    return parsed.transform(partial(for_sqlite, user=user)).sql("sqlite")


def for_sqlite(node: exp.Expression, *, user: str) -> exp.Expression:
    """Replace what SQLite lacks by what gives the same rows from this catalogue."""
    match node:
        case exp.GroupConcat():
            ordered = node.this
            return exp.GroupConcat(this=ordered.this if isinstance(ordered, exp.Order) else ordered)
        case exp.FirstValue():
            return exp.Min(this=node.this)
        case exp.Left():
            return exp.Substring(this=node.this, start=exp.Literal.number(1), length=node.expression)
        case exp.CurrentUser():
            return exp.Literal.string(user)
        case exp.Column() if node.name in IN_EVERY_SESSION:
            return exp.Literal.number(IN_EVERY_SESSION[node.name])
    return node
