"""A sweeper that never rests, for a process of its own."""

import asyncio
from pathlib import Path

from mcp_holdfast.storage.backends import open_filetree


def sweep_for_ever(directory: Path) -> None:
    """Sweep a file tree until this process is killed; `directory`/swept is there after the first time."""
    asyncio.run(_sweep(directory))


async def _sweep(directory: Path) -> None:
    tree = open_filetree(directory)
    while True:
        async for _ in tree.sweep(limit=500, quarantine=7 * 86400.0):
            pass
        (directory / "swept").touch()
