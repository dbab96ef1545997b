"""The forms of AsyncKeyValue (py-key-value) for many records, for a store that does something about each of them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, SupportsFloat


class OneByOne(ABC):
    """Does what is asked for many records with one after the other."""

    @abstractmethod
    async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
        """The record, None if there is none."""

    @abstractmethod
    async def ttl(self, key: str, *, collection: str | None = None) -> tuple[dict[str, Any] | None, float | None]:
        """The record and how many seconds it still lives."""

    @abstractmethod
    async def put(
        self, key: str, value: Mapping[str, Any], *, collection: str | None = None, ttl: SupportsFloat | None = None
    ) -> None:
        """Store a record, for `ttl` seconds if that is given."""

    @abstractmethod
    async def delete(self, key: str, *, collection: str | None = None) -> bool:
        """Delete a record; tell whether there was one."""

    async def get_many(self, keys: Sequence[str], *, collection: str | None = None) -> list[dict[str, Any] | None]:
        return [await self.get(key, collection=collection) for key in keys]

    async def ttl_many(
        self, keys: Sequence[str], *, collection: str | None = None
    ) -> list[tuple[dict[str, Any] | None, float | None]]:
        return [await self.ttl(key, collection=collection) for key in keys]

    async def put_many(
        self,
        keys: Sequence[str],
        values: Sequence[Mapping[str, Any]],
        *,
        collection: str | None = None,
        ttl: SupportsFloat | None = None,
    ) -> None:
        for key, value in zip(keys, values, strict=True):
            await self.put(key, value, collection=collection, ttl=ttl)

    async def delete_many(self, keys: Sequence[str], *, collection: str | None = None) -> int:
        return sum([await self.delete(key, collection=collection) for key in keys])
