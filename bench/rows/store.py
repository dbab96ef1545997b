"""Single operations of Holdfast's sealed stores beside py-key-value's own, and how long a store stalls the event loop.

Those below are as patches/ has them, and seal nothing; its disk store does not sync. A ratio is the median time of
Holdfast's to theirs, below 1 where Holdfast is the faster one. The event loop is asked every millisecond whether it
still turns while 32 records at once are put, read and deleted, each file operation taking 2 ms more.
"""

import asyncio
import json
import statistics
import subprocess
import sys
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

from bench import PROGRAMS
from bench.result import Progress, Result, Scale, Verdict
from mcp_holdfast.storage import open_store
from mcp_holdfast.storage.keys import KeyRing

A_ROUND = 50
VALUE = {"client_id": "a client", "redirect_uris": ["http://localhost:1234/callback"], "about": "x" * 600}
KEYS = KeyRing(("a-key-for-this-bench-which-keeps-no-secret",), "bench")
OPERATIONS = ("put", "get", "delete")
LONGEST_STALL = 20.0
"""In milliseconds."""

Times = dict[str, dict[str, list[float]]]


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
        for backend, stores in pairs(Path(directory)).items():
            for number in range(scale.rounds + 1):
                progress(f"{backend}, round {number} of {scale.rounds}")
                for name, store in stores.items():
                    for operation, taken in (await one_round(store)).items():
                        # The first round pays for what is loaded once.
                        if number:
                            found[backend][operation][name] += taken
    return found


def stalls(rounds: int) -> list[float]:
    """The longest stall of each round, in milliseconds, in a process of its own whose files are slow."""
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, str(PROGRAMS / "stalled_loop.py"), directory, str(rounds)]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    found: list[float] = json.loads(answer)
    return found


def measure(scale: Scale, progress: Progress) -> Result:
    found = asyncio.run(operations(scale, progress))
    progress("event loop")
    stalled = stalls(scale.rounds)
    rows = [["backend", "operation", "py-key-value's, ms", "holdfast, ms", "ratio"]]
    ratios: dict[str, list[float]] = defaultdict(list)
    for backend, of in found.items():
        for operation in OPERATIONS:
            plain, holdfast = (statistics.median(of[operation][name]) for name in ("plain", "holdfast"))
            ratios[backend].append(holdfast / plain)
            rows.append([backend, operation, f"{plain:.2f}", f"{holdfast:.2f}", f"{holdfast / plain:.2f}"])
    told = " / ".join(OPERATIONS)
    verdicts = [
        Verdict(f"sealed {backend}, {told}, median against py-key-value's, unsealed", "at most", 1.3, ratios[backend])
        for backend in found
    ]
    longest = statistics.median(stalled)
    verdicts.append(Verdict("event loop stalled by the file tree", "at most", LONGEST_STALL, [longest], "ms"))
    raw = {
        "operations": {backend: {name: dict(of) for name, of in times.items()} for backend, times in found.items()},
        "stalls ms": stalled,
    }
    return Result("Store", (__doc__ or "").partition("\n\n")[2], verdicts, [rows], raw)
