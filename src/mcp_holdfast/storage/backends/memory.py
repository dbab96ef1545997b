"""Records in the memory of one process."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

from key_value.aio._utils.managed_entry import ManagedEntry
from key_value.aio.stores.memory import MemoryStore

from mcp_holdfast.storage.backends.backend import Backend
from mcp_holdfast.storage.backends.swept import Swept


class Memory(MemoryStore, Backend):
    """Nothing is sealed, since nothing leaves the process."""

    async def add(
        self, key: str, value: Mapping[str, Any], *, collection: str | None = None, ttl: float | None = None
    ) -> bool:
        # Nothing here waits, so nothing comes between.
        if await self.get(key, collection=collection) is not None:
            return False
        await self.put(key, value, collection=collection, ttl=ttl)
        return True

    async def entries(self, collection: str) -> AsyncIterator[tuple[str, ManagedEntry]]:
        await self.setup_collection(collection=collection)
        for key in await self._get_collection_keys(collection=collection):
            if (entry := await self.read(key, collection=collection)) is not None:
                yield key, entry

    async def collection_names(self) -> list[str]:
        return list(self._cache)

    async def count(self, collection: str, *, at_most: int) -> int:
        await self.setup_collection(collection=collection)
        return len(await self._get_collection_keys(collection=collection, limit=at_most))

    async def replace(self, key: str, *, collection: str, expected: ManagedEntry, value: Mapping[str, Any]) -> bool:
        # Nothing here waits, so nothing comes between.
        if await self.read(key, collection=collection) != expected:
            return False
        await self.put(key, value, collection=collection, ttl=expected.ttl)
        return True

    async def set_aside(self, key: str, *, collection: str, entry: ManagedEntry) -> None:
        await self.delete(key, collection=collection)

    async def sweep(self, *, limit: int, quarantine: float) -> AsyncGenerator[Swept, None]:
        # By itself the cache removes nothing: it compares the time of day with the time since the machine started.
        now = time.time()
        expired = sum(len(list(collection._cache.expire(now))) for collection in self._cache.values())
        yield Swept(examined=expired, expired=expired)

    async def close(self) -> None:
        """Nothing is open."""


def open_memory() -> Memory:
    return Memory()
