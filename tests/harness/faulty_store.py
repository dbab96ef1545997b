"""A store in memory that fails or hangs when it is told to, in the process of the test."""

import asyncio
import threading

from key_value.aio._utils.managed_entry import ManagedEntry

from mcp_holdfast.storage.backends import Memory


class FaultyStore(Memory):
    """Each operation takes one of `errors`, None to go well; it hangs in a thread, as files do, until `open` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[Exception | None] = []
        self.open = threading.Event()
        self.open.set()
        self.operations = 0

    async def _suffer(self) -> None:
        self.operations += 1
        if not self.open.is_set():
            await asyncio.to_thread(self.open.wait)
        if self.errors and (error := self.errors.pop(0)) is not None:
            raise error

    async def _get_managed_entry(self, *, key: str, collection: str) -> ManagedEntry | None:
        await self._suffer()
        return await super()._get_managed_entry(key=key, collection=collection)

    async def _put_managed_entry(self, *, key: str, collection: str, managed_entry: ManagedEntry) -> None:
        await self._suffer()
        await super()._put_managed_entry(key=key, collection=collection, managed_entry=managed_entry)

    async def _delete_managed_entry(self, *, key: str, collection: str) -> bool:
        await self._suffer()
        return await super()._delete_managed_entry(key=key, collection=collection)
