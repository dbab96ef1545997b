"""Records in one table of a PostgreSQL database, through asyncpg.

Every step that must have one winner is one statement that commits by itself, and nothing depends on the session, so
PgBouncer may stand in between. Whether a record has expired is told by the clock of whoever asks, as `read` does.

Nothing that may have reached the server is sent again: a claim whose answer was lost may have been won.
"""

import asyncio
import logging
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, ClassVar, TypeAlias

import asyncpg
from key_value.aio._utils.compound import compound_key
from key_value.aio._utils.managed_entry import ManagedEntry, load_from_json
from key_value.aio._utils.time_to_live import now, now_plus, prepare_entry_timestamps
from key_value.aio.stores.postgresql import PostgreSQLStore

from mcp_holdfast.storage.backends.engine import (
    ANSWERS_WITHIN,
    CONNECTS_WITHIN,
    QUARANTINE_COLLECTION,
    UNREADABLE,
    Engine,
    EngineProblem,
    reported,
)
from mcp_holdfast.storage.backends.postgresql.server import server_of
from mcp_holdfast.storage.backends.postgresql.table import (
    ADD,
    COLLECTION_NAMES,
    COUNT,
    DELETE,
    DURABILITY,
    EXISTS,
    GET,
    NEXT,
    PUT,
    REPLACE,
    SET_ASIDE,
    SWEEP,
    quoted,
    schema,
)
from mcp_holdfast.storage.backends.swept import EXPIRED_FOR, Swept

log = logging.getLogger(__name__)

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

PAGE = 500
CANCELS_WITHIN = 1.0
"""In seconds: a server that answers has acknowledged by then that a statement is not to be finished."""

NOT_LET_IN = (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError)
"""A user, password or database that is wrong now is wrong after a wait, too."""

CONTENDED = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
"""Where the database isolates transactions more than by default, the server undid the statement of one of two."""

NOTHING_SENT = "cannot switch to state"
"""What asyncpg says, before it sends a statement, of a connection whose end the server has told, and that is not
closed yet."""

LOST = (asyncio.CancelledError, OSError, asyncpg.PostgresConnectionError, asyncpg.ReadOnlySQLTransactionError)
"""After these, the other connections may lead to a server that is gone, or is no primary any more, too."""


class StatementNotSent(Exception):
    """Another connection can take it."""


class PostgreSQLEngine(Engine, PostgreSQLStore):
    """Records that expire by their column `expires_at`, and that `sweep` removes."""

    failures: ClassVar[tuple[type[Exception], ...]] = (
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,
        OSError,
    )

    def __init__(self, url: str, *, quarantine: float, may_create: bool = True) -> None:
        self._server = server_of(url)
        self.quarantine = quarantine
        self.may_create = may_create
        self._addresses = list(self._server.addresses)
        PostgreSQLStore.__init__(self, url=self._server.dsn)
        self._table_name = quoted(self._server.table)
        self._options: dict[str, Any] = {
            "timeout": min(CONNECTS_WITHIN, ANSWERS_WITHIN / len(self._addresses)),
            "command_timeout": ANSWERS_WITHIN,
            "statement_cache_size": self._server.statement_cache_size,
        }

    @reported
    async def exists(self) -> bool:
        with _mistakes_told():
            connection = await self._open(self._server.dsn, **self._options)
        try:
            return bool(await connection.fetchval(EXISTS, self._table_name))
        finally:
            await connection.close(timeout=CANCELS_WITHIN)

    @reported
    async def warnings(self) -> list[str]:
        await self.setup()
        [server] = await self._rows(DURABILITY, self._table_name)
        table = self._table_name
        checks = (
            (server["fsync"] == "off", "may lose everything when it crashes (fsync is off); set fsync to on"),
            (server["full_page_writes"] == "off", "may be damaged by a crash; set full_page_writes to on"),
            (
                server["synchronous_commit"] == "off",
                "may lose the last records by a crash; set synchronous_commit to on",
            ),
            (server["unlogged"], f"loses all records by a crash; run: ALTER TABLE {table} SET LOGGED"),
            (server["superuser"] == "on", f"is used as a superuser; a role that may only use {table} is enough"),
        )
        return [warning for holds, warning in checks if holds]

    async def _connect(self) -> None:
        self._pool = await asyncpg.create_pool(
            self._server.dsn,
            connect=self._open,
            reset=_leave_as_it_is,
            min_size=0,
            max_size=self._server.pool_size,
            **self._options,
        )

    async def _open(self, *dsn: Any, **options: Any) -> Connection:
        """Connect to the server that was the right one last, else to the first one that is.

        Each has a time limit of its own, which asyncpg has for all of them together: one that does not answer must
        not keep the others from being asked.
        """
        failures = []
        for address in tuple(self._addresses):
            host, port = (address, None) if isinstance(address, str) else address
            try:
                connection: Connection = await asyncpg.connect(*dsn, host=host, port=port, **options)
            except self.failures as error:
                failures.append(error)
                continue
            self._addresses.remove(address)
            self._addresses.insert(0, address)
            return connection
        # That a standby is one says nothing of why the server that takes writes was not reached.
        raise min(failures, key=lambda error: isinstance(error, asyncpg.TargetServerAttributeNotMatched))

    async def _prepare(self) -> None:
        try:
            with _mistakes_told():
                await self._prepare_table()
        except BaseException:
            await self._disconnect()
            raise

    async def _prepare_table(self) -> None:
        try:
            [found] = await self._rows(EXISTS, self._table_name)
            if not found["exists"]:
                await self._create()
            await self._try_out()
        except asyncpg.InsufficientPrivilegeError as error:
            remedy = f"run as its owner: GRANT SELECT, INSERT, UPDATE, DELETE ON {self._table_name} TO this user"
            raise EngineProblem(f"the table {self._server.table} may not be used: {error.args[0]}; {remedy}") from error
        except asyncpg.SyntaxOrAccessError as error:
            remedy = "name another table with ?table=, or make it as 'holdfast schema postgresql' prints it"
            raise EngineProblem(
                f"the table {self._server.table} is not one of Holdfast's: {error.args[0]}; {remedy}"
            ) from error

    async def _create(self) -> None:
        remedy = "have a DBA run what 'holdfast schema postgresql' prints"
        if not self.may_create:
            raise EngineProblem(f"there is no table {self._server.table}; start the server first, or {remedy}")
        ddl = schema(self._server.table)
        try:
            # Two that create the same table at the same time both see that there is none; the later one is refused.
            with suppress(asyncpg.UniqueViolationError, asyncpg.DuplicateTableError, asyncpg.DuplicateObjectError):
                await self._initialized_pool.execute(ddl)
                return
            await self._initialized_pool.execute(ddl)
        except (asyncpg.InsufficientPrivilegeError, asyncpg.InvalidSchemaNameError) as error:
            raise EngineProblem(f"the table {self._server.table} cannot be made: {error.args[0]}; {remedy}") from error

    async def _try_out(self) -> None:
        """See that the table has the columns, the key and the permissions that are needed, without using it."""
        for statement in (GET, ADD, REPLACE, DELETE):
            unknowns = [None] * max(map(int, re.findall(r"\$(\d)", statement)))
            await self._rows(f"EXPLAIN {statement}", *unknowns)

    async def _disconnect(self) -> None:
        # What cannot be closed in time is cut off by the pool itself.
        with suppress(*self.failures):
            async with asyncio.timeout(CANCELS_WITHIN):
                await self._initialized_pool.close()

    async def _rows(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        """What a statement answers, within ANSWERS_WITHIN seconds, the wait for a connection and all."""
        async with asyncio.timeout(ANSWERS_WITHIN):
            while True:
                with suppress(*CONTENDED, StatementNotSent):
                    return await self._fetch(statement.format(table=self._table_name), arguments)

    async def _fetch(self, statement: str, arguments: tuple[Any, ...]) -> list[asyncpg.Record]:
        pool = self._initialized_pool
        connection = await pool.acquire()
        try:
            return await connection.fetch(statement, *arguments)
        except LOST:
            await pool.expire_connections()
            raise
        except asyncpg.InternalClientError as error:
            if str(error).startswith(NOTHING_SENT):
                raise StatementNotSent from error
            raise
        finally:
            # A server that does not even answer that is left: the pool cuts the connection off.
            with suppress(TimeoutError):
                await pool.release(connection, timeout=CANCELS_WITHIN)

    @reported
    async def _get_managed_entry(self, *, key: str, collection: str) -> ManagedEntry | None:
        for row in await self._rows(GET, collection, key):
            if (entry := _entry_in(row)) is not None:
                return entry
            log.warning("set aside a damaged record of the PostgreSQL store", extra={"collection": collection})
            await self._put_aside(collection, key, row["value"])
        return None

    @reported
    async def _put_managed_entry(self, *, key: str, collection: str, managed_entry: ManagedEntry) -> None:
        await self._rows(PUT, *_row_of(collection, key, managed_entry))

    @reported
    async def _delete_managed_entry(self, *, key: str, collection: str) -> bool:
        return bool(await self._rows(DELETE, collection, key))

    @reported
    async def add(self, key: str, value: Mapping[str, Any], *, collection: str, ttl: float | None = None) -> bool:
        await self.setup_collection(collection=collection)
        created_at, _, expires_at = prepare_entry_timestamps(ttl=ttl)
        entry = ManagedEntry(value=value, created_at=created_at, expires_at=expires_at)
        return bool(await self._rows(ADD, *_row_of(collection, key, entry)))

    async def entries(self, collection: str) -> AsyncIterator[tuple[str, ManagedEntry]]:
        last = ""
        while rows := await self._rows_after(last, collection):
            for row in rows:
                entry = _entry_in(row)
                if entry is not None and not entry.is_expired:
                    yield row["key"], entry
            last = rows[-1]["key"]

    @reported
    async def _rows_after(self, key: str, collection: str) -> list[asyncpg.Record]:
        await self.setup_collection(collection=collection)
        return await self._rows(NEXT, collection, key, PAGE)

    @reported
    async def collection_names(self) -> list[str]:
        await self.setup()
        return [row["name"] for row in await self._rows(COLLECTION_NAMES, QUARANTINE_COLLECTION)]

    @reported
    async def count(self, collection: str, *, at_most: int) -> int:
        await self.setup_collection(collection=collection)
        [counted] = await self._rows(COUNT, collection, at_most)
        return int(counted["count"])

    @reported
    async def replace(self, key: str, *, collection: str, expected: ManagedEntry, value: Mapping[str, Any]) -> bool:
        await self.setup_collection(collection=collection)
        was = expected.value_as_json, expected.created_at, expected.expires_at
        renewed = ManagedEntry(value=value).value_as_json
        return bool(await self._rows(REPLACE, collection, key, *was, renewed, now()))

    @reported
    async def set_aside(self, key: str, *, collection: str, entry: ManagedEntry) -> None:
        await self.setup_collection(collection=collection)
        await self._put_aside(collection, key, entry.value_as_json)

    async def _put_aside(self, collection: str, key: str, value: str) -> None:
        place = QUARANTINE_COLLECTION, compound_key(collection=collection, key=key)
        dates = self.quarantine, now(), now_plus(self.quarantine)
        await self._rows(SET_ASIDE, collection, key, value, *place, *dates)

    async def sweep(self, *, limit: int, quarantine: float) -> AsyncGenerator[Swept, None]:
        """Remove what expired a while ago; what is in quarantine expires by the date that it was given there."""
        swept = Swept(examined=limit)
        while swept.examined == limit:
            swept = await self._sweep_some(limit)
            yield swept

    @reported
    async def _sweep_some(self, limit: int) -> Swept:
        await self.setup()
        [swept] = await self._rows(SWEEP, now_plus(-EXPIRED_FOR), limit, QUARANTINE_COLLECTION)
        removed, quarantined = swept["removed"], swept["quarantined"]
        return Swept(examined=removed, expired=removed - quarantined, quarantined=quarantined)


@contextmanager
def _mistakes_told() -> Iterator[None]:
    """Say of a connection that is refused what no wait would heal."""
    try:
        yield
    except ssl.CertificateError as error:
        remedy = "name the file of who signed it with sslrootcert"
        raise EngineProblem(f"the server's certificate is not trusted: {error}; {remedy}") from error
    except NOT_LET_IN as error:
        raise EngineProblem(f"this user is not let in: {error}") from error


async def _leave_as_it_is(_: Connection) -> None:
    """Spare each operation another round trip: no statement leaves anything behind in its session."""


def _row_of(collection: str, key: str, entry: ManagedEntry) -> tuple[Any, ...]:
    return collection, key, entry.value_as_json, entry.ttl, entry.created_at, now(), entry.expires_at


def _entry_in(row: asyncpg.Record) -> ManagedEntry | None:
    """The entry of a row; None if it is damaged."""
    try:
        value, created_at, expires_at = load_from_json(row["value"]), row["created_at"], row["expires_at"]
        return ManagedEntry(value=value, created_at=_time(created_at), expires_at=_time(expires_at))
    except UNREADABLE:
        return None


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
