"""A stand-in for MongoDB, which no package registry has: the commands that Holdfast uses, over MongoDB's wire protocol.

It is what pymongo takes for the primary of a replica set. What is done as MongoDB documents it: the unique index on
`_id`, each command as one step, a retried write that is done once (by session and transaction number), cursors, roles,
and codes of errors. It refuses commands that do not ask for the concern `majority`, and reads that are not for the
primary. What it has not: other servers, elections, disks, the removal of expired records, and everything else.

https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/

Usage: mongodb_stand_in.py HOST PORT USER PASSWORD READER
READER is the name of a user with the same password that may only read.
"""

import asyncio
import struct
import sys
from collections.abc import Callable, Iterable
from itertools import count, islice
from typing import Any

import bson

Document = dict[str, Any]

OP_REPLY, OP_QUERY, OP_MSG = 1, 2004, 2013
HEADER = struct.Struct("<iiii")
FIRST_BATCH = 101
LARGEST = {"maxBsonObjectSize": 16 << 20, "maxMessageSizeBytes": 48_000_000, "maxWriteBatchSize": 100_000}
UNAUTHORIZED, AUTHENTICATION_FAILED, NO_SUCH_COMMAND, FAILED = 13, 18, 59, 96
NO_NAMESPACE, INDEX_OPTIONS_CONFLICT, INVALID_OPTIONS, DUPLICATE_KEY = 26, 85, 72, 11000

OPEN = {"hello", "isMaster", "ismaster", "saslStart", "ping", "endSessions"}
READS = {"find", "getMore", "aggregate", "listCollections", "listIndexes", "killCursors"}
CONCERN_OF_READS, CONCERN_OF_WRITES = (
    {"find", "aggregate"},
    {"insert", "update", "delete", "findAndModify", "createIndexes"},
)


class Refused(Exception):
    """A command fails with a code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Collection:
    """Documents by their encoded `_id`, which is unique so."""

    def __init__(self) -> None:
        self.documents: dict[bytes, Document] = {}
        self.indexes: dict[str, Document] = {"_id_": {"v": 2, "key": {"_id": 1}, "name": "_id_"}}

    def matching(self, query: Document) -> list[Document]:
        return [document for document in self.documents.values() if matches(document, query)]

    def insert(self, document: Document) -> None:
        place = bson.encode({"": document["_id"]})
        if place in self.documents:
            raise Refused(DUPLICATE_KEY, f"E11000 duplicate key error index: _id_ dup key: {document['_id']!r}")
        self.documents[place] = document

    def change(self, query: Document, update: Document, *, upsert: bool) -> tuple[Document | None, Document | None]:
        """What was there, and what was inserted."""
        found = next(iter(self.matching(query)), None)
        if found is None:
            if upsert:
                self.insert(inserted := {"_id": query["_id"], **update})
                return None, inserted
            return None, None
        place = bson.encode({"": found["_id"]})
        changed = {**found, **update["$set"]} if "$set" in update else {"_id": found["_id"], **update}
        self.documents[place] = changed
        return found, None

    def remove(self, query: Document) -> Document | None:
        found = next(iter(self.matching(query)), None)
        if found is not None:
            del self.documents[bson.encode({"": found["_id"]})]
        return found


TESTS: dict[str, Callable[[Document, str, Any], bool]] = {
    "$eq": lambda document, name, value: name in document and encoded(document[name]) == encoded(value),
    "$exists": lambda document, name, value: (name in document) == value,
    "$type": lambda document, name, value: value == "string" and isinstance(document.get(name), str),
    "$lte": lambda document, name, value: type(document.get(name)) is type(value) and document[name] <= value,
}


def matches(document: Document, query: Document) -> bool:
    for name, condition in query.items():
        is_operators = isinstance(condition, dict) and any(operator.startswith("$") for operator in condition)
        for operator, value in condition.items() if is_operators else [("$eq", condition)]:
            if operator not in TESTS:
                raise Refused(FAILED, f"this stand-in knows no {operator}")
            if not TESTS[operator](document, name, value):
                return False
    return True


def encoded(value: Any) -> bytes:
    """Two values are equal for MongoDB if their members come in the same order, too."""
    return bson.encode({"": value})


class StandIn:
    """All databases, and the commands on them."""

    def __init__(self, address: str, password: str, writer: str, reader: str) -> None:
        self.address = address
        self.password = password
        self.users = {writer: True, reader: False}
        self.databases: dict[str, dict[str, Collection]] = {}
        self.cursors: dict[int, list[Document]] = {}
        self.numbers = count(1)
        self.done: dict[tuple[bytes, int], Document] = {}

    def answer(self, command: Document, user: list[str]) -> Document:
        name = next(iter(command))
        try:
            method = self._method(name)
            self._check(name, command, user)
            return {**self._once(command, lambda: method(command, user)), "ok": 1.0}
        except Refused as refused:
            return {"ok": 0.0, "code": refused.code, "errmsg": str(refused)}

    def _method(self, name: str) -> Callable[[Document, list[str]], Document]:
        method: Callable[[Document, list[str]], Document] | None = getattr(self, f"do_{name}", None)
        if method is None:
            raise Refused(NO_SUCH_COMMAND, f"this stand-in knows no {name}")
        return method

    def _check(self, name: str, command: Document, user: list[str]) -> None:
        if name in OPEN:
            return
        if not user or (name not in READS and not self.users[user[0]]):
            raise Refused(UNAUTHORIZED, f"not authorized on {command['$db']} to execute command {name}")
        if name in CONCERN_OF_READS and command.get("readConcern", {}).get("level") != "majority":
            raise Refused(INVALID_OPTIONS, f"{name} does not ask for what a majority has")
        if name in CONCERN_OF_WRITES and command.get("writeConcern", {}).get("w") != "majority":
            raise Refused(INVALID_OPTIONS, f"{name} does not wait for a majority")
        if command.get("$readPreference", {"mode": "primary"})["mode"] != "primary":
            raise Refused(INVALID_OPTIONS, f"{name} does not ask the primary")

    def _once(self, command: Document, do: Callable[[], Document]) -> Document:
        if "txnNumber" not in command:
            return do()
        write = (encoded(command["lsid"]), command["txnNumber"])
        if write not in self.done:
            self.done[write] = do()
        return self.done[write]

    def _collection(self, command: Document) -> Collection:
        collections = self.databases.setdefault(command["$db"], {})
        return collections.setdefault(command[next(iter(command))], Collection())

    def _existing(self, command: Document) -> Collection:
        return self.databases.get(command["$db"], {}).get(command[next(iter(command))], Collection())

    def _cursor(self, command: Document, documents: Iterable[Document], size: int = FIRST_BATCH) -> Document:
        remaining = iter(documents)
        first, rest = list(islice(remaining, size)), list(remaining)
        number = next(self.numbers) if rest else 0
        if rest:
            self.cursors[number] = rest
        return {
            "cursor": {
                "id": bson.Int64(number),
                "ns": f"{command['$db']}.{next(iter(command.values()))}",
                "firstBatch": first,
            }
        }

    def do_hello(self, command: Document, user: list[str]) -> Document:
        return {
            **LARGEST,
            "isWritablePrimary": True,
            "ismaster": True,
            "secondary": False,
            "readOnly": False,
            "setName": "stand-in",
            "setVersion": 1,
            "hosts": [self.address],
            "me": self.address,
            "primary": self.address,
            "minWireVersion": 0,
            "maxWireVersion": 21,
            "logicalSessionTimeoutMinutes": 30,
        }

    do_isMaster = do_ismaster = do_hello  # noqa: N815  # the commands' names

    def do_ping(self, command: Document, user: list[str]) -> Document:
        return {}

    do_endSessions = do_killCursors = do_ping  # noqa: N815

    def do_saslStart(self, command: Document, user: list[str]) -> Document:  # noqa: N802
        """PLAIN only: it is one step (RFC 4616)."""
        _, name, password = bytes(command["payload"]).decode().split("\0")
        if name not in self.users or password != self.password:
            raise Refused(AUTHENTICATION_FAILED, "Authentication failed.")
        user[:] = [name]
        return {"conversationId": 1, "done": True, "payload": b""}

    def do_find(self, command: Document, user: list[str]) -> Document:
        documents = self._existing(command).matching(command.get("filter", {}))
        limit = abs(command.get("limit", 0)) or len(documents)
        return self._cursor(command, documents[:limit], command.get("batchSize", FIRST_BATCH))

    def do_getMore(self, command: Document, user: list[str]) -> Document:  # noqa: N802
        batch = self.cursors.pop(command["getMore"], [])
        namespace = f"{command['$db']}.{command['collection']}"
        return {"cursor": {"id": bson.Int64(0), "ns": namespace, "nextBatch": batch}}

    def do_aggregate(self, command: Document, user: list[str]) -> Document:
        """What count_documents asks for."""
        match, *limit, group = command["pipeline"]
        documents = self._existing(command).matching(match["$match"])
        assert group["$group"] == {"_id": 1, "n": {"$sum": 1}}
        number = min([len(documents), *(stage["$limit"] for stage in limit)])
        return self._cursor(command, [{"_id": 1, "n": number}] if number else [])

    def do_insert(self, command: Document, user: list[str]) -> Document:
        collection = self._collection(command)
        try:
            (document,) = command["documents"]
            collection.insert(document)
        except Refused as refused:
            return {"n": 0, "writeErrors": [{"index": 0, "code": refused.code, "errmsg": str(refused)}]}
        return {"n": 1}

    def do_update(self, command: Document, user: list[str]) -> Document:
        (update,) = command["updates"]
        upsert = update.get("upsert", False)
        collection = self._collection(command) if upsert else self._existing(command)
        found, inserted = collection.change(update["q"], update["u"], upsert=upsert)
        if inserted is not None:
            return {"n": 1, "nModified": 0, "upserted": [{"index": 0, "_id": inserted["_id"]}]}
        return {"n": int(found is not None), "nModified": int(found is not None)}

    def do_delete(self, command: Document, user: list[str]) -> Document:
        (delete,) = command["deletes"]
        return {"n": int(self._existing(command).remove(delete["q"]) is not None)}

    def do_findAndModify(self, command: Document, user: list[str]) -> Document:  # noqa: N802
        collection = self._existing(command)
        if command.get("remove"):
            return {"value": collection.remove(command["query"])}
        found, _ = collection.change(command["query"], command["update"], upsert=False)
        return {"value": found}

    def do_createIndexes(self, command: Document, user: list[str]) -> Document:  # noqa: N802
        indexes = self._collection(command).indexes
        for index in command["indexes"]:
            known = indexes.setdefault(index["name"], {"v": 2, **index})
            if known != {"v": 2, **index}:
                raise Refused(INDEX_OPTIONS_CONFLICT, f"an index {index['name']} exists with other options")
        return {}

    def do_listIndexes(self, command: Document, user: list[str]) -> Document:  # noqa: N802
        if command["listIndexes"] not in self.databases.get(command["$db"], {}):
            raise Refused(NO_NAMESPACE, "ns does not exist")
        return self._cursor(command, self._existing(command).indexes.values())

    def do_listCollections(self, command: Document, user: list[str]) -> Document:  # noqa: N802
        names = self.databases.get(command["$db"], {})
        return self._cursor(command, [{"name": name, "type": "collection"} for name in names])

    def do_dropDatabase(self, command: Document, user: list[str]) -> Document:  # noqa: N802
        self.databases.pop(command["$db"], None)
        return {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        user: list[str] = []
        try:
            while True:
                length, request, _, kind = HEADER.unpack(await reader.readexactly(HEADER.size))
                body = await reader.readexactly(length - HEADER.size)
                writer.write(self._reply(request, kind, body, user))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def _reply(self, request: int, kind: int, body: bytes, user: list[str]) -> bytes:
        if kind == OP_QUERY:
            # A client's first words, before it knows what the server understands.
            query = body[body.index(b"\0", 4) + 9 :]
            document = bson.encode(self.answer(bson.decode(query[: struct.unpack_from("<i", query)[0]]), user))
            content, kind = struct.pack("<iqii", 8, 0, 0, 1) + document, OP_REPLY
        else:
            content = struct.pack("<iB", 0, 0) + bson.encode(self.answer(command_in(body), user))
        return HEADER.pack(HEADER.size + len(content), next(self.numbers), request, kind) + content


def command_in(body: bytes) -> Document:
    """The command of an OP_MSG, with its sequences of documents as lists in it."""
    command: Document = {}
    sequences: Document = {}
    position = 4
    while position < len(body):
        section, position = body[position], position + 1
        (size,) = struct.unpack_from("<i", body, position)
        content = body[position : position + size]
        position += size
        if section == 0:
            command = bson.decode(content)
        else:
            end = content.index(b"\0", 4)
            sequences[content[4:end].decode()] = bson.decode_all(content[end + 1 :])
    return {**command, **sequences}


async def main(host: str, port: str, user: str, password: str, reader: str) -> None:
    stand_in = StandIn(f"{host}:{port}", password, user, reader)
    server = await asyncio.start_server(stand_in.serve, host, int(port))
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
