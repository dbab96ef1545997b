"""What is MongoDB's own: its URLs, users, indexes, documents and concerns; a stand-in that speaks its protocol judges.

The stand-in refuses every command that does not ask for a majority, so each test here says that, too.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import pytest
from bson import ObjectId
from key_value.aio.errors import StoreConnectionError, StoreSetupError
from pymongo.asynchronous.collection import AsyncCollection

from harness.engines import EngineProcess, MongoDBStandIn
from harness.engines.mongodb import PASSWORD, READER, USER
from mcp_holdfast.storage.backends import Engine, EngineProblem, open_engine
from mcp_holdfast.storage.backends.engine import QUARANTINE_COLLECTION
from mcp_holdfast.storage.backends.mongodb import MongoDBEngine, client_of
from mcp_holdfast.storage.deadlines import DEADLINE

Open = Callable[..., Engine]


@pytest.fixture
def stand_in(running_engines: Callable[[str], EngineProcess]) -> MongoDBStandIn:
    engine = running_engines("mongodb")
    assert isinstance(engine, MongoDBStandIn)
    engine.empty()
    return engine


@pytest.fixture
async def opened() -> AsyncIterator[Open]:
    async with AsyncExitStack() as everything:

        def opened(url: str, *, may_create: bool = True) -> Engine:
            engine = open_engine(url, may_create=may_create)
            everything.push_async_callback(engine.close)
            return engine

        yield opened


@pytest.fixture
def store(stand_in: MongoDBStandIn, opened: Open) -> Engine:
    return opened(stand_in.url)


@pytest.fixture
async def documents(stand_in: MongoDBStandIn) -> AsyncIterator[AsyncCollection[dict[str, Any]]]:
    """MongoDB's own collection for ours that is called one."""
    client = client_of(f"{stand_in.url}&w=majority&readConcernLevel=majority")
    yield client[stand_in.database]["one"]
    await client.close()


async def problem_of(store: Engine) -> str:
    """Why a store cannot be used."""
    with pytest.raises(StoreSetupError) as error:
        await store.setup()
    assert isinstance(error.value.__cause__, EngineProblem)
    return str(error.value.__cause__)


@pytest.mark.parametrize(
    ("rest", "complaint"),
    [
        ("/sign-ins", "Empty host"),
        ("host:99999/", "Port must be"),
        ("host/a%20name", "Bad database name"),
        ("host/?timeout=5", "Unknown option: timeout"),
        ("host/?timeoutMS=soon", "timeoutms must be"),
        ("host/?tls=true&tlsCAFile=/not/there.pem", "/not/there.pem"),
        ("user:hush@hush@host/", "must be escaped"),
        ("user:hush/hush@host/", "percent-encoded"),
        ("user:hush%zz@host/", "must be escaped"),
        ("user:hush:hush@host/", "must be escaped"),
    ],
)
def test_a_wrong_url_is_refused_before_anything_is_asked(rest: str, complaint: str) -> None:
    with pytest.raises(EngineProblem) as error:
        open_engine(f"mongodb://{rest}")
    assert complaint in str(error.value)
    assert "hush" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "database"),
    [
        ("mongodb://host", "holdfast"),
        ("mongodb://one,two:27018/sign-ins?replicaSet=set", "sign-ins"),
        ("mongodb+srv://user:password@cluster.example.com/sign-ins?tls=true", "sign-ins"),
    ],
)
async def test_the_database_is_the_one_of_the_url(url: str, database: str, opened: Open) -> None:
    store = opened(url)
    assert isinstance(store, MongoDBEngine)
    assert store._db.name == database


async def test_a_wrong_password_is_a_mistake_and_no_outage(stand_in: MongoDBStandIn, opened: Open) -> None:
    problem = await problem_of(opened(stand_in.url_of(USER, "hush")))
    assert "does not accept the user or the password" in problem
    assert "hush" not in problem


async def test_a_user_who_may_only_read_is_told_which_role_is_missing(stand_in: MongoDBStandIn, opened: Open) -> None:
    problem = await problem_of(opened(stand_in.url_of(READER, PASSWORD)))
    assert "in the database sign-ins; grant it the role readWrite" in problem


async def test_what_is_tried_at_the_start_changes_nothing(stand_in: MongoDBStandIn, store: Engine) -> None:
    await store.setup()
    assert stand_in.dump() == b"{}"


async def test_who_only_looks_makes_no_collection(stand_in: MongoDBStandIn, opened: Open) -> None:
    store = opened(stand_in.url, may_create=False)
    assert await store.get("key", collection="one") is None
    assert [key async for key, _ in store.entries("one")] == []
    assert stand_in.dump() == b"{}"


async def test_records_expire_by_an_index(documents: AsyncCollection[dict[str, Any]], store: Engine) -> None:
    await store.put("key", {"a": 1}, collection="one", ttl=60)
    indexes = await documents.index_information()
    assert indexes["expires_at_1"]["expireAfterSeconds"] == 0
    document = await documents.find_one({})
    assert document is not None
    assert isinstance(document["expires_at"], datetime)
    assert await store.warnings() == []


async def test_an_index_that_exists_otherwise_is_a_warning(
    documents: AsyncCollection[dict[str, Any]], store: Engine
) -> None:
    await documents.create_index("expires_at")
    await store.put("key", {"a": 1}, collection="one", ttl=60)
    (warning,) = await store.warnings()
    assert "keeps expired records of one for ever" in warning


async def test_names_that_mongodb_has_no_collections_for_are_escaped(stand_in: MongoDBStandIn, store: Engine) -> None:
    names = ["$cmd", "a.b", "a/b c", "system.users", "é"]
    for name in names:
        await store.put("key", {"name": name}, collection=name)
    assert await store.collection_names() == names
    with stand_in.client() as client:
        held = client[stand_in.database].list_collection_names()
    assert not [name for name in held if "$" in name or "." in name]


async def test_what_exasol_left_in_the_database_is_in_nobodys_way(
    documents: AsyncCollection[dict[str, Any]], store: Engine
) -> None:
    await documents.create_index("key")
    for _ in range(2):
        await documents.insert_one({"_id": ObjectId(), "key": "key", "value": {"object": {"of": "exasol"}}})
    assert await store.collection_names() == []
    assert await store.get("key", collection="one") is None
    assert await store.add("key", {"of": "holdfast"}, collection="one", ttl=60)
    assert [(key, dict(entry.value)) async for key, entry in store.entries("one")] == [("key", {"of": "holdfast"})]
    assert await store.count("one", at_most=9) == 1


@pytest.mark.parametrize(
    "damaged",
    [
        {},
        {"value": 1},
        {"value": {"$gt": ""}},
        {"value": {"object": 1}},
        {"value": {"object": "[" * 100_000}},
        {"value": {"object": {"a": 1}}, "expires_at": "tomorrow"},
        {"value": {"object": {"a": 1}}, "created_at": 5},
    ],
)
async def test_a_damaged_document_is_a_miss_and_set_aside(
    damaged: dict[str, Any], documents: AsyncCollection[dict[str, Any]], store: Engine
) -> None:
    await documents.insert_one({"_id": "key", **damaged})
    assert [key async for key, _ in store.entries("one")] == []
    assert not await store.add("key", {"a": 2}, collection="one", ttl=60)
    assert await store.get("key", collection="one") is None
    assert await documents.find_one({"_id": "key"}) is None
    aside = await documents.database[QUARANTINE_COLLECTION].find_one({})
    assert aside is not None
    assert aside["document"] == {"_id": "key", **damaged}
    assert aside["expires_at"] > datetime.now(UTC).replace(tzinfo=None)
    assert await store.add("key", {"a": 2}, collection="one", ttl=60)


async def test_of_replicas_that_take_over_an_expired_record_one_wins(stand_in: MongoDBStandIn, opened: Open) -> None:
    replicas = [opened(stand_in.url) for _ in range(6)]
    for number in range(20):
        key = f"record {number}"
        await replicas[0].put(key, {"by": "nobody"}, collection="one", ttl=0.001)
        won = await asyncio.gather(
            *(replica.add(key, {"by": by}, collection="one", ttl=60) for by, replica in enumerate(replicas))
        )
        assert sum(won) == 1
        assert await replicas[0].get(key, collection="one") == {"by": won.index(True)}


async def test_of_replicas_that_renew_a_record_at_once_one_wins(stand_in: MongoDBStandIn, opened: Open) -> None:
    replicas = [opened(stand_in.url) for _ in range(6)]
    for number in range(5):
        await replicas[0].put("key", {"number": number}, collection="one", ttl=60)
        entry = await replicas[0].read("key", collection="one")
        assert entry is not None
        won = await asyncio.gather(
            *(
                replica.replace("key", collection="one", expected=entry, value={"by": by})
                for by, replica in enumerate(replicas)
            )
        )
        assert sum(won) == 1
        assert await replicas[0].get("key", collection="one") == {"by": won.index(True)}


async def test_an_expired_record_that_mongodb_still_holds_can_be_claimed_by_nobody(
    documents: AsyncCollection[dict[str, Any]], store: Engine
) -> None:
    await store.put("key", {"a": 1}, collection="one", ttl=0.001)
    assert await documents.find_one({"_id": "key"}) is not None
    assert not await store.delete("key", collection="one")


@pytest.mark.usefixtures("in_earnest")
async def test_a_server_that_hangs_is_given_up_before_a_request_is(stand_in: MongoDBStandIn, store: Engine) -> None:
    assert await store.get("key", collection="one") is None
    stand_in.hang()
    try:
        async with asyncio.timeout(DEADLINE):
            with pytest.raises(StoreConnectionError):
                await store.get("key", collection="one")
    finally:
        stand_in.go_on()
    assert await store.get("key", collection="one") is None
