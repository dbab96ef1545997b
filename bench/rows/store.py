"""Single operations of Holdfast's sealed stores beside py-key-value's own, and how long a store stalls the event loop.

Those are as patches/ has them, and seal nothing. Both run on uvloop and without py-key-value's checks of types, as in a
server of Holdfast. A ratio is the median time of Holdfast's to theirs, below 1 where Holdfast is the faster one.

py-key-value's disk store does not sync: what it has acknowledged may be gone after a power cut. The one that syncs is
the same with SQLite's `synchronous=FULL`, which is what Holdfast promises.

The event loop is asked every millisecond whether it still turns while 32 records at once are put, read and deleted,
each operation on a file of the tree taking 2 ms more; and for as long again while the program does nothing, which shows
how long the machine alone keeps it waiting. A stall is the longest of a round.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvloop

from bench import PROGRAMS
from bench.result import Progress, Result, Scale, Verdict
from mcp_holdfast.libraries import importing_libraries

with importing_libraries():
    from diskcache import Cache
    from key_value.aio.protocols import AsyncKeyValue
    from key_value.aio.stores.disk import DiskStore
    from key_value.aio.stores.filetree import (
        FileTreeStore,
        FileTreeV1CollectionSanitizationStrategy,
        FileTreeV1KeySanitizationStrategy,
    )

    from mcp_holdfast.storage import open_store
    from mcp_holdfast.storage.keys import KeyRing

A_ROUND = 50
VALUE = {"client_id": "a client", "redirect_uris": ["http://localhost:1234/callback"], "about": "x" * 600}
KEYS = KeyRing(("a-key-for-this-bench-which-keeps-no-secret",), "bench")
OPERATIONS = ("put", "get", "delete")
PLAIN, SYNCED, HOLDFAST = "py-key-value's", "py-key-value's, synced", "holdfast"
LONGEST_STALL = 20.0
"""In milliseconds."""

NOTHING = "nothing"
AS_IN_A_SERVER = {"PY_KEY_VALUE_DISABLE_BEARTYPE": "true"}

Times = dict[str, dict[str, list[float]]]


def plain_tree(directory: Path) -> FileTreeStore:
    directory.mkdir()
    return FileTreeStore(
        data_directory=directory,
        key_sanitization_strategy=FileTreeV1KeySanitizationStrategy(directory),
        collection_sanitization_strategy=FileTreeV1CollectionSanitizationStrategy(directory),
    )


def synced_cache(directory: Path) -> Cache:
    """As DiskStore opens one, but with a sync at each commit."""
    return Cache(directory, eviction_policy="none", sqlite_synchronous=2)


def stores_in(directory: Path) -> dict[str, dict[str, AsyncKeyValue]]:
    return {
        "filetree": {
            PLAIN: plain_tree(directory / "plain tree"),
            HOLDFAST: open_store("filetree", path=directory / "tree", keys=KEYS),
        },
        "disk": {
            PLAIN: DiskStore(directory=directory / "plain disk"),
            SYNCED: DiskStore(disk_cache=synced_cache(directory / "synced disk")),
            HOLDFAST: open_store("disk", path=directory / "database", keys=KEYS),
        },
    }


async def timed(operation: Callable[[str], Awaitable[Any]]) -> list[float]:
    """The milliseconds that each of A_ROUND operations takes, one after the other."""
    taken = []
    for number in range(A_ROUND):
        began = time.perf_counter()
        await operation(f"key {number}")
        taken.append(1000 * (time.perf_counter() - began))
    return taken


async def one_round(store: AsyncKeyValue) -> dict[str, list[float]]:
    return {
        "put": await timed(lambda key: store.put(key, VALUE, collection="things", ttl=3600)),
        "get": await timed(lambda key: store.get(key, collection="things")),
        "delete": await timed(lambda key: store.delete(key, collection="things")),
    }


async def operations(scale: Scale, progress: Progress) -> dict[str, Times]:
    """The milliseconds that each operation took, by backend, operation and store."""
    found: dict[str, Times] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    with tempfile.TemporaryDirectory() as directory:
        for backend, stores in stores_in(Path(directory)).items():
            for number in scale.numbers:
                progress(f"{backend}, round {number} of {scale.rounds}")
                for name, store in stores.items():
                    for operation, taken in (await one_round(store)).items():
                        # The first round pays for what is loaded once.
                        if number:
                            found[backend][operation][name] += taken
    return found


def stalls(rounds: int) -> dict[str, list[float]]:
    """The longest stall of each round, in milliseconds, by what was done; in a process of its own."""
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, str(PROGRAMS / "stalled_loop.py"), directory, str(rounds)]
        answer = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, env={**os.environ, **AS_IN_A_SERVER}
        ).stdout
    found: dict[str, list[float]] = json.loads(answer)
    return found


def measure(scale: Scale, progress: Progress) -> Result:
    found = uvloop.run(operations(scale, progress))
    progress("event loop")
    stalled = stalls(scale.rounds)
    medians = {
        backend: {name: [statistics.median(of[operation][name]) for operation in OPERATIONS] for name in of["get"]}
        for backend, of in found.items()
    }
    told = " / ".join(OPERATIONS)
    verdicts = [
        Verdict(
            f"sealed {backend}, {told}, median against {name}, unsealed", "at most", 1.3, ratios(of[HOLDFAST], times)
        )
        for backend, of in medians.items()
        for name, times in of.items()
        if name != HOLDFAST
    ]
    verdicts += [
        Verdict(f"event loop stalled by {backend}", "at most", LONGEST_STALL, [statistics.median(of)], "ms")
        for backend, of in stalled.items()
        if backend != NOTHING
    ]
    raw = {
        "operations": {backend: {name: dict(of) for name, of in times.items()} for backend, times in found.items()},
        "stalls ms": stalled,
    }
    tables = [table_of_operations(medians), table_of_stalls(stalled)]
    return Result("Store", (__doc__ or "").partition("\n\n")[2], verdicts, tables, raw)


def ratios(ours: list[float], theirs: list[float]) -> list[float]:
    return [our / their for our, their in zip(ours, theirs, strict=True)]


def table_of_operations(medians: dict[str, dict[str, list[float]]]) -> list[list[str]]:
    rows = [["backend", "store", *(f"{operation}, ms" for operation in OPERATIONS), "ratio of Holdfast's to it"]]
    for backend, of in medians.items():
        for name, times in of.items():
            against = "" if name == HOLDFAST else " / ".join(f"{ratio:.2f}" for ratio in ratios(of[HOLDFAST], times))
            rows.append([backend, name, *(f"{time:.3f}" for time in times), against])
    return rows


def table_of_stalls(stalled: dict[str, list[float]]) -> list[list[str]]:
    rows = [["while it works", "stall, median ms", "longest ms"]]
    for name, of in stalled.items():
        rows.append([name, f"{statistics.median(of):.1f}", f"{max(of):.1f}"])
    return rows
