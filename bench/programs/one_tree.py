"""Times one task on a file tree in a process of its own, and prints what it took as JSON.

usage: one_tree.py holdfast|stock DIRECTORY operations|sweep. Its input is JSON: the `secret` of the seal, a
`collection`, keys in it that are `present` and `new`, and how many `records` it has. Runs in .venv for Holdfast's
sealed store, and with the packages as they come for py-key-value's own, which does not seal, puts instead of adding,
and sweeps in one piece.
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


async def times_of(operation: Operation, keys: list[str]) -> list[float]:
    times = []
    for key in keys:
        began = time.perf_counter()
        await operation(key)
        times.append(time.perf_counter() - began)
    return times


async def operations(store: Any, given: dict[str, Any]) -> dict[str, list[float]]:
    """The seconds that each operation took."""
    collection, present, new = given["collection"], given["present"], given["new"]
    # Each record is put as it was, since a sealed one would be a miss under another key.
    values = {key: await store.get(key, collection=collection) for key in present}
    assert None not in values.values()
    some = values[present[0]]
    add = getattr(store, "add", store.put)
    return {
        "get": await times_of(lambda key: store.get(key, collection=collection), present),
        "put": await times_of(lambda key: store.put(key, values[key], collection=collection), present),
        "add": await times_of(lambda key: add(key, some, collection=collection), new),
        "delete": await times_of(lambda key: store.delete(key, collection=collection), new),
    }


async def sweep(store: Any, given: dict[str, Any]) -> dict[str, list[float]]:
    """The seconds of a sweep and of the longest of its pieces, and the most bytes of memory that this process had."""
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
        assert examined >= given["records"]
    pieces = [end - begin for begin, end in pairwise(moments)]
    memory = 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "sweep": [sum(pieces)],
        "sweep, CPU": [time.process_time() - began_with],
        "sweep, longest piece": [max(pieces)],
        "sweep, memory": [memory],
    }


TASKS = {"operations": operations, "sweep": sweep}


def main() -> None:
    target, directory, task = sys.argv[1:]
    given = json.load(sys.stdin)
    store = STORES[target](Path(directory), given["secret"])
    print(json.dumps(asyncio.run(TASKS[task](store, given))))


if __name__ == "__main__":
    main()
