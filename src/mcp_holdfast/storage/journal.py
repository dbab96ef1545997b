"""What one request wrote and wants to delete, so that its deletions can wait until its answer is safe."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, SupportsFloat, TypeVar

from key_value.aio.errors import SerializationError
from key_value.aio.protocols import AsyncKeyValue

from mcp_holdfast.storage.atomic import AtomicStore
from mcp_holdfast.storage.one_by_one import OneByOne

log = logging.getLogger(__name__)

Result = TypeVar("Result")
Place = tuple[str, str]
"""Where a record is: its collection and its key."""

BeforeReading = Callable[[Place], Awaitable[None]]

DEFAULT_COLLECTION = "default_collection"
SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 0.5


class Journal:
    """Of one request: `writes` maps what it stored to when that expires (seconds since the epoch, None for never)."""

    def __init__(
        self, *, hold_deletes: bool, default_ttl: float | None = None, before_reading: "BeforeReading | None" = None
    ) -> None:
        self.hold_deletes = hold_deletes
        self.default_ttl = default_ttl
        self.before_reading = before_reading
        self.writes: dict[Place, float | None] = {}
        self.deletes: set[Place] = set()
        self.must_persist_until = 0.0
        """Until when (time.monotonic) a write is tried again: what is written cannot be had a second time."""

    def hides(self, place: Place) -> bool:
        return place in self.deletes


_journal: ContextVar[Journal | None] = ContextVar("journal", default=None)


@contextmanager
def keeping_journal(
    *, hold_deletes: bool, default_ttl: float | None = None, before_reading: BeforeReading | None = None
) -> Iterator[Journal]:
    """Keep a journal of what this task, and those that it starts, do with a JournaledStore.

    `hold_deletes` lets deletions wait for `apply_deletes`; `default_ttl` bounds the life, in seconds, of what would
    be stored for ever; `before_reading` is awaited before a record is read, for instance until nobody changes it.
    """
    journal = Journal(hold_deletes=hold_deletes, default_ttl=default_ttl, before_reading=before_reading)
    token = _journal.set(journal)
    try:
        yield journal
    finally:
        _journal.reset(token)


def persist_for(seconds: float) -> None:
    """From now on the request's writes are repeated while the store fails: they hold what exists nowhere else."""
    if (journal := _journal.get()) is not None:
        journal.must_persist_until = time.monotonic() + seconds


async def apply_deletes(store: AsyncKeyValue, places: Sequence[Place]) -> None:
    """Delete what a journal held back."""
    await asyncio.gather(*(store.delete(key, collection=collection) for collection, key in places))


class JournaledStore(OneByOne):
    """The store that a provider is given. Without a journal it does what the store below it does."""

    def __init__(self, store: AtomicStore) -> None:
        self._store = store

    async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
        journal = _journal.get()
        if journal is not None:
            place = place_of(key, collection)
            if journal.hides(place):
                return None
            if journal.before_reading is not None:
                await journal.before_reading(place)
        return await self._store.get(key, collection=collection)

    async def ttl(self, key: str, *, collection: str | None = None) -> tuple[dict[str, Any] | None, float | None]:
        return (None, None) if self._is_hidden(key, collection) else await self._store.ttl(key, collection=collection)

    async def put(
        self, key: str, value: Mapping[str, Any], *, collection: str | None = None, ttl: SupportsFloat | None = None
    ) -> None:
        journal = _journal.get()
        if journal is None:
            await self._store.put(key, value, collection=collection, ttl=ttl)
            return
        ttl = journal.default_ttl if ttl is None else ttl
        await persist(journal, lambda: self._store.put(key, value, collection=collection, ttl=ttl))
        place = place_of(key, collection)
        journal.writes[place] = None if ttl is None else time.time() + float(ttl)
        journal.deletes.discard(place)

    async def delete(self, key: str, *, collection: str | None = None) -> bool:
        journal = _journal.get()
        place = place_of(key, collection)
        if journal is None or not journal.hold_deletes:
            return await self._store.delete(key, collection=collection)
        if journal.hides(place):
            return False
        journal.deletes.add(place)
        journal.writes.pop(place, None)
        return True

    async def close(self) -> None:
        """Close the store, where it is one that has to be."""
        close = getattr(self._store, "close", None)
        if close is not None:
            await close()

    def _is_hidden(self, key: str, collection: str | None) -> bool:
        journal = _journal.get()
        return journal is not None and journal.hides(place_of(key, collection))


def place_of(key: str, collection: str | None) -> Place:
    """Where a record of that key is."""
    return collection or DEFAULT_COLLECTION, key


async def persist(journal: Journal, write: Callable[[], Awaitable[Result]]) -> Result:
    """Write; again and again while the store fails, if what is written exists nowhere else (`persist_for`)."""
    pause = SHORTEST_PAUSE
    while True:
        try:
            return await write()
        except (TypeError, ValueError, SerializationError):
            # A mistake, which no waiting heals.
            raise
        except Exception as error:
            if time.monotonic() > journal.must_persist_until:
                raise
            if pause == SHORTEST_PAUSE:
                log.warning("what the identity provider issued is not stored yet", extra={"error": repr(error)})
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
