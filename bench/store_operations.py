"""Single operations of Holdfast's stores beside those of the stores below them, in alternating rounds.

Those are py-key-value's, as patches/ has them, and seal nothing; its disk store does not sync. Prints the median time
of each operation in milliseconds, and the ratio: above 1 Holdfast is the faster one. Run it by `make bench`.
"""

import asyncio
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from key_value.aio.protocols import AsyncKeyValue
from key_value.aio.stores.disk import DiskStore
from key_value.aio.stores.filetree import (
    FileTreeStore,
    FileTreeV1CollectionSanitizationStrategy,
    FileTreeV1KeySanitizationStrategy,
)

from mcp_holdfast.storage import open_store
from mcp_holdfast.storage.keys import KeyRing

ROUNDS, A_ROUND = 10, 50
VALUE = {"client_id": "a client", "redirect_uris": ["http://localhost:1234/callback"], "about": "x" * 600}
KEYS = KeyRing(("a-key-for-this-bench-which-keeps-no-secret",), "bench")


def plain_tree(directory: Path) -> FileTreeStore:
    directory.mkdir()
    return FileTreeStore(
        data_directory=directory,
        key_sanitization_strategy=FileTreeV1KeySanitizationStrategy(directory),
        collection_sanitization_strategy=FileTreeV1CollectionSanitizationStrategy(directory),
    )


def pairs(directory: Path) -> dict[str, dict[str, AsyncKeyValue]]:
    return {
        "filetree": {
            "plain": plain_tree(directory / "plain tree"),
            "holdfast": open_store("filetree", path=directory / "tree", keys=KEYS),
        },
        "disk": {
            "plain": DiskStore(directory=directory / "plain disk"),
            "holdfast": open_store("disk", path=directory / "database", keys=KEYS),
        },
    }


async def measure(operation: Callable[[str], Awaitable[Any]]) -> list[float]:
    """The milliseconds that each of A_ROUND operations takes, one after the other."""
    taken = []
    for number in range(A_ROUND):
        began = time.perf_counter()
        await operation(f"key {number}")
        taken.append(1000 * (time.perf_counter() - began))
    return taken


async def one_round(store: AsyncKeyValue) -> dict[str, list[float]]:
    return {
        "put": await measure(lambda key: store.put(key, VALUE, collection="things", ttl=3600)),
        "get": await measure(lambda key: store.get(key, collection="things")),
        "delete": await measure(lambda key: store.delete(key, collection="things")),
    }


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        for backend, stores in pairs(Path(directory)).items():
            times: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
            for number in range(ROUNDS + 1):
                for name, store in stores.items():
                    for operation, taken in (await one_round(store)).items():
                        # The first round pays for what is loaded once.
                        if number:
                            times[operation][name] += taken
            print(f"{backend:16}{'plain ms':>10}{'holdfast ms':>13}{'ratio':>8}")
            for operation, of in times.items():
                plain, holdfast = statistics.median(of["plain"]), statistics.median(of["holdfast"])
                print(f"  {operation:14}{plain:10.2f}{holdfast:13.2f}{plain / holdfast:8.2f}")


if __name__ == "__main__":
    asyncio.run(main())
