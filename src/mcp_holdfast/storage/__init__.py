"""Open the store that the settings name; always the whole AsyncKeyValue protocol of py-key-value."""

from pathlib import Path

from key_value.aio.protocols import AsyncKeyValue

from mcp_holdfast.storage.backends import open_disk, open_filetree, open_memory
from mcp_holdfast.storage.keys import KeyRing
from mcp_holdfast.storage.sealing import HOLDFAST_COLLECTION, SealedStore

DISK = "disk"

__all__ = ["check_store", "is_in_use", "open_store"]


def open_store(backend: str, *, path: Path | None = None, keys: KeyRing | None = None) -> AsyncKeyValue:
    """Open a store: `filetree` and `disk` in the directory `path`, sealed with `keys`; `memory` needs neither.

    A store that was sealed with other keys opens too, and every record in it is a miss: see SealedStore.check_key.

    Raises:
        ValueError: the backend is unknown, or misses its path or keys.

    """
    if backend == "memory":
        return open_memory()
    if path is None or keys is None:
        raise ValueError(f"the {backend} backend needs a path and keys")
    if backend == "filetree":
        return SealedStore(open_filetree(path), keys)
    if backend == "disk":
        return SealedStore(open_disk(path / DISK), keys)
    raise ValueError(f"unknown backend {backend!r}: choose filetree, disk or memory")


def is_in_use(path: Path) -> bool:
    """Whether a store with our key check is below this directory."""
    return (path / HOLDFAST_COLLECTION).exists() or (path / DISK).exists()


async def check_store(store: AsyncKeyValue) -> None:
    """Refuse a store that was sealed with other keys.

    Leaves no connection open: gunicorn forks its workers afterwards.

    Raises:
        ConfigurationError: the store belongs to another key.

    """
    if isinstance(store, SealedStore):
        await store.check_key()
        await store.close()
