"""What is special about Redis and Valkey: their URLs, TLS, Sentinel and clusters, and what others store there."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Self

import pytest
from key_value.aio.errors import KeyValueStoreError

from harness.engines import RedisServer
from harness.engines.process import HOST, ROOT
from harness.engines.redis import ENCODED_PASSWORD, PASSWORD, USER, RedisCluster, RedisWatchedBySentinel, RedisWithTLS
from harness.server import free_port
from mcp_holdfast.storage.backends import Engine, EngineProblem, open_engine
from mcp_holdfast.storage.backends.engine import QUARANTINE_COLLECTION


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.kill()


@pytest.fixture
async def store(server: RedisServer) -> AsyncIterator[Engine]:
    server.empty()
    store = open_engine(server.url)
    yield store
    await store.close()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://localhost/zero", "the path of the URL is not a database number"),
        ("redis://localhost/0/1", "is not a database number"),
        ("redis://localhost/99999999999999999999", "is not a database number"),
        ("redis://localhost:port/0", "is not a host and a port"),
        ("redis://localhost:0/0", "is not a host and a port"),
        ("redis://local..host/0", "is not a host and a port"),
        ("redis://one,two/0", r"several hosts need \+sentinel or \+cluster"),
        ("redis://localhost/0?timout=1", "has no parameter timout; it may have client_name, db"),
        ("redis://localhost/0?socket_timeout", "NAME=VALUE"),
        ("redis://localhost/0?ssl_ca_certs=/ca.pem", "redis:// has no parameter ssl_ca_certs"),
        ("rediss+cluster://localhost/0?ssl_password=p", r"rediss\+cluster:// has no parameter ssl_password"),
        ("redis+sentinel://localhost", "the service that Sentinel watches"),
        ("redis+sentinel://localhost/mymaster/x", "is not a database number"),
        ("redis+cluster://localhost/3", "a cluster has database 0 only"),
        ("redis+cluster://localhost?db=3", "a cluster has database 0 only"),
    ],
)
def test_a_wrong_url_is_refused_before_anything_is_reached(url: str, says: str) -> None:
    with pytest.raises(EngineProblem, match=says):
        open_engine(url)


@pytest.mark.parametrize("form", ["", "+sentinel", "+cluster"])
@pytest.mark.parametrize(
    "parameter",
    [
        *("db=x", "db=-1", "protocol=9", "client_name=%00", "client_name=a b"),
        *("max_connections=-1", "max_connections=0", "health_check_interval=x"),
        *("socket_timeout=soon", "socket_timeout=0", "socket_timeout=-1", "socket_timeout=nan", "socket_timeout="),
        *("ssl_cert_reqs=bogus", "ssl_min_version=x", "ssl_check_hostname=maybe", "ssl_ca_certs=%00", "ssl_ca_certs="),
        # What the client is told otherwise, or by objects.
        *("host=h", "port=1", "ssl=1", "path=/x", "unix_socket_path=/x", "startup_nodes=h", "self=x"),
        *("retry=x", "retry_on_error=x", "cache=x", "credential_provider=x", "redis_connect_func=x"),
        *("connection_pool=x", "connection_class=x", "auto_close_connection_pool=1", "single_connection_client=1"),
        *("encoding=nonesuch", "encoding_errors=ignore", "decode_responses=yes", "legacy_responses=no"),
        *("event_dispatcher=x", "driver_info=x", "lib_name=x", "maint_notifications_config=x"),
        *("socket_keepalive_options=x", "ssl_include_verify_flags=x", "min_other_sentinels=x"),
    ],
)
def test_a_parameter_that_a_url_cannot_have_is_named(form: str, parameter: str) -> None:
    with pytest.raises(EngineProblem, match=parameter.partition("=")[0]):
        open_engine(f"rediss{form}://localhost/{'mymaster' if form == '+sentinel' else ''}?{parameter}")


@pytest.mark.parametrize("form", ["", "+sentinel", "+cluster"])
@pytest.mark.parametrize(
    "rest",
    [
        *(f"user:sec{character}ret@host/0" for character in "/?#@["),
        *(f"user:12{character}secret@host/0" for character in "/?#@["),
        *("user:secret", "user:secret/0", "user:secret@host:secret", "user:secret@[::1/0", "user:sec\udcffret@host/0"),
        *("host/secret/0/0", "host/0?sec&ret", "[secret"),
    ],
)
def test_a_url_that_cannot_be_read_is_refused_and_not_repeated(form: str, rest: str) -> None:
    with pytest.raises(EngineProblem) as refused:
        open_engine(f"redis{form}://{rest}")
    assert "sec" not in str(refused.value)
    assert "ret" not in str(refused.value)


async def test_a_wrong_password_is_an_outage_that_says_so(server: RedisServer) -> None:
    store = open_engine(server.url.replace(ENCODED_PASSWORD, "another"))
    with pytest.raises(KeyValueStoreError, match=r"(?i)password") as refused:
        await store.get("key", collection="one")
    assert PASSWORD not in str(refused.value)
    await store.close()


async def test_parameters_of_the_query_are_heeded(server: RedisServer) -> None:
    store = open_engine(f"{server.url}?db=3&socket_timeout=2")
    await store.put("key", {"a": 1}, collection="one")
    other = open_engine(server.url)
    assert await other.get("key", collection="one") is None
    await other.close()
    await store.close()


@pytest.mark.parametrize(
    "planted",
    [
        b"no json",
        b"[]",
        b'{"value": 1}',
        b'{"version": 1, "expires_at": "yesterday"}',
        b"\xff\xfe\x80",
        b'{"version": 1, "value": {"a": "\xff"}}',
        b"[" * 100_000,
        b'{"value":' * 5_000 + b"1" + b"}" * 5_000,
    ],
    ids=["no JSON", "a list", "a number", "a day", "no UTF-8", "a text that is no UTF-8", "deep lists", "deep objects"],
)
async def test_what_is_no_record_is_set_aside_byte_by_byte_and_a_miss(
    store: Engine, server: RedisServer, planted: bytes
) -> None:
    await store.put("good", {"a": 1}, collection="one")
    good = await store.read("good", collection="one")
    assert good is not None
    with server.client() as client:
        client.set("one::key", planted)
    assert [key async for key, _ in store.entries("one")] == ["good"]
    assert not await store.replace("key", collection="one", expected=good, value={"a": 2})
    await store.set_aside("key", collection="one", entry=good)
    assert await store.count(QUARANTINE_COLLECTION, at_most=5) == 0
    assert await store.get("key", collection="one") is None
    with server.client() as client:
        aside = client.execute_command("GET", f"{QUARANTINE_COLLECTION}::one::key", NEVER_DECODE=True)
        assert aside == planted
        assert not client.exists("one::key")
    assert await store.add("key", {"a": 1}, collection="one")


async def test_what_is_no_text_is_a_miss(store: Engine, server: RedisServer) -> None:
    with server.client() as client:
        client.lpush("one::key", "a", "b")
    assert await store.get("key", collection="one") is None
    assert await store.add("key", {"a": 1}, collection="one")


async def test_the_rights_that_the_docs_name_are_enough(server: RedisServer) -> None:
    server.empty()
    (rights,) = re.findall(r"The user needs `([^`]+)`", (ROOT / "docs/engines.md").read_text())
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "modest", "reset", "on", f">{PASSWORD}", "~*", *rights.split())
    store = open_engine(f"{server.url.replace(f'//{USER}:', '//modest:').removesuffix('/0')}/5")
    assert await store.warnings() == []
    assert await store.add("key", {"a": 1}, collection="one", ttl=60)
    entry = await store.read("key", collection="one")
    assert entry is not None
    assert await store.replace("key", collection="one", expected=entry, value={"a": 2})
    assert [key async for key, _ in store.entries("one")] == ["key"]
    assert await store.delete("key", collection="one")
    await store.close()


async def test_what_others_keep_there_stays_and_is_not_ours(store: Engine, server: RedisServer) -> None:
    with server.client() as client:
        client.set("another application", "its value")
        client.lpush("a::list", "of theirs")
    await store.put("key", {"a": 1}, collection="one")
    assert await store.collection_names() == ["one"]
    with server.client() as client:
        assert client.get("another application") == "its value"


async def test_a_name_that_is_no_text_is_not_ours(store: Engine, server: RedisServer) -> None:
    with server.client() as client:
        client.set(b"celery::\xff\xfe", "their value")
        client.set(b"one::\xff\xfe", "their value")
        client.set(b"\xff::key", "their value")
    await store.put("schlüssel", {"a": 1}, collection="one")
    assert await store.collection_names() == ["one"]
    assert await store.count("one", at_most=5) == 1
    assert [key async for key, _ in store.entries("one")] == ["schlüssel"]
    with server.client() as client:
        assert client.dbsize() == 4


async def test_an_answer_that_was_lost_does_not_lose_the_claim(server: RedisServer) -> None:
    """The client sends a command once more when its connection breaks; the first one was done."""
    server.empty()
    async with CutLine(server.port) as line:
        store = open_engine(server.url.replace(f":{server.port}/", f":{line.port}/"))
        await store.setup()
        line.cut_next_answer()
        assert await store.add("key", {"a": 1}, collection="one", ttl=60)
        assert line.cuts == 1
        assert not await store.add("key", {"a": 2}, collection="one", ttl=60)
        await store.close()


class CutLine:
    """Stands between a client and a server, and closes the connection instead of handing an answer on."""

    def __init__(self, port: int) -> None:
        self.cuts = 0
        self._to = port
        self._armed = False
        self._meanwhile: Callable[[], Awaitable[object]] | None = None
        self._after = b""
        self._seen = False

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    def cut_next_answer(self) -> None:
        self._armed = True

    def before_next_command(self, meanwhile: Callable[[], Awaitable[object]], *, after: bytes) -> None:
        """Do something before the command that follows the next one of a kind is handed on."""
        self._meanwhile, self._after, self._seen = meanwhile, after, False

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        server, to_server = await asyncio.open_connection(HOST, self._to)
        forward = asyncio.create_task(self._forward(client, to_server))
        while answer := await server.read(65536):
            if self._armed:
                self._armed = False
                self.cuts += 1
                break
            to_client.write(answer)
            await to_client.drain()
        forward.cancel()
        to_client.close()
        to_server.close()

    async def _forward(self, client: asyncio.StreamReader, to_server: asyncio.StreamWriter) -> None:
        while command := await client.read(65536):
            if self._meanwhile is not None and self._seen:
                meanwhile, self._meanwhile = self._meanwhile, None
                await meanwhile()
            self._seen = self._seen or self._after in command
            to_server.write(command)
            await to_server.drain()
        to_server.close()


async def test_redis_removes_what_has_expired(store: Engine, server: RedisServer) -> None:
    await store.put("put", {"a": 1}, collection="one", ttl=60)
    assert await store.add("added", {"a": 1}, collection="one", ttl=60)
    entry = await store.read("put", collection="one")
    assert entry is not None
    assert await store.replace("put", collection="one", expected=entry, value={"a": 2})
    await store.set_aside("added", collection="one", entry=await store.read("added", collection="one") or entry)
    with server.client() as client:
        lives = {key: client.pttl(key) for key in client.scan_iter()}
    assert len(lives) == 2
    assert [key for key, milliseconds in lives.items() if milliseconds <= 0] == []


async def test_what_is_written_while_a_record_is_compared_is_not_replaced(server: RedisServer) -> None:
    server.empty()
    async with CutLine(server.port) as line:
        store, other = open_engine(server.url.replace(f":{server.port}/", f":{line.port}/")), open_engine(server.url)
        await store.put("key", {"a": 1}, collection="one")
        entry = await store.read("key", collection="one")
        assert entry is not None
        line.before_next_command(lambda: other.put("key", {"a": 2}, collection="one"), after=b"GET")
        assert not await store.replace("key", collection="one", expected=entry, value={"a": 3})
        assert await other.get("key", collection="one") == {"a": 2}
        await store.close()
        await other.close()


async def test_a_server_that_is_no_primary_any_more_is_looked_for_anew(store: Engine, server: RedisServer) -> None:
    """Where a name leads to the primary, only a new connection finds the one of now."""

    def connections() -> set[str]:
        with server.client() as client:
            return {str(each["id"]) for each in client.client_list()} - {str(client.client_id())}

    await store.put("key", {"a": 1}, collection="one")
    before = connections()
    with server.client() as client:
        client.replicaof(HOST, str(free_port()))
        try:
            with pytest.raises(KeyValueStoreError, match="ReadOnlyError"):
                await store.put("key", {"a": 2}, collection="one")
        finally:
            client.replicaof("NO", "ONE")
    await store.put("key", {"a": 3}, collection="one")
    assert not before & connections()


async def test_a_server_that_may_drop_records_is_warned_of(store: Engine, server: RedisServer) -> None:
    assert await store.warnings() == []
    with server.client() as client:
        client.config_set("maxmemory", "100mb")
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("appendonly", "no")
        try:
            dropped, lost = await store.warnings()
        finally:
            client.config_set("maxmemory", "0")
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("appendonly", "yes")
    assert "maxmemory-policy allkeys-lru" in dropped
    assert "appendonly yes" in lost


async def test_tls_is_verified(tmp_path: Path) -> None:
    server = RedisWithTLS(tmp_path / "redis").start()
    try:
        trusting = open_engine(server.url)
        await trusting.put("key", {"a": 1}, collection="one")
        assert await trusting.get("key", collection="one") == {"a": 1}
        await trusting.close()
        for distrusting in (server.url_without_authority, server.url_of_another_host):
            store = open_engine(distrusting)
            with pytest.raises(KeyValueStoreError, match=r"(?i)certificate"):
                await store.get("key", collection="one")
            await store.close()
    finally:
        server.kill()


async def test_a_cluster_keeps_records(tmp_path: Path) -> None:
    cluster = RedisCluster(tmp_path).start()
    try:
        store = open_engine(cluster.url)
        for number in range(50):
            assert await store.add(f"key {number}", {"n": number}, collection="one", ttl=60)
        assert not await store.add("key 0", {"n": 0}, collection="one", ttl=60)
        assert len([key async for key, _ in store.entries("one")]) == 50
        assert await store.collection_names() == ["one"]
        entry = await store.read("key 1", collection="one")
        assert entry is not None
        assert await store.replace("key 1", collection="one", expected=entry, value={"n": -1})
        other = await store.read("key 2", collection="one")
        assert other is not None
        await store.set_aside("key 2", collection="one", entry=other)
        assert await store.get_many(["key 1", "key 2"], collection="one") == [{"n": -1}, None]
        assert await store.delete("key 3", collection="one")
        assert await store.warnings() == []
        await store.close()
    finally:
        cluster.kill()


async def test_sentinel_leads_to_the_primary_of_now(tmp_path: Path) -> None:
    watched = RedisWatchedBySentinel(tmp_path).start()
    try:
        store = open_engine(watched.url)
        await store.put("key", {"a": 1}, collection="one")
        watched.primary.kill()
        refused = 0
        while True:
            try:
                await store.put("key", {"a": 2}, collection="one")
                break
            except KeyValueStoreError:
                refused += 1
                await asyncio.sleep(0.2)
        assert refused > 0
        assert await store.get("key", collection="one") == {"a": 2}
        await store.close()
    finally:
        watched.kill()
