"""What is special to PostgreSQL: its URL, TLS, roles, the table, lost connections, and failover to a standby."""

# ruff: noqa: S608  # what the statements are put together from is the tests' own
import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import asyncpg
import pytest
from key_value.aio.errors import KeyValueStoreError, StoreConnectionError

from engines.conftest import UNHURRIED
from harness.certificates import certify
from harness.engines import EngineProcess, PgBouncer, PostgreSQLServer, PostgreSQLStandby
from harness.engines.postgresql import DATABASE, OWNER, PASSWORD, SUPERUSER
from harness.engines.process import HOST
from harness.waiting import HANGS_AFTER, eventually
from mcp_holdfast.storage.backends import Engine, EngineProblem, Swept, open_engine
from mcp_holdfast.storage.backends.engine import QUARANTINE_COLLECTION
from mcp_holdfast.storage.backends.postgresql import PostgreSQLEngine, engine, schema
from mcp_holdfast.storage.backends.postgresql.table import SWEEP

ROLE = "replica"
FOUR = ("SELECT", "INSERT", "UPDATE", "DELETE")
HURRIED = 1.0
"""In seconds: what a test gives a server to answer that will not."""

ENDED = f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '{OWNER}'"


@pytest.fixture
def server(running_engines: Callable[[str], EngineProcess]) -> Iterator[PostgreSQLServer]:
    server = running_engines("postgresql")
    assert isinstance(server, PostgreSQLServer)
    server.empty()
    yield server
    server.execute(f"ALTER DATABASE {DATABASE} RESET ALL; DROP SCHEMA IF EXISTS of_a_team CASCADE")
    server.execute(f"DROP TABLE IF EXISTS holdfast_store; DROP ROLE IF EXISTS {ROLE}")


@pytest.fixture
async def opened() -> AsyncIterator[Callable[..., Engine]]:
    """Open engines that are closed when the test ends."""
    engines = []

    def opening(url: str, **options: Any) -> Engine:
        engines.append(open_engine(url, **options))
        return engines[-1]

    yield opening
    for each in engines:
        await each.close()


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ("table=Upper", "lower-case"),
        ("table=a;b", "lower-case"),
        (f"table={'a' * 51}", "at most 50"),
        ("table=", "table of the URL has no value"),
        ("pool_size=0", "pool_size=0"),
        ("pool_size=many", "pool_size=many"),
        ("statement_cache_size=-1", "statement_cache_size=-1"),
        ("sslmode=verify", "sslmode"),
        ("ssl_mode=verify-full", "parameter ssl_mode"),
        ("connect_timeout=5", "parameter connect_timeout"),
        ("channel_binding=require", "parameter channel_binding"),
        ("sslmode", "NAME=VALUE"),
        ("sslmode=verify-full&sslrootcert=/nowhere/ca.pem", "certificate or key"),
        ("sslmode=verify-full&sslrootcert=/dev/null", "certificate or key"),
        ("target_session_attrs=standby", "cannot write"),
        ("target_session_attrs=any-of-them", "cannot write"),
        ("ssl_min_protocol_version=TLSv9", "TLS"),
    ],
)
def test_a_wrong_parameter_is_named(parameters: str, problem: str) -> None:
    with pytest.raises(EngineProblem, match=problem):
        open_engine(f"postgresql://user:password@host/database?{parameters}")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:sec@ret@host/database",
        "postgresql://user:sec/ret@host/database",
        "postgresql://user:sec?ret@host/database",
        "postgresql://user:sec#ret@host/database",
        "postgresql://user:secret",
        "postgresql://user:secret@host:port/database",
        "postgresql://user:secret@host:0/database",
        "postgresql://user:secret@host:65536/database",
        "postgresql://user:secret@[::1/database",
        "postgresql://user:secret@one:1,two:x/database",
        "postgresql://user:secret@host,/database",
    ],
)
def test_a_url_that_cannot_be_read_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(EngineProblem) as refused:
        open_engine(url)
    assert "sec" not in str(refused.value)
    assert "ret" not in str(refused.value)


def test_a_user_must_be_named_where_the_system_knows_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("PGUSER", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 54321)
    with pytest.raises(EngineProblem, match="names no user"):
        open_engine("postgresql://host/database")


async def test_both_schemes_and_an_encoded_password_are_understood(
    server: PostgreSQLServer, opened: Callable[..., Engine]
) -> None:
    for url in (server.url, server.url.replace("postgresql://", "postgres://")):
        assert await opened(url).count("one", at_most=1) == 0


@pytest.mark.parametrize("wrong", ["authority", "host", "no TLS", "password"])
async def test_a_server_that_cannot_be_trusted_is_not_used(
    server: PostgreSQLServer, opened: Callable[..., Engine], tmp_path: Path, wrong: str
) -> None:
    certify(HOST, tmp_path / "another", tmp_path / "another-authority.pem")
    url = {
        "authority": server.url_of(OWNER, sslrootcert=str(tmp_path / "another-authority.pem")),
        "host": server.url.replace("127.0.0.1", "localhost"),
        "no TLS": server.url_of(OWNER, sslmode="disable"),
        "password": server.url.replace("p%40ss", "pass"),
    }[wrong]
    expected = {"authority": "CERTIFICATE_VERIFY_FAILED", "host": "mismatch|not valid for 'localhost'"}
    with pytest.raises(KeyValueStoreError, match=expected.get(wrong, "this user is not let in")) as error:
        await opened(url).get("key", collection="one")
    assert PASSWORD not in str(error.value)


@pytest.mark.parametrize("named", [{}, {"sslrootcert": "system"}])
async def test_the_authorities_of_the_system_are_trusted_where_none_are_named(
    server: PostgreSQLServer, opened: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch, named: dict[str, str]
) -> None:
    of_ours = f"&sslrootcert={quote(str(server.authority), safe='')}"
    url = server.url.replace(of_ours, "".join(f"&{name}={value}" for name, value in named.items()))
    assert of_ours not in url
    with pytest.raises(KeyValueStoreError, match=r"certificate is not trusted.*sslrootcert"):
        await opened(url).get("key", collection="one")
    monkeypatch.setenv("SSL_CERT_FILE", str(server.authority))
    assert await opened(url).get("key", collection="one") is None


async def test_a_table_may_be_in_a_schema_of_its_own(server: PostgreSQLServer, opened: Callable[..., Engine]) -> None:
    server.execute(f"CREATE SCHEMA of_a_team AUTHORIZATION {OWNER}")
    url = f"{server.url}&table=of_a_team.select"
    await opened(url).put("key", {"a": 1}, collection="one")
    assert server.execute('SELECT key FROM of_a_team."select"') == "key"
    assert await opened(url, may_create=False).exists()
    assert not await opened(server.url).exists()


async def test_a_table_that_is_missing_is_not_made_by_who_only_looks(
    server: PostgreSQLServer, opened: Callable[..., Engine]
) -> None:
    looking = opened(server.url, may_create=False)
    assert not await looking.exists()
    with pytest.raises(KeyValueStoreError, match="no table holdfast_store"):
        await looking.get("key", collection="one")
    assert server.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == "0"


async def test_replicas_that_begin_at_once_all_find_the_table(
    server: PostgreSQLServer, opened: Callable[..., Engine]
) -> None:
    for _ in range(5):
        server.empty()
        engines = [opened(server.url) for _ in range(12)]
        added = await asyncio.gather(*(engine.add("key", {"a": 1}, collection="one") for engine in engines))
        assert sorted(added) == [False] * 11 + [True]


def test_the_printed_statements_can_be_run_again(server: PostgreSQLServer) -> None:
    longest = "a" * 50
    for table in ("holdfast_store", longest, "holdfast_store"):
        server.execute(schema(table))
    assert server.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1").split() == [
        longest,
        "holdfast_store",
    ]
    indexed = "SELECT count(*) FROM pg_indexes WHERE schemaname = 'public' AND indexdef LIKE '%expires_at IS NOT NULL%'"
    assert server.execute(indexed) == "2"
    server.execute(f"DROP TABLE {longest}")


async def test_a_role_needs_four_permissions_on_the_table_and_no_more(
    server: PostgreSQLServer, opened: Callable[..., Engine]
) -> None:
    server.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'; {schema()}")
    server.execute(f"GRANT {', '.join(FOUR)} ON holdfast_store TO {ROLE}")
    store = opened(server.url_of(ROLE))
    assert await store.exists()
    assert await store.add("key", {"a": 1}, collection="one", ttl=60)
    await store.put("key", {"a": 2}, collection="one", ttl=60)
    entry = await store.read("key", collection="one")
    assert entry is not None
    assert await store.replace("key", collection="one", expected=entry, value={"a": 3})
    assert [key async for key, _ in store.entries("one")] == ["key"]
    assert await store.collection_names() == ["one"]
    entry = await store.read("key", collection="one")
    assert entry is not None
    await store.set_aside("key", collection="one", entry=entry)
    assert not await store.delete("key", collection="one")
    assert [swept async for swept in store.sweep(limit=10, quarantine=1)] == [Swept()]
    assert await store.warnings() == []


async def test_a_role_that_may_not_make_the_table_is_told_what_to_run(
    server: PostgreSQLServer, opened: Callable[..., Engine]
) -> None:
    server.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'")
    for table in ("holdfast_store", "nowhere.holdfast_store"):
        with pytest.raises(KeyValueStoreError, match=f"{table} cannot be made.*holdfast schema postgresql"):
            await opened(f"{server.url_of(ROLE)}&table={table}").get("key", collection="one")


@pytest.mark.parametrize("missing", FOUR)
async def test_a_missing_permission_is_told_before_anything_is_stored(
    server: PostgreSQLServer, opened: Callable[..., Engine], missing: str
) -> None:
    granted = ", ".join(permission for permission in FOUR if permission != missing)
    server.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'; {schema()}")
    server.execute(f"GRANT {granted} ON holdfast_store TO {ROLE}")
    with pytest.raises(
        KeyValueStoreError, match=r"holdfast_store may not be used.*GRANT SELECT, INSERT, UPDATE, DELETE"
    ):
        await opened(server.url_of(ROLE)).get("key", collection="one")
    assert server.execute("SELECT count(*) FROM holdfast_store") == "0"


async def test_a_permission_that_is_taken_away_later_is_an_outage(
    server: PostgreSQLServer, opened: Callable[..., Engine]
) -> None:
    server.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'; {schema()}")
    server.execute(f"GRANT {', '.join(FOUR)} ON holdfast_store TO {ROLE}")
    store = opened(server.url_of(ROLE))
    await store.put("key", {"a": 1}, collection="one")
    server.execute(f"REVOKE SELECT ON holdfast_store FROM {ROLE}")
    with pytest.raises(StoreConnectionError, match="InsufficientPrivilegeError"):
        await store.get("key", collection="one")


@pytest.mark.parametrize(
    "table",
    [
        "CREATE TABLE holdfast_store (collection text, key text, value jsonb)",
        schema().replace("jsonb", "text"),
        schema().replace("    updated_at timestamptz NOT NULL,\n", ""),
        schema().replace(",\n    PRIMARY KEY (collection, key)", ""),
    ],
)
async def test_a_table_of_another_form_is_refused(
    server: PostgreSQLServer, opened: Callable[..., Engine], table: str
) -> None:
    server.execute(table)
    server.execute("ALTER TABLE IF EXISTS holdfast_store OWNER TO holdfast")
    with pytest.raises(KeyValueStoreError, match=r"not one of Holdfast's.*holdfast schema postgresql"):
        await opened(server.url).get("key", collection="one")


async def test_connections_that_the_server_ended_are_replaced_unnoticed(
    server: PostgreSQLServer, opened: Callable[..., Engine]
) -> None:
    store = opened(server.url)
    for _ in range(5):
        await asyncio.gather(*(store.put(f"{number}", {"a": 1}, collection="one") for number in range(20)))
        assert int(await asyncio.to_thread(server.execute, ENDED)) > 1
        await asyncio.to_thread(eventually, lambda: _connections(server), lambda count: count == 0)
        await asyncio.gather(*(store.put(f"{number}", {"a": 2}, collection="one") for number in range(20)))


async def test_a_connection_whose_end_is_only_announced_yet_is_replaced_unnoticed(
    server: PostgreSQLServer, opened: Callable[..., Engine]
) -> None:
    async with EndlessLine(server.port) as line:
        store = opened(server.url.replace(f":{server.port}/", f":{line.port}/"))
        await store.put("key", {"a": 1}, collection="one")
        line.hand_on_one_more_record()
        await asyncio.to_thread(server.execute, ENDED)
        await asyncio.to_thread(eventually, lambda: _connections(server), lambda count: count == 0)
        assert await store.add("another", {"a": 1}, collection="one")


class EndlessLine:
    """Stands between a client and a server, and can keep from the client that a connection has ended.

    What the server says last before that is one TLS record (RFC 8446, section 5.1).
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._connections: list[asyncio.StreamWriter] = []
        self._ending: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for connection in self._connections:
            connection.close()
        await self._server.wait_closed()

    def hand_on_one_more_record(self) -> None:
        """Of what the server says on each connection that there is; and then nothing, not even its end."""
        self._ending.update(self._connections)

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        self._connections.append(to_client)
        server, to_server = await asyncio.open_connection(HOST, self._to)
        forward = asyncio.create_task(_forward(client, to_server))
        while data := await server.read(65536):
            if to_client in self._ending:
                to_client.write(data[: 5 + int.from_bytes(data[3:5])])
                await forward
                return
            to_client.write(data)
        to_client.close()


async def _forward(source: asyncio.StreamReader, destination: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await source.read(65536):
            destination.write(data)
            await destination.drain()
    destination.close()


async def test_a_crash_is_an_outage_until_the_server_is_there_again(
    server: PostgreSQLServer, opened: Callable[..., Engine]
) -> None:
    store = opened(server.url)
    await store.put("key", {"a": 1}, collection="one")
    server.kill()
    for _ in range(3):
        with pytest.raises(StoreConnectionError):
            await store.add("another", {"a": 1}, collection="one")
    server.start()
    assert await store.add("another", {"a": 1}, collection="one")
    assert await store.get("key", collection="one") == {"a": 1}


async def test_a_server_that_hangs_holds_up_nobody_for_long_and_is_used_when_it_goes_on(
    server: PostgreSQLServer, opened: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(f"{server.url}&pool_size=1")
    await store.put("key", {"a": 1}, collection="one")
    server.hang()
    try:
        with _in_a_hurry(monkeypatch):
            async with asyncio.timeout(UNHURRIED / 2):
                for _ in range(2):
                    asked = (store.get("key", collection="one") for _ in range(20))
                    answers = await asyncio.gather(*asked, return_exceptions=True)
                    assert all(isinstance(answer, StoreConnectionError) for answer in answers)
    finally:
        server.go_on()
    assert await store.get("key", collection="one") == {"a": 1}


async def test_what_was_given_up_is_not_stored_later(
    server: PostgreSQLServer, opened: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "CANCELS_WITHIN", UNHURRIED)
    store, blocking = opened(server.url), opened(server.url)
    await store.put("key", {"a": 1}, collection="one")
    await blocking.setup()
    async with _pool_of(blocking).acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM holdfast_store FOR UPDATE")
        with _in_a_hurry(monkeypatch), pytest.raises(StoreConnectionError, match="TimeoutError"):
            await store.put("key", {"a": 2}, collection="one")
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        assert server.execute(waiting) == "0"
    assert await store.get("key", collection="one") == {"a": 1}


async def test_no_more_connections_are_made_than_the_pool_has(
    server: PostgreSQLServer, opened: Callable[..., Engine]
) -> None:
    store = opened(f"{server.url}&pool_size=3")
    await asyncio.gather(*(store.put(f"{number}", {"a": 1}, collection="one") for number in range(60)))
    assert _connections(server) == 3
    assert await store.count("one", at_most=100) == 60


@contextmanager
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have stores wait for a short time only: for what never comes, as a busy machine takes its time for all else."""
    with monkeypatch.context() as hurried:
        hurried.setattr(engine, "ANSWERS_WITHIN", HURRIED)
        yield


def _pool_of(store: Engine) -> asyncpg.Pool:
    assert isinstance(store, PostgreSQLEngine)
    return store._initialized_pool


def _connections(server: PostgreSQLServer) -> int:
    return int(server.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'holdfast'"))


async def test_statements_need_not_be_kept_by_the_server(
    server: PostgreSQLServer, opened: Callable[..., Engine]
) -> None:
    store = opened(f"{server.url}&statement_cache_size=0&pool_size=1")
    assert await store.add("key", {"a": 1}, collection="one")
    assert await store.get("key", collection="one") == {"a": 1}
    assert await _pool_of(store).fetchval("SELECT count(*) FROM pg_prepared_statements WHERE name <> ''") == 0


async def test_a_pooler_that_lends_a_connection_for_one_transaction_may_stand_in_between(
    server: PostgreSQLServer, opened: Callable[..., Engine]
) -> None:
    pooler = PgBouncer(server).start()
    try:
        stores = [opened(pooler.url) for _ in range(3)]
        for number in range(10):
            adding = [store.add(f"key-{number}", {"a": 1}, collection="one", ttl=60) for store in stores * 4]
            assert sorted(await asyncio.gather(*adding)) == [False] * 11 + [True]
        store = stores[0]
        entry = await store.read("key-0", collection="one")
        assert entry is not None
        assert await store.replace("key-0", collection="one", expected=entry, value={"a": 2})
        deleting = [store.delete("key-0", collection="one") for store in stores * 4]
        assert sorted(await asyncio.gather(*deleting)) == [False] * 11 + [True]
        assert len([key async for key, _ in store.entries("one")]) == 9
        assert [swept async for swept in store.sweep(limit=10, quarantine=1)] == [Swept()]
    finally:
        pooler.kill()


async def test_the_isolation_that_a_database_sets_changes_nothing(
    server: PostgreSQLServer, opened: Callable[..., Engine]
) -> None:
    server.execute(f"ALTER DATABASE {DATABASE} SET default_transaction_isolation = serializable")
    stores = [opened(server.url) for _ in range(4)]
    for number in range(10):
        added = await asyncio.gather(*(store.add(f"{number}", {"a": 1}, collection="one") for store in stores))
        assert sorted(added) == [False, False, False, True]
        taken = await asyncio.gather(*(store.delete(f"{number}", collection="one") for store in stores))
        assert sorted(taken) == [False, False, False, True]


@pytest.mark.parametrize(
    "damage",
    [
        "value = '7'",
        "value = 'null'",
        "value = '[1, 2]'",
        "value = '\"text\"'",
        f"value = '{'[' * 3000}{']' * 3000}'",
        "expires_at = 'infinity'",
        "expires_at = '200000-01-01'",
        "created_at = '-infinity'",
        "created_at = '4000-01-01 BC'",
    ],
)
async def test_a_damaged_row_is_a_miss_and_is_set_aside(
    server: PostgreSQLServer, opened: Callable[..., Engine], damage: str
) -> None:
    store = opened(server.url)
    await store.put("damaged", {"a": 1}, collection="one")
    await store.put("good", {"a": 2}, collection="one")
    server.execute(f"UPDATE holdfast_store SET {damage} WHERE key = 'damaged'")
    assert [key async for key, _ in store.entries("one")] == ["good"]
    assert await store.get("damaged", collection="one") is None
    aside = "SELECT key, expires_at > now() + interval '6 days' FROM holdfast_store WHERE collection = 'quarantine'"
    assert server.execute(aside) == "one::damaged|t"
    assert await store.add("damaged", {"a": 3}, collection="one")
    assert await store.get("damaged", collection="one") == {"a": 3}


async def test_a_record_that_took_the_place_of_another_one_is_not_set_aside(
    server: PostgreSQLServer, opened: Callable[..., Engine]
) -> None:
    store = opened(server.url)
    await store.put("key", {"a": 1}, collection="one")
    entry = await store.read("key", collection="one")
    assert entry is not None
    await store.put("key", {"a": 2}, collection="one")
    await store.set_aside("key", collection="one", entry=entry)
    assert not await store.replace("key", collection="one", expected=entry, value={"a": 3})
    assert await store.get("key", collection="one") == {"a": 2}


async def test_a_record_is_replaced_only_while_its_value_and_its_dates_are_the_expected_ones(
    server: PostgreSQLServer, opened: Callable[..., Engine]
) -> None:
    store = opened(server.url)
    for changed in ("value = '{\"a\": 2}'", "created_at = created_at + '1 us'", "expires_at = expires_at + '1 us'"):
        await store.put("key", {"a": 1}, collection="one", ttl=60)
        entry = await store.read("key", collection="one")
        assert entry is not None
        server.execute(f"UPDATE holdfast_store SET {changed}")
        assert not await store.replace("key", collection="one", expected=entry, value={"a": 3})
        renewed = await store.read("key", collection="one")
        assert renewed is not None
        assert await store.replace("key", collection="one", expected=renewed, value={"a": 4})
        assert (await store.ttl("key", collection="one"))[0] == {"a": 4}


def _expired(server: PostgreSQLServer, records: int, *, collection: str = "one", ago: str = "1 hour") -> None:
    server.execute(
        "INSERT INTO holdfast_store (collection, key, value, updated_at, expires_at) SELECT "
        f"'{collection}', number::text, '{{}}', now(), now() - interval '{ago}' FROM generate_series(1, {records}) AS "
        "number"
    )


async def test_expired_rows_are_removed_piece_by_piece(server: PostgreSQLServer, opened: Callable[..., Engine]) -> None:
    store = opened(server.url)
    await store.put("lives", {"a": 1}, collection="one", ttl=60)
    await store.put("for ever", {"a": 1}, collection="one")
    _expired(server, 25)
    _expired(server, 3, collection=QUARANTINE_COLLECTION, ago="2 hours")
    _expired(server, 2, collection="another", ago="30 seconds")
    pieces = [piece async for piece in store.sweep(limit=10, quarantine=1)]
    assert [piece.removed for piece in pieces] == [10, 10, 8]
    assert (sum(piece.expired for piece in pieces), sum(piece.quarantined for piece in pieces)) == (25, 3)
    assert server.execute("SELECT count(*) FROM holdfast_store") == "4"


async def test_processes_that_sweep_at_once_take_different_rows_and_wait_for_nobody(
    server: PostgreSQLServer, opened: Callable[..., Engine]
) -> None:
    stores = [opened(server.url) for _ in range(4)]
    await stores[0].setup()
    _expired(server, 1000)

    async def sweep(store: Engine) -> int:
        return sum([piece.removed async for piece in store.sweep(limit=20, quarantine=1)])

    async with _pool_of(stores[0]).acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM holdfast_store WHERE key = '1' FOR UPDATE")
        async with asyncio.timeout(HANGS_AFTER):
            assert sum(await asyncio.gather(*map(sweep, stores))) == 999
    assert await sweep(stores[0]) == 1


async def test_a_sweep_reads_expired_rows_only(server: PostgreSQLServer, opened: Callable[..., Engine]) -> None:
    store = opened(server.url)
    await store.setup()
    _expired(server, 5000, ago="-1 hour")
    _expired(server, 10, collection="another")
    server.execute("VACUUM ANALYZE holdfast_store")
    plan = server.execute(
        "EXPLAIN "
        + SWEEP.format(table="holdfast_store").replace("$1", "now()").replace("$2", "500").replace("$3", "'quarantine'")
    )
    assert "Index Scan using holdfast_store_expires_at" in plan
    assert "Tid Scan" in plan
    assert "Seq Scan" not in plan


async def test_a_server_that_may_lose_records_is_warned_of(
    server: PostgreSQLServer, opened: Callable[..., Engine]
) -> None:
    assert await opened(server.url).warnings() == []
    server.execute("ALTER TABLE holdfast_store SET UNLOGGED")
    server.execute("ALTER SYSTEM SET fsync = off")
    server.execute("ALTER SYSTEM SET full_page_writes = off")
    server.execute("SELECT pg_reload_conf()")
    try:
        await asyncio.to_thread(eventually, lambda: server.execute("SHOW fsync"), lambda fsync: fsync == "off")
        found = await opened(server.url_of(SUPERUSER, synchronous_commit="off")).warnings()
    finally:
        server.execute("ALTER SYSTEM RESET ALL")
        server.execute("SELECT pg_reload_conf()")
    assert len(found) == 5
    for what in ("fsync", "full_page_writes", "synchronous_commit", "SET LOGGED", "superuser"):
        assert any(what in warning for warning in found)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[PostgreSQLServer, PostgreSQLStandby]]:
    with ExitStack() as running:
        primary = PostgreSQLServer(tmp_path / "primary")
        running.callback(primary.kill)
        standby = PostgreSQLStandby(tmp_path / "standby", primary.start())
        running.callback(standby.kill)
        yield primary, standby.start()


def _url_of_both(first: PostgreSQLServer, second: PostgreSQLServer) -> str:
    return first.url.replace(f":{first.port}/", f":{first.port},127.0.0.1:{second.port}/")


async def test_a_standby_is_used_from_its_promotion_on(
    pair: tuple[PostgreSQLServer, PostgreSQLStandby], opened: Callable[..., Engine]
) -> None:
    primary, standby = pair
    store = opened(_url_of_both(standby, primary))
    await store.put("key", {"a": 1}, collection="one")
    written = primary.execute("SELECT pg_current_wal_lsn()")
    replayed = f"SELECT pg_last_wal_replay_lsn() >= '{written}'"
    eventually(lambda: standby.execute(replayed), lambda answer: answer == "t")
    primary.kill()
    for _ in range(2):
        with pytest.raises(StoreConnectionError):
            await store.put("key", {"a": 2}, collection="one")
    standby.promote()
    assert await store.get("key", collection="one") == {"a": 1}
    await store.put("key", {"a": 3}, collection="one")
    assert await store.get("key", collection="one") == {"a": 3}


async def test_a_primary_that_takes_no_writes_any_more_is_left_for_the_new_one(
    pair: tuple[PostgreSQLServer, PostgreSQLStandby], opened: Callable[..., Engine]
) -> None:
    primary, standby = pair
    store = opened(_url_of_both(primary, standby))
    await asyncio.gather(*(store.put(f"{number}", {"a": 1}, collection="one") for number in range(20)))
    primary.execute("ALTER SYSTEM SET default_transaction_read_only = on")
    primary.execute("SELECT pg_reload_conf()")
    standby.promote()

    async def refused() -> None:
        while True:
            await store.put("key", {"a": 2}, collection="one")
            await asyncio.sleep(0.01)

    # The one write that finds it out.
    async with asyncio.timeout(HANGS_AFTER):
        with pytest.raises(StoreConnectionError, match="read-only"):
            await refused()
    await asyncio.gather(*(store.put(f"{number}", {"a": 3}, collection="one") for number in range(20)))
    assert standby.execute("SELECT count(*) FROM holdfast_store WHERE value = '{\"a\": 3}'") == "20"


async def test_a_standby_alone_is_not_used(
    pair: tuple[PostgreSQLServer, PostgreSQLStandby], opened: Callable[..., Engine]
) -> None:
    with pytest.raises(KeyValueStoreError, match="read-write"):
        await opened(pair[1].url).get("key", collection="one")


async def test_why_the_primary_is_not_reached_is_told_rather_than_that_the_standby_is_one(
    pair: tuple[PostgreSQLServer, PostgreSQLStandby], opened: Callable[..., Engine]
) -> None:
    primary, standby = pair
    primary.kill()
    with pytest.raises(KeyValueStoreError, match=f"ConnectionRefusedError.*{primary.port}"):
        await opened(_url_of_both(primary, standby)).get("key", collection="one")


@pytest.mark.usefixtures("in_earnest")
async def test_a_host_that_does_not_answer_does_not_keep_the_next_one_from_being_asked(
    pair: tuple[PostgreSQLServer, PostgreSQLStandby], opened: Callable[..., Engine]
) -> None:
    primary, standby = pair
    standby.hang()
    store = opened(_url_of_both(standby, primary))
    async with asyncio.timeout(8):
        await store.put("key", {"a": 1}, collection="one")
    assert await store.get("key", collection="one") == {"a": 1}
