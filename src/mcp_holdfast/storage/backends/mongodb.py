"""Records in a database of MongoDB: one of its collections for each of ours, one document for each record.

A record's key is its document's `_id`, which every MongoDB has a unique index on. So no index must be made for one
winner, and documents that exasol-mcp-server left in the same database are in nobody's way. What must have one winner is
one insert, or one findAndModify, that a majority of the servers has.
"""

import time
import warnings
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar
from urllib.parse import quote, unquote

from bson.codec_options import CodecOptions, DatetimeConversion
from key_value.aio._utils.compound import compound_key
from key_value.aio._utils.managed_entry import ManagedEntry
from key_value.aio._utils.time_to_live import prepare_entry_timestamps
from key_value.aio.stores.base import BaseStore
from key_value.aio.stores.mongodb import MongoDBStore
from pymongo import AsyncMongoClient, ReadPreference, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import (
    ConfigurationError,
    DuplicateKeyError,
    InvalidURI,
    OperationFailure,
    PyMongoError,
)
from pymongo.read_concern import ReadConcern

from mcp_holdfast.storage.backends.engine import (
    ANSWERS_WITHIN,
    CONNECTS_WITHIN,
    QUARANTINE_COLLECTION,
    UNREADABLE,
    Engine,
    EngineProblem,
    reported,
)

Document = dict[str, Any]
Client = AsyncMongoClient[Document]

DATABASE = "holdfast"
OURS: Document = {"_id": {"$type": "string"}}
"""exasol-mcp-server's documents have ids of another type."""

CHANGING = ("value", "created_at", "expires_at")

UNAUTHORIZED, WRONG_CREDENTIALS, INDEX_CONFLICTS = 13, {18, 8000}, {85, 86}
"""Codes of errors; 8000 is Atlas's."""

DEFAULTS: Mapping[str, Any] = {
    "appname": "holdfast",
    "serverSelectionTimeoutMS": round(CONNECTS_WITHIN * 1000),
    "timeoutMS": round(ANSWERS_WITHIN * 1000),
}
"""Where the URL does not say otherwise."""


class MongoDBEngine(Engine, MongoDBStore):
    """Records that MongoDB removes within a minute or so after they expired; until then they are not answered."""

    failures: ClassVar[tuple[type[Exception], ...]] = (PyMongoError, OSError)

    def __init__(self, url: str, *, quarantine: float, may_create: bool = True) -> None:
        self._url = url
        self.quarantine = quarantine
        self.may_create = may_create
        client = client_of(url)
        MongoDBStore.__init__(self, client=client, db_name=_database_of(client))

    async def exists(self) -> bool:
        """MongoDB makes databases and collections when something is stored."""
        await self.setup()
        return True

    @reported
    async def warnings(self) -> list[str]:
        await self.setup()
        found = []
        hello = await self._client.admin.command("hello")
        if "setName" not in hello and hello.get("msg") != "isdbgrid":
            found.append("is one server alone, so nothing takes its place when it fails; make it a replica set")
        for name in await self.collection_names():
            indexes = [index async for index in await self._collection(name).list_indexes()]
            if not any("expireAfterSeconds" in index for index in indexes):
                found.append(f"keeps expired records of {name} for ever; index it on expires_at, expireAfterSeconds 0")
        return found

    async def _connect(self) -> None:
        self._client = client_of(self._url)
        self._db = self._client.get_database(
            _database_of(self._client),
            codec_options=CodecOptions(
                datetime_conversion=DatetimeConversion.DATETIME_AUTO, unicode_decode_error_handler="replace"
            ),
            read_preference=ReadPreference.PRIMARY,
            read_concern=ReadConcern("majority"),
            write_concern=WriteConcern("majority"),
        )
        self._collections_by_name = {}

    async def _disconnect(self) -> None:
        await self._client.close()

    async def _prepare(self) -> None:
        """See that this user may read and write, in ways that change nothing."""
        collection = self._collection(QUARANTINE_COLLECTION)
        nothing = {"_id": "a record that is never there"}
        try:
            await self._db.list_collection_names()
            await collection.find_one(nothing)
            await collection.update_one(nothing, {"$set": {"value": None}})
            await collection.delete_one(nothing)
        except OperationFailure as error:
            if error.code in WRONG_CREDENTIALS:
                raise EngineProblem(
                    "MongoDB does not accept the user or the password; correct them, or name the database that "
                    "knows the user with ?authSource="
                ) from None
            if error.code == UNAUTHORIZED:
                raise EngineProblem(
                    f"MongoDB does not allow this user what is needed in the database {self._db.name}; grant it the "
                    "role readWrite there"
                ) from None
            raise

    async def _setup_collection(self, *, collection: str) -> None:
        self._collections_by_name[collection] = made = self._collection(collection)
        if not self.may_create:
            return
        with self.reporting():
            try:
                await made.create_index("expires_at", expireAfterSeconds=0)
            except OperationFailure as error:
                # `warnings` tells of it.
                if error.code not in {UNAUTHORIZED, *INDEX_CONFLICTS}:
                    raise

    def _collection(self, collection: str) -> AsyncCollection[Document]:
        """MongoDB's collection for one of ours; its name has only letters, digits, '_', '-', '~' and '%'."""
        return self._db[quote(collection, safe="").replace(".", "%2E")]

    @reported
    async def _get_managed_entry(self, *, key: str, collection: str) -> ManagedEntry | None:
        document = await self._collections_by_name[collection].find_one({"_id": key})
        if document is None:
            return None
        entry = self._entry_in(document)
        if entry is None:
            await self._put_aside(collection, document)
        return entry

    async def _get_managed_entries(self, *, collection: str, keys: Sequence[str]) -> list[ManagedEntry | None]:
        return await BaseStore._get_managed_entries(self, collection=collection, keys=keys)

    @reported
    async def _put_managed_entry(self, *, key: str, collection: str, managed_entry: ManagedEntry) -> None:
        document = self._document_of(managed_entry)
        await self._collections_by_name[collection].replace_one({"_id": key}, document, upsert=True)

    async def _put_managed_entries(
        self,
        *,
        collection: str,
        keys: Sequence[str],
        managed_entries: Sequence[ManagedEntry],
        ttl: float | None,
        created_at: datetime,
        expires_at: datetime | None,
    ) -> None:
        for key, entry in zip(keys, managed_entries, strict=True):
            await self._put_managed_entry(key=key, collection=collection, managed_entry=entry)

    @reported
    async def _delete_managed_entry(self, *, key: str, collection: str) -> bool:
        document = await self._collections_by_name[collection].find_one_and_delete({"_id": key})
        entry = None if document is None else self._entry_in(document)
        return entry is not None and not entry.is_expired

    async def _delete_managed_entries(self, *, keys: Sequence[str], collection: str) -> int:
        return await BaseStore._delete_managed_entries(self, keys=keys, collection=collection)

    @reported
    async def add(self, key: str, value: Mapping[str, Any], *, collection: str, ttl: float | None = None) -> bool:
        await self.setup_collection(collection=collection)
        created_at, _, expires_at = prepare_entry_timestamps(ttl=ttl)
        document = self._document_of(ManagedEntry(value=value, created_at=created_at, expires_at=expires_at))
        records = self._collections_by_name[collection]
        try:
            await records.insert_one({"_id": key, **document})
        except DuplicateKeyError:
            expired = {"_id": key, "expires_at": {"$lte": created_at}}
            return await records.find_one_and_replace(expired, document) is not None
        return True

    async def entries(self, collection: str) -> AsyncIterator[tuple[str, ManagedEntry]]:
        with self.reporting():
            await self.setup_collection(collection=collection)
            async for document in self._collections_by_name[collection].find(OURS):
                entry = self._entry_in(document)
                if entry is not None and not entry.is_expired:
                    yield document["_id"], entry

    @reported
    async def collection_names(self) -> list[str]:
        await self.setup()
        names = {unquote(name) for name in await self._db.list_collection_names()} - {QUARANTINE_COLLECTION}
        # An empty one stays when its last record is gone.
        return sorted([name for name in names if await self._collection(name).find_one(OURS) is not None])

    @reported
    async def count(self, collection: str, *, at_most: int) -> int:
        await self.setup_collection(collection=collection)
        return await self._collections_by_name[collection].count_documents(OURS, limit=at_most)

    @reported
    async def replace(self, key: str, *, collection: str, expected: ManagedEntry, value: Mapping[str, Any]) -> bool:
        await self.setup_collection(collection=collection)
        records = self._collections_by_name[collection]
        document = await records.find_one({"_id": key})
        if document is None or self._entry_in(document) != expected:
            return False
        update = {"$set": {"value": {"object": dict(value)}}}
        return await records.find_one_and_update(_unchanged(document), update) is not None

    @reported
    async def set_aside(self, key: str, *, collection: str, entry: ManagedEntry) -> None:
        await self.setup_collection(collection=collection)
        document = await self._collections_by_name[collection].find_one({"_id": key})
        if document is not None and self._entry_in(document) == entry:
            await self._put_aside(collection, document)

    async def _put_aside(self, collection: str, document: Document) -> None:
        await self.setup_collection(collection=QUARANTINE_COLLECTION)
        aside = {
            "_id": compound_key(collection=collection, key=document["_id"]),
            "document": document,
            "expires_at": datetime.fromtimestamp(time.time() + self.quarantine, UTC),
        }
        await self._collections_by_name[QUARANTINE_COLLECTION].replace_one({"_id": aside["_id"]}, aside, upsert=True)
        await self._collections_by_name[collection].find_one_and_delete(_unchanged(document))

    def _document_of(self, entry: ManagedEntry) -> Document:
        # Raises SerializationError for what no other store could hold.
        _ = entry.value_as_json
        return self._adapter.dump_dict(entry=entry)

    def _entry_in(self, document: Document) -> ManagedEntry | None:
        try:
            return self._adapter.load_dict(data={**document})
        except UNREADABLE:
            return None


def _unchanged(document: Document) -> Document:
    """Finds a document as long as nobody changed it."""
    members = {name: {"$eq": document[name]} if name in document else {"$exists": False} for name in CHANGING}
    return {"_id": document["_id"], **members}


def _database_of(client: Client) -> str:
    return client.get_default_database(DATABASE).name


def client_of(url: str) -> Client:
    """A client for a URL, mongodb:// or mongodb+srv://, with the options that pymongo knows; connects to nothing.

    What the URL says of concerns and of read preference has no effect: records are not to be had for less.

    Raises:
        EngineProblem: the URL is wrong; the message shows nothing of the password.

    """
    try:
        with warnings.catch_warnings():
            # pymongo only warns of an option that it does not know, or of a value that an option cannot have.
            warnings.simplefilter("error", UserWarning)
            client: Client = AsyncMongoClient(url, **_defaults(url))
            _database_of(client)
    except (InvalidURI, ConfigurationError, ValueError, UserWarning, OSError) as error:
        # What stands before '@' may be anywhere in the message of a URL that cannot be taken apart.
        shown = "its parts cannot be told; user and password must be percent-encoded" if "@" in str(error) else error
        raise EngineProblem(f"pymongo does not understand the URL: {shown}") from None
    return client


def _defaults(url: str) -> Document:
    given = {option.partition("=")[0].lower() for option in url.partition("?")[2].split("&")}
    return {name: value for name, value in DEFAULTS.items() if name.lower() not in given}
