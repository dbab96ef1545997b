"""How long the event loop stands still while a store works: usage: stalled_loop.py DIRECTORY ROUNDS.

Each file operation takes 2 ms more. Prints JSON: the longest stall of each round, in milliseconds.
"""

import asyncio
import gc
import json
import sys
from pathlib import Path
from time import perf_counter

import uvloop
from slow_files import slow_down  # type: ignore[import-not-found]  # it is beside this file

from mcp_holdfast.storage import open_store
from mcp_holdfast.storage.atomic import AtomicStore
from mcp_holdfast.storage.keys import KeyRing

AT_ONCE = 32
SECONDS_A_TURN = 0.001
VALUE = {"client_id": "a client", "about": "x" * 600}


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


async def one_round(store: AtomicStore) -> float:
    watch = Watch()
    looking = asyncio.create_task(watch.look())
    await asyncio.gather(*(work(store, number) for number in range(AT_ONCE)))
    looking.cancel()
    return 1000 * watch.longest


async def main(directory: Path, rounds: int) -> None:
    slow_down(str(directory), 0.002)
    store = open_store("filetree", path=directory, keys=KeyRing(("a-key-for-this-bench-which-keeps-no-secret",), "b"))
    await one_round(store)
    # As in a server.
    gc.freeze()
    print(json.dumps([await one_round(store) for _ in range(rounds)]))


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1]), int(sys.argv[2])))
