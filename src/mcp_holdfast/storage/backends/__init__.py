"""The stores that hold records, one file each."""

from pathlib import Path

from mcp_holdfast.storage.backends.backend import Backend
from mcp_holdfast.storage.backends.disk import SQLiteDisk, open_disk
from mcp_holdfast.storage.backends.filetree import FileTree, open_filetree
from mcp_holdfast.storage.backends.memory import Memory, open_memory
from mcp_holdfast.storage.backends.swept import Swept

DISK = "disk"
"""Where the `disk` backend keeps its database, below the store's directory."""

__all__ = [
    "DISK",
    "Backend",
    "FileTree",
    "Memory",
    "SQLiteDisk",
    "Swept",
    "open_backend",
    "open_disk",
    "open_filetree",
    "open_memory",
]


def open_backend(name: str, path: Path | None = None) -> Backend:
    """Open a backend as it is, without a seal: `filetree` and `disk` in the directory `path`.

    Raises:
        ValueError: the backend is unknown, or misses its path.

    """
    if name == "memory":
        return open_memory()
    if path is None:
        raise ValueError(f"the {name} backend needs a path")
    if name == "filetree":
        return open_filetree(path)
    if name == "disk":
        return open_disk(path / DISK)
    raise ValueError(f"unknown backend {name!r}: choose filetree, disk or memory")
