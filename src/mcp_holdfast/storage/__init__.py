"""Open the store that the settings name: the whole AsyncKeyValue protocol of py-key-value, and what atomic.py adds."""

from pathlib import Path

from mcp_holdfast.storage.atomic import AtomicStore
from mcp_holdfast.storage.backends import DISK, open_backend, open_memory
from mcp_holdfast.storage.keys import KeyRing
from mcp_holdfast.storage.sealing import HOLDFAST_COLLECTION, SealedStore

__all__ = ["check_store", "is_in_use", "open_store"]


def open_store(backend: str, *, path: Path | None = None, keys: KeyRing | None = None) -> AtomicStore:
    """Open a store: `filetree` and `disk` in the directory `path`, sealed with `keys`; `memory` needs neither.

    A store that was sealed with other keys opens too, and every record in it is a miss: see SealedStore.check_key.

    Raises:
        ValueError: the backend is unknown, or misses its path or keys.

    """
    if backend == "memory":
        return open_memory()
    if path is None or keys is None:
        raise ValueError(f"the {backend} backend needs a path and keys")
    return SealedStore(open_backend(backend, path), keys)


def is_in_use(path: Path) -> bool:
    """Whether a store with our key check is below this directory."""
    return (path / HOLDFAST_COLLECTION).exists() or (path / DISK).exists()


async def check_store(store: AtomicStore) -> None:
    """Refuse a store that was sealed with other keys.

    Leaves no connection open: gunicorn forks its workers afterwards.

    Raises:
        ConfigurationError: the store belongs to another key.

    """
    if isinstance(store, SealedStore):
        await store.check_key()
        await store.close()
