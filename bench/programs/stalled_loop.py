"""How long the event loop stands still while a store works: usage: stalled_loop.py DIRECTORY ROUNDS.

Each operation on a file of the tree takes 2 ms more. Prints JSON: the longest stall of each round, in milliseconds, by
backend; and by "nothing" those of as long a time in which this program does nothing, which are the machine's own.
"""

import asyncio
import gc
import json
import sys
from collections import defaultdict
from collections.abc import Awaitable
from pathlib import Path
from time import perf_counter

import uvloop
from slow_files import slow_down  # type: ignore[import-not-found]  # it is beside this file

from mcp_holdfast.libraries import NEW_OBJECTS_BEFORE_A_COLLECTION
from mcp_holdfast.storage import open_store
from mcp_holdfast.storage.atomic import AtomicStore
from mcp_holdfast.storage.keys import KeyRing

AT_ONCE = 32
SECONDS_A_TURN = 0.001
VALUE = {"client_id": "a client", "about": "x" * 600}
KEYS = KeyRing(("a-key-for-this-bench-which-keeps-no-secret",), "bench")


class Watch:
    """Asks every millisecond to be woken, and remembers how late that was."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def look(self) -> None:
        while True:
            due = perf_counter() + SECONDS_A_TURN
            await asyncio.sleep(SECONDS_A_TURN)
            self.longest = max(self.longest, perf_counter() - due)


async def work(store: AtomicStore, number: int) -> None:
    key = f"key {number}"
    await store.put(key, VALUE, collection="things", ttl=3600)
    await store.get(key, collection="things")
    await store.delete(key, collection="things")


async def work_at_once(store: AtomicStore) -> None:
    await asyncio.gather(*(work(store, number) for number in range(AT_ONCE)))


async def longest_stall(work: Awaitable[None]) -> float:
    watch = Watch()
    looking = asyncio.create_task(watch.look())
    await work
    looking.cancel()
    return 1000 * watch.longest


async def main(directory: Path, rounds: int) -> None:
    slow_down(str(directory), 0.002)
    stores = {backend: open_store(backend, path=directory / backend, keys=KEYS) for backend in ("filetree", "disk")}
    for store in stores.values():
        await work_at_once(store)
    # As in a server.
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS_BEFORE_A_COLLECTION)
    found = defaultdict(list)
    for _ in range(rounds):
        for backend, store in stores.items():
            began = perf_counter()
            found[backend].append(await longest_stall(work_at_once(store)))
            found["nothing"].append(await longest_stall(asyncio.sleep(perf_counter() - began)))
    print(json.dumps(found))


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1]), int(sys.argv[2])))
