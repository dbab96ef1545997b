"""Open the store that the settings name; always the whole AsyncKeyValue protocol of py-key-value."""

from pathlib import Path

from key_value.aio.protocols import AsyncKeyValue

from mcp_holdfast.settings import Settings
from mcp_holdfast.storage.backends import open_disk, open_filetree, open_memory
from mcp_holdfast.storage.keys import KeyRing, given_key_ring, volume_key_ring
from mcp_holdfast.storage.sealing import SealedStore

__all__ = ["check_store", "open_store", "storage_key_ring"]


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
        return SealedStore(open_disk(path / "disk"), keys)
    raise ValueError(f"unknown backend {backend!r}: choose filetree, disk or memory")


async def check_store(store: AsyncKeyValue) -> None:
    """Refuse a store that was sealed with other keys.

    Leaves no connection open: gunicorn forks its workers afterwards.

    Raises:
        ConfigurationError: the store belongs to another key.

    """
    if isinstance(store, SealedStore):
        await store.check_key()
        await store.close()


def storage_key_ring(settings: Settings) -> KeyRing:
    """The keys that seal the store, from HOLDFAST_STORAGE_KEY or else from the volume."""
    if settings.storage_key is not None:
        return given_key_ring(settings.storage_key, settings.storage_key_previous, "HOLDFAST_STORAGE_KEY")
    return volume_key_ring(settings.home / "keys" / "storage.key", "HOLDFAST_STORAGE_KEY")
