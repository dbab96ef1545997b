"""What several processes do with one SQLite database; run as a program it writes to one for ever, and says what."""

import asyncio
import itertools
import sys
from pathlib import Path

from mcp_holdfast.storage.backends import SQLiteDisk, open_disk

COLLECTION = "things"
RECORDS = 300


def write_records(directory: Path, name: str) -> None:
    asyncio.run(put_many(open_disk(directory), name))


def add_records(directory: Path, name: str) -> list[str]:
    """Add the same records as all others; returns the keys of those that were added."""

    async def add() -> list[str]:
        disk = open_disk(directory)
        keys = [str(number) for number in range(RECORDS)]
        return [key for key in keys if await disk.add(key, {"of": name}, collection=COLLECTION)]

    return asyncio.run(add())


def take_records(directory: Path, name: str) -> list[str]:
    """Delete what was put under a name; returns the keys of what was there."""

    async def take() -> list[str]:
        disk = open_disk(directory)
        return [key for key in keys_of(name) if await disk.delete(key, collection=COLLECTION)]

    return asyncio.run(take())


def keys_of(name: str) -> list[str]:
    return [f"{name} {number}" for number in range(RECORDS)]


async def put_many(disk: SQLiteDisk, name: str) -> None:
    for key in keys_of(name):
        await disk.put(key, {"of": name, "fill": "x" * 1000}, collection=COLLECTION)


async def all_of(disk: SQLiteDisk) -> set[str]:
    return {key async for key, _ in disk.entries(COLLECTION)}


async def write_for_ever(directory: Path) -> None:
    disk = open_disk(directory)
    for number in itertools.count():
        await disk.put(f"key {number}", {"n": number}, collection=COLLECTION)
        print(f"key {number}", flush=True)


if __name__ == "__main__":
    asyncio.run(write_for_ever(Path(sys.argv[1])))
