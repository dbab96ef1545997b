"""Times one task on file trees in a process of its own, and prints what it took in each as JSON.

usage: trees.py holdfast|stock operations|sweep. Its input is JSON: the `secret` of the seal, a `collection`, and
`trees`, each with its `directory`, how many `records` it has, and as many keys as the others that are `present` and
`new`. Runs in .venv for Holdfast's sealed store, and with the packages as they come for py-key-value's own, which does
not seal, puts instead of adding, and sweeps in one piece.
"""

import asyncio
import json
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

LIMIT = 500
QUARANTINE = 7 * 86400

Operation = Callable[[str], Awaitable[Any]]
Times = dict[str, list[float]]


def open_holdfast(directory: Path, secret: str) -> Any:
    from mcp_holdfast.storage.backends import open_filetree
    from mcp_holdfast.storage.keys import KeyRing
    from mcp_holdfast.storage.sealing import SealedStore

    return SealedStore(open_filetree(directory), KeyRing((secret,), "bench"))


def open_stock(directory: Path, _: str) -> Any:
    from key_value.aio.stores import filetree

    return filetree.FileTreeStore(
        data_directory=directory,
        key_sanitization_strategy=filetree.FileTreeV1KeySanitizationStrategy(directory),
        collection_sanitization_strategy=filetree.FileTreeV1CollectionSanitizationStrategy(directory),
    )


STORES = {"holdfast": open_holdfast, "stock": open_stock}


async def times_of(operations: list[Operation], keys: list[list[str]]) -> list[list[float]]:
    """The seconds that each of the operations took of each of its keys.

    They are called in turn, so that what else goes on meets all of them.
    """
    times: list[list[float]] = [[] for _ in operations]
    for one_each in zip(*keys, strict=True):
        for operation, key, taken in zip(operations, one_each, times, strict=True):
            began = time.perf_counter()
            await operation(key)
            taken.append(time.perf_counter() - began)
    return times


class Operations:
    """What is timed of one tree."""

    def __init__(self, store: Any, collection: str) -> None:
        self._store = store
        self._collection = collection
        self._add = getattr(store, "add", store.put)
        self._values: dict[str, Any] = {}

    async def read(self, keys: list[str]) -> None:
        """Each record is put as it was, since a sealed one would be a miss under another key."""
        self._values = {key: await self._store.get(key, collection=self._collection) for key in keys}
        assert None not in self._values.values()

    async def get(self, key: str) -> None:
        await self._store.get(key, collection=self._collection)

    async def put(self, key: str) -> None:
        await self._store.put(key, self._values[key], collection=self._collection)

    async def add(self, key: str) -> None:
        await self._add(key, next(iter(self._values.values())), collection=self._collection)

    async def delete(self, key: str) -> None:
        await self._store.delete(key, collection=self._collection)


async def operations(stores: list[Any], given: dict[str, Any]) -> list[Times]:
    """The seconds that each operation took."""
    trees = [Operations(store, given["collection"]) for store in stores]
    present, new = ([tree[which] for tree in given["trees"]] for which in ("present", "new"))
    for tree, keys in zip(trees, present, strict=True):
        await tree.read(keys)
    found = {
        "get": await times_of([tree.get for tree in trees], present),
        "put": await times_of([tree.put for tree in trees], present),
        "add": await times_of([tree.add for tree in trees], new),
        "delete": await times_of([tree.delete for tree in trees], new),
    }
    return [{name: times[number] for name, times in found.items()} for number in range(len(trees))]


async def sweep(stores: list[Any], given: dict[str, Any]) -> list[Times]:
    """The seconds of a sweep of the only tree and of its longest piece, and the most bytes that this process had."""
    [store], [tree] = stores, given["trees"]
    # Without its description a collection is not swept: it could be anybody's.
    await getattr(store, "_store", store).setup_collection(collection=given["collection"])
    examined = 0
    moments, began_with = [time.perf_counter()], time.process_time()
    if hasattr(store, "cull"):
        await store.cull()
        moments.append(time.perf_counter())
    else:
        async for swept in store._store.sweep(limit=LIMIT, quarantine=QUARANTINE):
            moments.append(time.perf_counter())
            examined += swept.examined
        assert examined >= tree["records"]
    pieces = [end - begin for begin, end in pairwise(moments)]
    memory = 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {
        "sweep": [sum(pieces)],
        "sweep, CPU": [time.process_time() - began_with],
        "sweep, longest piece": [max(pieces)],
        "sweep, memory": [memory],
    }
    return [found]


TASKS = {"operations": operations, "sweep": sweep}


def main() -> None:
    target, task = sys.argv[1:]
    given = json.load(sys.stdin)
    stores = [STORES[target](Path(tree["directory"]), given["secret"]) for tree in given["trees"]]
    print(json.dumps(asyncio.run(TASKS[task](stores, given))))


if __name__ == "__main__":
    main()
