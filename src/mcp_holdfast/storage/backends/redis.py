"""Records in Redis or Valkey: one server, a primary that Sentinel names, or a cluster.

Both speak one protocol, so redis-py serves both. Every step that must have one winner is one command or one script of
one key, which a cluster can do too.
"""

import inspect
import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import Any, ClassVar, cast
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from key_value.aio._utils.compound import DEFAULT_COMPOUND_SEPARATOR as COMPOUND
from key_value.aio._utils.compound import compound_key, uncompound_key
from key_value.aio._utils.managed_entry import ManagedEntry
from key_value.aio._utils.time_to_live import prepare_entry_timestamps
from key_value.aio.stores.base import BaseStore
from key_value.aio.stores.redis import RedisStore
from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import ExponentialBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoPermissionError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from mcp_holdfast.storage.backends.engine import (
    ANSWERS_WITHIN,
    CONNECTS_WITHIN,
    QUARANTINE_COLLECTION,
    UNREADABLE,
    Engine,
    EngineProblem,
    parameters_of,
    parts_of,
    reported,
)

PORT, SENTINEL_PORT = 6379, 26379
PAGE = 500
RETRIES, LONGEST_PAUSE, FIRST_PAUSE = 1, 0.2, 0.05

NUMBER, FLAG, SECONDS = r"[0-9]{1,6}", r"(?i:true|yes|on|1|false|no|off|0)", r"(?=.*[1-9])[0-9]{1,6}(\.[0-9]{1,6})?"
WORD, PATH = r"[!-~]+", r"[^\0]+"


def _matching(pattern: str, convert: Callable[[str], Any] = str) -> Callable[[str], Any]:
    def converted(text: str) -> Any:
        if not re.fullmatch(pattern, text):
            raise ValueError(text)
        return convert(text)

    return converted


_flag = _matching(FLAG, lambda text: text.lower() in {"true", "yes", "on", "1"})

OF_SENTINEL: dict[str, Callable[[str], Any]] = {"sentinel_username": str, "sentinel_password": str}
OF_TLS: dict[str, Callable[[str], Any]] = {
    "ssl_ca_certs": _matching(PATH),
    "ssl_ca_path": _matching(PATH),
    "ssl_certfile": _matching(PATH),
    "ssl_keyfile": _matching(PATH),
    "ssl_password": str,
    "ssl_cert_reqs": _matching("required|optional|none"),
    "ssl_check_hostname": _flag,
    "ssl_ciphers": _matching(WORD),
    "ssl_min_version": _matching("77[12]", lambda text: ssl.TLSVersion(int(text))),
}
PARAMETERS: dict[str, Callable[[str], Any]] = {
    "db": _matching(NUMBER, int),
    "username": str,
    "password": str,
    "client_name": _matching(WORD),
    "protocol": _matching("[23]", int),
    "socket_timeout": _matching(SECONDS, float),
    "socket_connect_timeout": _matching(SECONDS, float),
    "socket_keepalive": _flag,
    "health_check_interval": _matching(NUMBER, int),
    "max_connections": _matching("[1-9][0-9]{0,5}", int),
    "retry_on_timeout": _flag,
}
"""What a URL can say to redis-py, whose other parameters are objects, or ours to choose."""

# The answer to the first try may have been lost with its connection: then the record is there, and is ours.
ADD = """
local stored = redis.call('SET', KEYS[1], ARGV[1], 'NX', unpack(ARGV, 2))
return (stored or redis.call('GET', KEYS[1]) == ARGV[1]) and 1 or 0
"""
REPLACE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
return 1
"""
REMOVE = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0"

Client = Redis | RedisCluster


class RedisEngine(Engine, RedisStore):
    """Records that expire by themselves, to the millisecond."""

    failures: ClassVar[tuple[type[Exception], ...]] = (RedisError, OSError)

    def __init__(self, url: str, *, quarantine: float, may_create: bool = True) -> None:
        self._url = url
        self.quarantine = quarantine
        self.may_create = may_create
        RedisStore.__init__(self, client=cast("Redis", client_of(url)))

    # One by one: no command may name several keys of a cluster, which are on several nodes.
    _get_managed_entries = BaseStore._get_managed_entries
    _put_managed_entries = BaseStore._put_managed_entries
    _delete_managed_entries = BaseStore._delete_managed_entries

    async def exists(self) -> bool:
        await self.setup()
        return True

    @reported
    async def warnings(self) -> list[str]:
        await self.setup()
        found = []
        for node in [await self._info("memory"), await self._info("persistence")]:
            policy = node.get("maxmemory_policy", "noeviction")
            if node.get("maxmemory") and policy != "noeviction":
                found.append(f"drops records when its memory is full (maxmemory-policy {policy}); set it to noeviction")
            if "aof_enabled" in node and not node["aof_enabled"]:
                found.append("may lose the last records when it crashes; set appendonly yes")
        return found

    async def _info(self, section: str) -> dict[str, Any]:
        """What a server tells of itself; nothing where this user may not ask."""
        try:
            info: dict[str, Any] = await self._client.info(section)
        except ResponseError:
            return {}
        # A cluster answers for each of its nodes.
        nodes = [node for node in info.values() if isinstance(node, dict)]
        return nodes[0] if len(nodes) == len(info) and nodes else info

    async def _connect(self) -> None:
        self._client: Any = client_of(self._url)

    async def _prepare(self) -> None:
        try:
            await self._client.ping()
        except (AuthenticationError, AuthorizationError, NoPermissionError) as error:
            raise EngineProblem(f"this user is not let in: {error}") from error

    async def _disconnect(self) -> None:
        pool = getattr(self._client, "connection_pool", None)
        await self._client.aclose()
        if isinstance(pool, SentinelConnectionPool):
            for sentinel in pool.sentinel_manager.sentinels:
                await sentinel.aclose()

    @reported
    async def _get_managed_entry(self, *, key: str, collection: str) -> ManagedEntry | None:
        name = compound_key(collection=collection, key=key)
        try:
            stored = await self._client.get(name)
        except ResponseError as error:
            if not str(error).startswith("WRONGTYPE"):
                raise
            # Nothing of ours: neither this nor any other operation could do anything with it.
            await self._client.delete(name)
            return None
        if stored is None:
            return None
        entry = self._entry_in(stored)
        if entry is None:
            await self._put_aside(name, stored)
        return entry

    @reported
    async def _put_managed_entry(self, *, key: str, collection: str, managed_entry: ManagedEntry) -> None:
        text = self._adapter.dump_json(entry=managed_entry, key=key, collection=collection)
        await self._client.set(compound_key(collection=collection, key=key), text, px=_milliseconds(managed_entry.ttl))

    @reported
    async def _delete_managed_entry(self, *, key: str, collection: str) -> bool:
        return bool(await self._client.delete(compound_key(collection=collection, key=key)))

    @reported
    async def add(self, key: str, value: Mapping[str, Any], *, collection: str, ttl: float | None = None) -> bool:
        await self.setup_collection(collection=collection)
        created_at, seconds, expires_at = prepare_entry_timestamps(ttl=ttl)
        entry = ManagedEntry(value=value, created_at=created_at, expires_at=expires_at)
        text = self._adapter.dump_json(entry=entry, key=key, collection=collection)
        expiry = ("PX", _milliseconds(seconds)) if seconds is not None else ()
        return bool(await self._client.eval(ADD, 1, compound_key(collection=collection, key=key), text, *expiry))

    async def entries(self, collection: str) -> AsyncIterator[tuple[str, ManagedEntry]]:
        """Every record of a collection; one perhaps twice, where Redis makes room for more keys meanwhile (SCAN)."""
        with self.reporting():
            await self.setup_collection(collection=collection)
            page = list[str]()
            async for name in self._names(collection):
                page.append(name)
                if len(page) == PAGE:
                    for entry in await self._entries_of(page):
                        yield entry
                    page.clear()
            for entry in await self._entries_of(page):
                yield entry

    async def _entries_of(self, names: list[str]) -> list[tuple[str, ManagedEntry]]:
        if not names:
            return []
        pipeline = self._client.pipeline(transaction=False)
        for name in names:
            pipeline.get(name)
        values = await pipeline.execute()
        found = []
        for name, stored in zip(names, values, strict=True):
            entry = None if stored is None else self._entry_in(stored)
            if entry is not None and not entry.is_expired:
                found.append((uncompound_key(name)[1], entry))
        return found

    def _names(self, collection: str) -> AsyncIterator[str]:
        return self._names_like(re.sub(r"([*?\[\]\\])", r"\\\1", collection) + COMPOUND + "*")

    async def _names_like(self, pattern: str) -> AsyncIterator[str]:
        """The names that match; one that is not UTF-8 is not ours."""
        async for name in self._client.scan_iter(match=pattern, count=PAGE, _type="string"):
            with suppress(UnicodeDecodeError):
                yield name.decode()

    @reported
    async def collection_names(self) -> list[str]:
        await self.setup()
        names = self._names_like(f"*{COMPOUND}*")
        return sorted({uncompound_key(name)[0] async for name in names} - {QUARANTINE_COLLECTION})

    @reported
    async def count(self, collection: str, *, at_most: int) -> int:
        await self.setup_collection(collection=collection)
        count = 0
        async for _ in self._names(collection):
            count += 1
            if count == at_most:
                break
        return count

    @reported
    async def replace(self, key: str, *, collection: str, expected: ManagedEntry, value: Mapping[str, Any]) -> bool:
        await self.setup_collection(collection=collection)
        name = compound_key(collection=collection, key=key)
        stored = await self._client.get(name)
        if stored is None or self._entry_in(stored) != expected:
            return False
        entry = ManagedEntry(value=value, created_at=expected.created_at, expires_at=expected.expires_at)
        renewed = self._adapter.dump_json(entry=entry, key=key, collection=collection)
        return bool(await self._client.eval(REPLACE, 1, name, stored, renewed))

    @reported
    async def set_aside(self, key: str, *, collection: str, entry: ManagedEntry) -> None:
        await self.setup_collection(collection=collection)
        name = compound_key(collection=collection, key=key)
        stored = await self._client.get(name)
        if stored is not None and self._entry_in(stored) == entry:
            await self._put_aside(name, stored)

    async def _put_aside(self, name: str, stored: bytes) -> None:
        aside = compound_key(collection=QUARANTINE_COLLECTION, key=name)
        await self._client.set(aside, stored, px=_milliseconds(self.quarantine))
        await self._client.eval(REMOVE, 1, name, stored)

    def _entry_in(self, stored: bytes) -> ManagedEntry | None:
        try:
            entry = self._adapter.load_json(json_str=stored.decode())
        except UNREADABLE:
            return None
        return None if entry.expires_at is not None and entry.expires_at.tzinfo is None else entry


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else max(round(seconds * 1000), 1)


def client_of(url: str) -> Client:
    """A client for a URL: redis, rediss, valkey or valkeys, each also with +sentinel or +cluster; connects to nothing.

    Several hosts are separated by commas. With +sentinel the path is /SERVICE or /SERVICE/DATABASE. User and password
    are percent-decoded, and for the primary; `sentinel_username` and `sentinel_password` are for Sentinel itself.

    Raises:
        EngineProblem: the URL is wrong; the message has nothing of what may be a password.

    """
    parts = parts_of(url)
    scheme, _, form = parts.scheme.replace("valkeys", "rediss").replace("valkey", "redis").partition("+")
    *services, database = parts.path.strip("/").split("/")
    if form == "sentinel" and not services:
        services, database = [database], ""
    if len(services) > (form == "sentinel") or not re.fullmatch(r"[0-9]{0,6}", database):
        raise EngineProblem("the path of the URL is not a database number")
    hosts = _hosts(parts, SENTINEL_PORT if form == "sentinel" else PORT)
    options = {**_options(parts, scheme, form), "ssl": scheme == "rediss"}
    options.setdefault("db", int(database or 0))
    of_sentinel = {name: options.pop(f"sentinel_{name}", None) for name in ("username", "password")}
    if form == "sentinel":
        if not services[0]:
            raise EngineProblem("the path does not name the service that Sentinel watches, as in /mymaster/0")
        shared = {name: options[name] for name in options if name.startswith(("socket_", "ssl"))}
        sentinel = Sentinel(hosts, sentinel_kwargs={**shared, **of_sentinel}, **options)  # type: ignore[no-untyped-call]
        return cast("Redis", sentinel.master_for(unquote(services[0])))
    if form == "cluster":
        if options.pop("db") != 0:
            raise EngineProblem("a cluster has database 0 only")
        return RedisCluster(startup_nodes=[ClusterNode(host, port) for host, port in hosts], **options)
    if len(hosts) > 1:
        raise EngineProblem("several hosts need +sentinel or +cluster behind the scheme")
    return Redis(host=hosts[0][0], port=hosts[0][1], **options)


def _options(parts: SplitResult, scheme: str, form: str) -> dict[str, Any]:
    try:
        query = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise EngineProblem("what stands behind the ? of the URL is not NAME=VALUE, joined by &") from None
    of_client = inspect.signature(RedisCluster if form == "cluster" else Redis).parameters
    known = {**PARAMETERS, **(OF_TLS if scheme == "rediss" else {})}
    known = {name: known[name] for name in known if name in of_client}
    known |= OF_SENTINEL if form == "sentinel" else {}
    given = parameters_of(query, known)
    if query:
        raise EngineProblem(
            f"a URL with {parts.scheme}:// has no parameter {min(query)}; it may have {', '.join(sorted(known))}"
        )
    username, _, password = (unquote(part) for part in parts.netloc.rpartition("@")[0].partition(":"))
    credentials = {"username": username, "password": password}
    return {
        "socket_connect_timeout": CONNECTS_WITHIN,
        "socket_timeout": ANSWERS_WITHIN,
        # A primary that was made a replica says so; only a new connection finds the primary of now.
        "retry_on_error": [ReadOnlyError],
        "retry": Retry(ExponentialBackoff(cap=LONGEST_PAUSE, base=FIRST_PAUSE), RETRIES),
        "health_check_interval": 15,
        **given,
        **{name: value for name, value in credentials.items() if value},
    }


def _hosts(parts: SplitResult, default_port: int) -> list[tuple[str, int]]:
    hosts = []
    for host in parts.netloc.rpartition("@")[2].split(","):
        try:
            one = urlsplit(f"//{host}")
            name, port = one.hostname or "localhost", default_port if one.port is None else one.port
            # As the look-up of an address does.
            name.encode("idna")
        except ValueError:
            port = 0
        if port == 0:
            what = "what stands behind the @ of the URL, or behind ://, is not a host and a port from 1 to 65535"
            raise EngineProblem(f"{what}; an IPv6 address stands in [ and ]")
        hosts.append((name, port))
    return hosts
