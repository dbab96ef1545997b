"""A large file tree beside one of a thousand records, and one in between: whether a record costs more among many.

All are registrations of clients in one collection, so files in one directory, sealed as Holdfast seals them. Stock
py-key-value's FileTreeStore works on the very same files. Each operation is timed in all trees in turn, in a new
process each round, and so is the start of the whole server; then comes one sweep of each tree. A ratio is the larger
tree's median to the smallest one's.

Two servers on the large tree, one of which sweeps four times as often as by default, are called 16 at once in turn,
for a moment each, since the machine's own speed changes from one second to the next; who is not called is stopped. The
ratio is the median of those of their 99th percentiles.

It needs about 5 kB and one inode a record in the directory for temporary files (TMPDIR).
"""

import asyncio
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from key_value.aio._utils.managed_entry import ManagedEntry
from key_value.aio._utils.serialization import BasicSerializationAdapter

from bench import PROGRAMS
from bench.result import Progress, Result, Scale, Verdict
from bench.servers import OURS, Started, load
from harness.oauth import OAuthClient
from harness.server import Server, ServerProcess
from harness.stock import stock_python
from mcp_holdfast.storage import open_store
from mcp_holdfast.storage.keys import KeyRing
from mcp_holdfast.storage.seal import LookupNames, Seal

SECRET = "a-key-for-this-bench-which-keeps-no-secret"
KEYS = KeyRing((SECRET,), "bench")
SERVER_KEYS = {"HOLDFAST_STORAGE_KEY": SECRET, "HOLDFAST_SIGNING_KEY": SECRET}
COLLECTION = "holdfast_clients"

FEW = 1000
A_ROUND = 60
BYTES_A_RECORD = 5000
CHUNK = 10_000
PROGRAM = PROGRAMS / "trees.py"
MOST_FOR_STOCK_TO_CULL = 5_000
"""Its sweep takes 2 ms of CPU a file."""

STARTS = 3

OPERATIONS = ("get", "put", "add")
SWEPT, NOT_SWEPT = "swept", "not swept"
CALLS_AT_ONCE = 16
SWEEP_INTERVAL = "15s"
PAIRS_A_ROUND = 4
LONGER = 2
"""Times as long as other loads: a 99th percentile is told by one call of a hundred."""


Value = dict[str, Any]


@dataclass
class Tree:
    """A store of so many records, in `home` as a server expects it; what was measured, in seconds and bytes."""

    home: Path
    records: int
    measured: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    @property
    def directory(self) -> Path:
        return self.home / "oauth-proxy"

    def server(self, name: str = "server", **environment: str) -> Server:
        return Server(self.home, self.home.with_name(f"{self.home.name}-{name}.log"), **{**SERVER_KEYS, **environment})


def a_registration(directory: Path) -> Value:
    """What a server stores of a client."""
    server = Tree(directory, 1).server().start()
    try:
        with httpx.Client(base_url=server.url) as http:
            OAuthClient(http).register().raise_for_status()
    finally:
        server.stop()

    async def stored() -> Value:
        store = open_store("filetree", path=directory / "oauth-proxy", keys=KEYS)
        return await anext(entry.value_as_dict async for _, entry in store.entries(COLLECTION))

    return asyncio.run(stored())


def client_id(number: int) -> str:
    return f"client-{number:012}"


def write_records(directory: Path, value: Value, numbers: range) -> None:
    """Write records as the store does, but without waiting for the disk."""
    seal, adapter, now = Seal(KEYS), BasicSerializationAdapter(), datetime.now(tz=UTC)
    names = names_of_files()
    for number in numbers:
        key = client_id(number)
        entry = ManagedEntry(value={**value, "client_id": key}, created_at=now)
        sealed = ManagedEntry(value=seal.close(COLLECTION, key, entry), created_at=now)
        (directory / f"{names.name_of(COLLECTION, key)}.json").write_text(adapter.dump_json(entry=sealed))


def names_of_files() -> LookupNames:
    """As a store has them that began with these keys."""
    return LookupNames(KEYS.derive("storage lookup")[-1])


def grow(tree: Tree, value: Value) -> None:
    """Make the records of a tree, on every processor."""
    collection = tree.directory / COLLECTION
    collection.mkdir(parents=True)
    chunks = [range(first, min(first + CHUNK, tree.records)) for first in range(0, tree.records, CHUNK)]
    with ProcessPoolExecutor() as processes:
        list(processes.map(partial(write_records, collection, value), chunks))
    os.sync()


def run(target: str, trees: Sequence[Tree], task: str) -> None:
    """Let a new process do a task on trees, and note what it took."""
    names = names_of_files()

    def name_of(number: int) -> str:
        key = client_id(number)
        return names.name_of(COLLECTION, key) if target == "stock" else key

    def given(tree: Tree) -> dict[str, Any]:
        # Each of the two writes down its own way where the collection is.
        for info in tree.directory.glob("*-info.json"):
            info.unlink()
        present, new = random.sample(range(tree.records), A_ROUND), range(tree.records, tree.records + A_ROUND)
        keys = {"present": [*map(name_of, present)], "new": [*map(name_of, new)]}
        return {"directory": str(tree.directory), "records": tree.records, **keys}

    python = str(stock_python()) if target == "stock" else sys.executable
    told = json.dumps({"secret": SECRET, "collection": COLLECTION, "trees": [given(tree) for tree in trees]})
    command = [python, str(PROGRAM), target, task]
    answer = subprocess.run(command, input=told, stdout=subprocess.PIPE, text=True, check=True).stdout
    for tree, found in zip(trees, json.loads(answer), strict=True):
        for what, values in found.items():
            tree.measured[f"{target} {what}"] += values


def time_start(tree: Tree) -> None:
    began = time.perf_counter()
    server = tree.server().start()
    tree.measured["holdfast start of the server"].append(time.perf_counter() - began)
    server.stop()


def calls_while_swept(tree: Tree, scale: Scale, progress: Progress) -> dict[str, list[dict[str, Any]]]:
    """What calls take at two servers on a tree, by whether the server sweeps."""
    pairs, seconds = PAIRS_A_ROUND * scale.rounds, LONGER * scale.seconds
    found: dict[str, list[dict[str, Any]]] = {SWEPT: [], NOT_SWEPT: []}
    with ExitStack() as stack:
        servers = {}
        for name, interval in ((SWEPT, SWEEP_INTERVAL), (NOT_SWEPT, "0")):
            server = tree.server(name, **{**OURS, **SERVER_KEYS, "HOLDFAST_SWEEP_INTERVAL": interval})
            stack.callback(server.stop)
            server.start()
            servers[name] = Started(server, token_of(server))
            load(servers[name], at_once=CALLS_AT_ONCE, seconds=seconds)
            os.killpg(server.process_id, signal.SIGSTOP)
        for number in range(pairs):
            if not number % PAIRS_A_ROUND:
                progress(f"calls, {number} of {pairs} pairs")
            for name in sorted(servers, reverse=bool(number % 2)):
                with resumed(servers[name].server):
                    found[name].append(load(servers[name], at_once=CALLS_AT_ONCE, seconds=seconds))
    return found


@contextmanager
def resumed(server: ServerProcess) -> Iterator[None]:
    """Let a server that is stopped go on; what it would sweep outside would be the other one's loss."""
    os.killpg(server.process_id, signal.SIGCONT)
    try:
        yield
    finally:
        os.killpg(server.process_id, signal.SIGSTOP)


def token_of(server: Server) -> str:
    with httpx.Client(base_url=server.url, timeout=30) as http:
        return str(OAuthClient(http).sign_in().tokens["access_token"])


def measure(scale: Scale, progress: Progress) -> Result:
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        sizes = sorted({FEW, max(FEW, scale.records // 10), scale.records})
        check_there_is_room(directory, sum(sizes))
        value = a_registration(directory / "one")
        trees = [Tree(directory / str(size), size) for size in sizes]
        for tree in trees:
            grow(tree, value)
            progress(f"made {tree.records:,} records")
        for number in scale.numbers:
            progress(f"round {number} of {scale.rounds}")
            for target in ("holdfast", "stock"):
                run(target, trees, "operations")
            for tree in trees:
                if number <= STARTS:
                    time_start(tree)
                if not number:
                    # The first round pays for what is loaded once.
                    tree.measured.clear()
        for tree in trees:
            progress(f"sweep of {tree.records:,} records")
            sweepers = ["holdfast", "stock"] if tree.records <= MOST_FOR_STOCK_TO_CULL else ["holdfast"]
            for target in sweepers:
                run(target, [tree], "sweep")
                tree.measured[f"{target} sweep, CPU a record"] = [
                    tree.measured[f"{target} sweep, CPU"][0] / tree.records
                ]
        return result(trees, calls_while_swept(trees[-1], scale, progress))


def result(trees: list[Tree], calls: dict[str, list[dict[str, Any]]]) -> Result:
    few, many = trees[0], trees[-1]
    tails = {name: [found["99th percentile ms"] for found in of] for name, of in calls.items()}
    slower = statistics.median(a / b for a, b in zip(tails[SWEPT], tails[NOT_SWEPT], strict=True))
    memory = many.measured["holdfast sweep, memory"][0] / few.measured["holdfast sweep, memory"][0]
    ratios = [
        statistics.median(many.measured[f"holdfast {name}"]) / statistics.median(few.measured[f"holdfast {name}"])
        for name in OPERATIONS
    ]
    told = f"{many.records:,} records against {few.records:,}: get, put, claim"
    verdicts = [
        Verdict(told, "at most", 1.2, ratios),
        Verdict(
            f"sweep of {many.records:,} records, CPU time a record",
            "at most",
            0.2,
            [1000 * many.measured["holdfast sweep, CPU a record"][0]],
            "ms",
        ),
        Verdict(f"its memory against that of a sweep of {few.records:,}", "at most", 1.2, [memory]),
        Verdict("99th percentile of calls while it sweeps, against a server that does not", "at most", 1.05, [slower]),
    ]
    raw = {**{str(tree.records): dict(tree.measured) for tree in trees}, "calls": calls}
    tables = [table(trees), table_of_calls(calls)]
    return Result("Growth with records", (__doc__ or "").partition("\n\n")[2], verdicts, tables, raw)


def table_of_calls(calls: dict[str, list[dict[str, Any]]]) -> list[list[str]]:
    columns = ("calls a second", "CPU ms a call", "median ms", "99th percentile ms")
    rows = [["server", *columns]]
    for name, of in calls.items():
        rows.append([name, *(f"{statistics.median(found[column] for found in of):.3g}" for column in columns)])
    return rows


def table(trees: list[Tree]) -> list[list[str]]:
    heads = [f"{tree.records:,}" for tree in trees] + [f"ratio {tree.records:,}" for tree in trees[1:]]
    rows = [["", *heads]]
    for what in dict.fromkeys(name for tree in trees for name in tree.measured):
        unit, scale = ("MB", 1e-6) if what.endswith("memory") else ("ms", 1e3)
        medians = [statistics.median(tree.measured[what]) if what in tree.measured else None for tree in trees]
        cells = ["" if median is None else f"{scale * median:,.3g}" for median in medians]
        cells += [f"{median / medians[0]:.2f}" if medians[0] and median is not None else "" for median in medians[1:]]
        rows.append([f"{what}, {unit}", *cells])
    return rows


def check_there_is_room(directory: Path, records: int) -> None:
    """End the program where the records do not fit."""
    inodes = os.statvfs(directory).f_favail
    room = shutil.disk_usage(directory).free
    if inodes < 1.1 * records or room < 1.5 * BYTES_A_RECORD * records:
        sys.exit(f"error: {directory} has {inodes:,} inodes and {room:,} bytes left; set TMPDIR or --records")
