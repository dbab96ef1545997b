"""Other systems' state, whole and in every bad shape: what can be read is, and nothing else happens."""

import hashlib
import json
import os
import pickle
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from fastmcp.server.auth.jwt_issuer import derive_jwt_key
from key_value.aio.protocols import AsyncKeyValue
from key_value.aio.stores.disk import DiskStore
from key_value.aio.stores.filetree import (
    FileTreeStore,
    FileTreeV1CollectionSanitizationStrategy,
    FileTreeV1KeySanitizationStrategy,
)
from key_value.aio.wrappers.encryption import FernetEncryptionWrapper

from mcp_holdfast.auth.imported.importing import carry_over
from mcp_holdfast.auth.imported.local import LoginWithImports
from mcp_holdfast.auth.local import Issuer, Lifetimes, PinCheck, TokenSigner
from mcp_holdfast.auth.registrations import DEFAULT_ALLOW_LIST
from mcp_holdfast.settings import Settings
from mcp_holdfast.storage import open_store
from mcp_holdfast.storage.importers import Findings, SourceProblem, read_source
from mcp_holdfast.storage.keys import temporary_key_ring

CLIENT_SECRET = "the-client-secret-at-the-provider"
SIGNING_KEY = "a jwt_signing_key of somebody"
CLIENTS, UPSTREAM, IDENTIFIERS, REFRESH = (
    "mcp-oauth-proxy-clients",
    "mcp-upstream-tokens",
    "mcp-jti-mappings",
    "mcp-refresh-tokens",
)
DAY = 86400

Open = Callable[[Path], AsyncKeyValue]
Damage = Callable[[bytes], bytes]


def storage_key(secret: str = CLIENT_SECRET) -> bytes:
    """By FastMCP's own function."""
    signing = derive_jwt_key(high_entropy_material=secret, salt="fastmcp-jwt-signing-key")
    return derive_jwt_key(high_entropy_material=signing.decode(), salt="fastmcp-storage-encryption-key")


def fingerprint(secret: str = CLIENT_SECRET) -> str:
    return hashlib.sha256(storage_key(secret)).hexdigest()[:12]


def open_tree(directory: Path) -> AsyncKeyValue:
    directory.mkdir(parents=True)
    return FileTreeStore(
        data_directory=directory,
        key_sanitization_strategy=FileTreeV1KeySanitizationStrategy(directory),
        collection_sanitization_strategy=FileTreeV1CollectionSanitizationStrategy(directory),
    )


def open_disk(directory: Path) -> AsyncKeyValue:
    return DiskStore(directory=directory)


SOURCES: dict[str, tuple[Open, str]] = {
    "FastMCP 2.14": (open_disk, "oauth-proxy"),
    "FastMCP 3 or 4": (open_tree, f"oauth-proxy/{fingerprint()}"),
}


async def fill(store: AsyncKeyValue, sessions: int = 3, *, key: bytes | None = None, padding: int = 0) -> None:
    encrypted = FernetEncryptionWrapper(key_value=store, fernet=Fernet(key or storage_key()))
    for number in range(sessions):
        name = f"client {number}"
        client = {"client_id": name, "redirect_uris": ["http://localhost:1/callback"], "padding": "x" * padding}
        await encrypted.put(name, client, collection=CLIENTS)
        upstream = {"upstream_token_id": f"upstream-{number}", "client_id": name}
        await encrypted.put(f"upstream-{number}", upstream, collection=UPSTREAM, ttl=DAY)
        identifier = {"jti": f"jti-{number}", "upstream_token_id": f"upstream-{number}"}
        await encrypted.put(f"jti-{number}", identifier, collection=IDENTIFIERS, ttl=DAY)
        refresh = hashlib.sha256(str(number).encode()).hexdigest()
        await encrypted.put(refresh, {"client_id": name, "scopes": []}, collection=REFRESH, ttl=DAY)
        transaction = {"txn_id": f"transaction-{number}"}
        await encrypted.put(f"transaction-{number}", transaction, collection="mcp-oauth-transactions", ttl=DAY)
    if isinstance(store, DiskStore):
        store._cache.close()


@pytest.fixture(params=SOURCES)
async def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A store of three sessions, as each version of FastMCP keeps it."""
    opener, place = SOURCES[request.param]
    await fill(opener(tmp_path / place))
    return tmp_path / place


@pytest.fixture
async def database(tmp_path: Path) -> Path:
    await fill(open_disk(tmp_path / "oauth-proxy"))
    return tmp_path / "oauth-proxy/cache.db"


def files_of(source: Path) -> dict[Path, tuple[bytes, int]]:
    return {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in source.rglob("*") if file.is_file()}


def keys_of(findings: Findings) -> set[tuple[str, str]]:
    return {(record.collection, record.key) for record in findings.records}


async def test_every_record_is_found_with_its_key_and_expiry(source: Path) -> None:
    before = files_of(source)
    findings = read_source(source, [CLIENT_SECRET])
    assert len(findings.records) == 12
    assert {(CLIENTS, "client 1"), (UPSTREAM, "upstream-1"), (IDENTIFIERS, "jti-1")} < keys_of(findings)
    assert (REFRESH, hashlib.sha256(b"1").hexdigest()) in keys_of(findings)
    for record in findings.records:
        assert record.expires_at is None or abs(record.expires_at - time.time() - DAY) < 60
        assert (record.expires_at is None) == (record.collection == CLIENTS)
    assert findings.left == {("sign-ins under way", findings_reason("sign-ins under way", findings)): 3}
    assert files_of(source) == before, "the source was changed"


def findings_reason(what: str, findings: Findings) -> str:
    return next(reason for kind, reason in findings.left if kind == what)


@pytest.mark.parametrize("secret", [CLIENT_SECRET, SIGNING_KEY])
async def test_keys_are_derived_as_fastmcp_derives_them(secret: str, tmp_path: Path) -> None:
    given = {"high_entropy_material" if secret == CLIENT_SECRET else "low_entropy_material": secret}
    signing = derive_jwt_key(**given, salt="fastmcp-jwt-signing-key")
    storage = derive_jwt_key(high_entropy_material=signing.decode(), salt="fastmcp-storage-encryption-key")
    await fill(open_tree(tmp_path / "any-name"), key=storage)
    findings = read_source(tmp_path / "any-name", ["something else", secret])
    assert len(findings.records) == 12
    assert findings.signing_key == signing
    assert findings.fingerprint == hashlib.sha256(storage).hexdigest()[:12]


async def test_without_the_right_secret_nothing_is_read_and_the_remedy_is_told(source: Path) -> None:
    for secrets in ([], ["another secret"]):
        with pytest.raises(SourceProblem, match="--key-file") as problem:
            read_source(source, secrets)
        assert "another secret" not in str(problem.value)


async def test_long_values_that_diskcache_keeps_beside_its_database_are_read(tmp_path: Path) -> None:
    await fill(open_disk(tmp_path), padding=100_000)
    assert list(tmp_path.rglob("*.val"))
    assert len(read_source(tmp_path, [CLIENT_SECRET]).records) == 12


async def test_a_write_ahead_log_beside_the_database_is_part_of_it(tmp_path: Path) -> None:
    store = DiskStore(directory=tmp_path / "old")
    encrypted = FernetEncryptionWrapper(key_value=store, fernet=Fernet(storage_key()))
    await encrypted.put("one", {"client_id": "one"}, collection=CLIENTS)
    assert (tmp_path / "old/cache.db-wal").stat().st_size > 0
    assert keys_of(read_source(tmp_path / "old/cache.db", [CLIENT_SECRET])) == {(CLIENTS, "one")}
    store._cache.close()


class Explosion:
    """Runs when it is unpickled."""

    def __init__(self, crater: Path) -> None:
        self._crater = crater

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._crater,)


async def test_a_pickled_row_is_left_and_nothing_in_it_runs(database: Path, tmp_path: Path) -> None:
    crater = tmp_path / "crater"
    with closing(sqlite3.connect(database)) as connection:
        pickled = pickle.dumps(Explosion(crater))
        connection.execute("UPDATE Cache SET mode = 4, value = ? WHERE key = ?", (pickled, f"{CLIENTS}::client 1"))
        connection.commit()
    findings = read_source(database, [CLIENT_SECRET])
    assert not crater.exists()
    assert len(findings.records) == 11
    assert findings.left["registrations", "damaged"] == 1


@pytest.mark.parametrize("name", ["/etc/passwd", "../secret", "link"])
async def test_a_row_that_names_a_file_elsewhere_is_left(database: Path, name: str, tmp_path: Path) -> None:
    entry = json.dumps({"value": {"__encrypted_data__": "", "__encryption_version__": 1}})
    (tmp_path / "secret").write_text(entry)
    (database.parent / "link").symlink_to(tmp_path / "secret")
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(
            "UPDATE Cache SET mode = 3, value = NULL, filename = ? WHERE key = ?", (name, f"{CLIENTS}::client 1")
        )
        connection.commit()
    findings = read_source(database, [CLIENT_SECRET])
    assert findings.left["registrations", "damaged"] == 1
    assert len(findings.records) == 11


async def test_a_record_that_is_not_encrypted_is_not_believed(tmp_path: Path) -> None:
    for place, opener in (("disk", open_disk), (f"tree/{fingerprint()}", open_tree)):
        store = opener(tmp_path / place)
        await store.put("planted", {"client_id": "planted"}, collection=CLIENTS)
        await fill(store)
        findings = read_source(tmp_path / place, [CLIENT_SECRET])
        assert (CLIENTS, "planted") not in keys_of(findings)
        assert findings.left["registrations", "not encrypted, so anybody may have written it"] == 1


async def test_a_record_under_another_one_s_key_is_not_believed(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        swap = "UPDATE Cache SET value = (SELECT value FROM Cache WHERE key = ?) WHERE key = ?"
        connection.execute(swap, (f"{IDENTIFIERS}::jti-0", f"{IDENTIFIERS}::jti-1"))
        connection.commit()
    findings = read_source(database, [CLIENT_SECRET])
    assert (IDENTIFIERS, "jti-1") not in keys_of(findings)
    assert findings.left["token identifiers", "was stored under another key"] == 1


async def test_what_has_expired_is_left(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE Cache SET expire_time = ? WHERE key LIKE ?", (time.time() - 1, f"{UPSTREAM}%"))
        connection.commit()
    findings = read_source(database, [CLIENT_SECRET])
    assert findings.left["sessions at the identity provider", "expired"] == 3
    assert UPSTREAM not in {collection for collection, _ in keys_of(findings)}


async def test_records_that_are_cut_off_are_left_and_the_others_read(tmp_path: Path) -> None:
    tree = tmp_path / fingerprint()
    await fill(open_tree(tree))
    victim = next(tree.glob("*clients*/*.json"))
    content = victim.read_bytes()
    for length in (0, 1, len(content) // 2, len(content) - 1):
        victim.write_bytes(content[:length])
        findings = read_source(tree, [CLIENT_SECRET])
        assert len(findings.records) == 11
        assert findings.left["registrations", "damaged"] == 1


async def test_a_record_that_is_a_link_is_left(tmp_path: Path) -> None:
    tree = tmp_path / fingerprint()
    await fill(open_tree(tree))
    victim = next(tree.glob("*clients*/*.json"))
    victim.rename(tmp_path / "elsewhere.json")
    victim.symlink_to(tmp_path / "elsewhere.json")
    findings = read_source(tree, [CLIENT_SECRET])
    assert len(findings.records) == 11
    assert findings.left["registrations", "damaged"] == 1


async def test_a_tree_whose_collections_lost_their_description_is_read_whole(tmp_path: Path) -> None:
    tree = tmp_path / fingerprint()
    await fill(open_tree(tree))
    for description in tree.glob("*-info.json"):
        description.write_text("")
    assert len(read_source(tree, [CLIENT_SECRET]).records) == 12


def flip_bytes(content: bytes, chance: random.Random) -> bytes:
    damaged = bytearray(content)
    for _ in range(chance.choice([1, 3, 30])):
        damaged[chance.randrange(len(damaged))] = chance.randrange(256)
    return bytes(damaged)


def cut_off(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))]


def zero_a_page(content: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(content) // 4096) * 4096
    return content[:start] + bytes(4096) + content[start + 4096 :]


@pytest.mark.parametrize("damage", [flip_bytes, cut_off, zero_a_page])
async def test_a_database_damaged_anyhow_gives_only_records_that_were_in_it(
    database: Path, damage: Callable[[bytes, random.Random], bytes]
) -> None:
    whole = keys_of(read_source(database, [CLIENT_SECRET]))
    content = database.read_bytes()
    counts = []
    for seed in range(30):
        database.write_bytes(damage(content, random.Random(seed)))
        try:
            found = keys_of(read_source(database, [CLIENT_SECRET]))
        except SourceProblem:
            found = set()
        assert found <= whole
        counts.append(len(found))
    assert max(counts) == len(whole)


async def test_a_lost_first_page_costs_no_record(tmp_path: Path) -> None:
    await fill(open_disk(tmp_path), sessions=200, padding=6000)
    database = tmp_path / "cache.db"
    whole = keys_of(read_source(database, [CLIENT_SECRET]))
    assert len(whole) == 800
    content = database.read_bytes()
    database.write_bytes(os.urandom(4096) + content[4096:])
    assert keys_of(read_source(database, [CLIENT_SECRET])) == whole


async def test_of_a_damaged_database_what_only_its_log_holds_is_read_too(tmp_path: Path) -> None:
    store = DiskStore(directory=tmp_path / "old")
    await fill_open(store)
    (tmp_path / "copy").mkdir()
    for name in ("cache.db", "cache.db-wal"):
        (tmp_path / "copy" / name).write_bytes((tmp_path / "old" / name).read_bytes())
    store._cache.close()
    database = tmp_path / "copy/cache.db"
    content = database.read_bytes()
    database.write_bytes(os.urandom(100) + content[100:])
    assert (CLIENTS, "in the log") in keys_of(read_source(database, [CLIENT_SECRET]))


async def fill_open(store: DiskStore) -> None:
    encrypted = FernetEncryptionWrapper(key_value=store, fernet=Fernet(storage_key()))
    await encrypted.put("in the database", {"client_id": "in the database"}, collection=CLIENTS)
    store._cache._sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    await encrypted.put("in the log", {"client_id": "in the log"}, collection=CLIENTS)


async def test_of_a_damaged_database_no_row_that_was_deleted_is_read(tmp_path: Path) -> None:
    await fill(open_disk(tmp_path), sessions=30)
    database = tmp_path / "cache.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA secure_delete = OFF")
        connection.execute("DELETE FROM Cache WHERE rowid > 50")
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'Cache'").fetchone()
    content = database.read_bytes()
    start = (root - 1) * 4096
    database.write_bytes(content[:start] + bytes(4096) + content[start + 4096 :])
    found = keys_of(read_source(database, [CLIENT_SECRET]))
    assert len(found) == 40, "ten sessions are left of thirty"
    assert b"client 29" in content


def vault_mcp(directory: Path, **changes: Any) -> Path:
    file = directory / "state.json"
    client = {"client_id": "one", "redirect_uris": ["http://localhost:1/callback"]}
    token = {"client_id": "one", "scopes": [], "expires_at": time.time() + DAY}
    tokens = {"access_tokens": {"an access token": token}, "refresh_tokens": {"a refresh token": token}}
    file.write_text(json.dumps({"version": 1, "clients": {"one": client}, **tokens, **changes}))
    return file


STRANGE: dict[str, Any] = {
    "a client that is a list": {"clients": {"one": []}},
    "clients that are a list": {"clients": ["one"]},
    "a client under another one's name": {"clients": {"other": {"client_id": "one", "redirect_uris": []}}},
    "a token of nobody": {"access_tokens": {"t": {"client_id": "nobody", "expires_at": None}}},
    "a token that expires some day": {"access_tokens": {"t": {"client_id": "one", "expires_at": "some day"}}},
    "a token that is null": {"refresh_tokens": {"t": None}},
    "tokens that are a number": {"refresh_tokens": 7},
}


@pytest.mark.parametrize("changes", STRANGE.values(), ids=STRANGE)
def test_strange_entries_of_a_state_file_are_left_and_told(changes: dict[str, Any], tmp_path: Path) -> None:
    findings = read_source(vault_mcp(tmp_path, **changes))
    assert findings.left
    assert len(findings.records) < 3


async def test_an_imported_token_is_worth_nothing_without_its_grant(tmp_path: Path) -> None:
    store, ring = open_store("memory"), temporary_key_ring()
    findings = read_source(vault_mcp(tmp_path))
    await carry_over(findings, store, Settings())
    login = LoginWithImports(
        issuer=Issuer("http://localhost:8000"),
        server_name="test",
        store=store,
        signer=TokenSigner(ring),
        pin=PinCheck(store),
        lifetimes=Lifetimes(signin_page=60, code=60, access_token=60, refresh_token=60),
        allow_list=DEFAULT_ALLOW_LIST,
    )
    client = await login.get_client("one")
    assert client is not None
    assert await login.load_access_token("an access token") is not None
    assert await login.load_refresh_token(client, "a refresh token") is not None
    async for grant, _ in store.entries("holdfast_grants"):
        await store.delete(grant, collection="holdfast_grants")
    assert await login.load_access_token("an access token") is None
    assert await login.load_refresh_token(client, "a refresh token") is None


def test_a_token_s_own_text_is_in_no_message(tmp_path: Path) -> None:
    findings = read_source(vault_mcp(tmp_path, clients={}))
    assert "an access token" not in str(findings.left)
    assert findings.records == []


def make_directory(directory: Path) -> Path:
    (directory / "nothing").mkdir()
    return directory / "nothing"


def make_holdfast_s_own(directory: Path) -> Path:
    (directory / "oauth-proxy/holdfast").mkdir(parents=True)
    return directory


def make_pipe(directory: Path) -> Path:
    os.mkfifo(directory / "pipe")
    return directory / "pipe"


def make_other_database(directory: Path) -> Path:
    with closing(sqlite3.connect(directory / "other.db")) as connection:
        connection.execute("CREATE TABLE something (else_ TEXT)")
        connection.commit()
    return directory / "other.db"


def make_large_file(directory: Path) -> Path:
    with (directory / "large.json").open("wb") as file:
        file.truncate(2**40)
    return directory / "large.json"


def make_large_database(directory: Path) -> Path:
    with (directory / "cache.db").open("wb") as file:
        file.write(b"SQLite format 3\0")
        file.truncate(2**42)
    return directory / "cache.db"


def written(name: str, content: bytes) -> Callable[[Path], Path]:
    def write(directory: Path) -> Path:
        (directory / name).write_bytes(content)
        return directory / name

    return write


REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "nothing there": (lambda directory: directory / "gone", "does not exist"),
    "an empty directory": (make_directory, "nothing of a system that is known"),
    "Holdfast's own store": (make_holdfast_s_own, "needs no import"),
    "a pipe": (make_pipe, "not a regular file"),
    "an empty file": (written("state.json", b""), "neither a SQLite database nor JSON"),
    "an empty cache.db": (written("cache.db", b""), "empty"),
    "noise": (written("noise", random.Random(1).randbytes(5000)), "neither a SQLite database nor JSON"),
    "noise called cache.db": (written("cache.db", random.Random(1).randbytes(50_000)), "damaged so much"),
    "a cut-off state file": (written("state.json", b'{"version": 1, "clients": {'), "truncated"),
    "JSON without end": (written("state.json", b"[" * 100_000), "neither a SQLite database nor JSON"),
    "other JSON": (written("package.json", b'{"name": "something"}'), "not the state file"),
    "JSON that is a list": (written("list.json", b"[]"), "not the state file"),
    "a state file of tomorrow": (written("state.json", b'{"version": 2, "clients": {}}'), "version 2"),
    "another database": (make_other_database, "of no system that is known"),
    "a file of a terabyte": (make_large_file, "larger than"),
    "a database of four terabytes": (make_large_database, "TMPDIR"),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_imported_is_refused_with_the_reason(
    make: Callable[[Path], Path], message: str, tmp_path: Path
) -> None:
    path = make(tmp_path)
    with pytest.raises(SourceProblem, match=message) as problem:
        read_source(path, [CLIENT_SECRET])
    assert str(tmp_path) in str(problem.value)


async def test_of_several_stores_one_has_to_be_named(tmp_path: Path) -> None:
    await fill(open_disk(tmp_path / "oauth-proxy"))
    await fill(open_tree(tmp_path / "oauth-proxy" / fingerprint()))
    with pytest.raises(SourceProblem, match="several stores") as problem:
        read_source(tmp_path, [CLIENT_SECRET])
    assert "cache.db" in str(problem.value)
    assert fingerprint() in str(problem.value)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may read everything."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_file_that_may_not_be_read_is_refused_with_the_reason(open_path: Path) -> None:
    file = vault_mcp(open_path)
    file.chmod(0)
    with as_nobody(), pytest.raises(SourceProblem, match=r"cannot be read: Permission denied"):
        read_source(file)


def test_a_link_that_names_the_source_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(vault_mcp(tmp_path))
    assert len(read_source(tmp_path / "link").records) == 3
