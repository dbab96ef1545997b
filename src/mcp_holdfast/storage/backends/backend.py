"""What every backend can do beyond py-key-value's stores."""

from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

from key_value.aio._utils.managed_entry import ManagedEntry
from key_value.aio.stores.base import BaseStore

from mcp_holdfast.storage.backends.swept import Swept


class Backend(BaseStore):
    """A store that hands out whole entries, for sealing to judge them, and has one winner where several add."""

    async def read(self, key: str, *, collection: str) -> ManagedEntry | None:
        await self.setup_collection(collection=collection)
        entry = await self._get_managed_entry(key=key, collection=collection)
        return None if entry is None or entry.is_expired else entry

    async def write(self, key: str, entry: ManagedEntry, *, collection: str) -> None:
        """Store a whole entry."""
        await self.setup_collection(collection=collection)
        await self._put_managed_entry(key=key, collection=collection, managed_entry=entry)

    @abstractmethod
    async def add(self, key: str, value: Mapping[str, Any], *, collection: str, ttl: float | None = None) -> bool:
        """Store a record unless there is one that has not expired; tell whether it was stored."""

    @abstractmethod
    def entries(self, collection: str) -> AsyncIterator[tuple[str, ManagedEntry]]:
        """Every record of a collection with the key that it is stored under, in no order."""

    may_be_renewed: bool = False
    """Whether another process may `replace` records while this one writes."""

    @abstractmethod
    async def collection_names(self) -> list[str]:
        """The names of all collections."""

    @abstractmethod
    async def count(self, collection: str, *, at_most: int) -> int:
        """How many records a collection has, expired ones too; counting ends at `at_most`."""

    @abstractmethod
    async def replace(self, key: str, *, collection: str, expected: ManagedEntry, value: Mapping[str, Any]) -> bool:
        """Give a record another value, and leave its expiry, unless it has changed; tell whether that was done."""

    @abstractmethod
    async def set_aside(self, key: str, *, collection: str, entry: ManagedEntry) -> None:
        """Put a record out of the way, keeping it for inspection, unless another one took its place."""

    async def sweep(self, *, limit: int, quarantine: float) -> AsyncGenerator[Swept, None]:
        """Remove what nobody needs: expired records, left-over temporary files, and what is in quarantine for long.

        Examines everything once, at most about `limit` records or files before each answer, and begins the next ones
        when the next answer is asked for. `quarantine` is in seconds. Several processes may sweep at once. Stores that
        let records expire by themselves have nothing to answer.
        """
        nothing: tuple[Swept, ...] = ()
        for swept in nothing:
            yield swept

    @abstractmethod
    async def close(self) -> None:
        """Give back what is open; the next operation opens it again."""
