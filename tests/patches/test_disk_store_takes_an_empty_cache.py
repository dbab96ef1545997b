"""DiskStore works on a cache that is still empty."""

from pathlib import Path

from diskcache import Cache
from key_value.aio.stores.disk import DiskStore


async def test_an_empty_cache_is_used(tmp_path: Path) -> None:
    with Cache(tmp_path) as cache:
        store = DiskStore(disk_cache=cache)
        await store.put("key", {"a": 1}, collection="one")
        assert await store.get("key", collection="one") == {"a": 1}
        assert len(cache) == 1
