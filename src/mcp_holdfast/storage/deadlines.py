"""A store that answers in time: what hangs is left behind, and what fails is noted as an outage.

Files and SQLite are used in threads, and what runs in a thread cannot be cancelled: a request that waits for a hung
mount would wait as long as the mount hangs.
"""

import asyncio
import errno
import logging
import math
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, SupportsFloat, TypeVar

import diskcache
from key_value.aio._utils.managed_entry import ManagedEntry
from key_value.aio.errors import (
    InvalidKeyError,
    InvalidTTLError,
    KeyValueOperationError,
    KeyValueStoreError,
    PathSecurityError,
    SerializationError,
    StoreConnectionError,
    StoreSetupError,
    ValueTooLargeError,
)

from mcp_holdfast import metrics, outage, tracing
from mcp_holdfast.storage.atomic import AtomicStore, NoticesFailures
from mcp_holdfast.storage.journal import Place, place_of
from mcp_holdfast.storage.one_by_one import OneByOne

log = logging.getLogger(__name__)

Result = TypeVar("Result")
Operation = Callable[[], Coroutine[Any, Any, Result]]

DEADLINE = 8.0
"""In seconds; a request may need the store several times and must still be answered before its client gives up."""

MOST_LEFT_BEHIND = 64
"""A backend uses anyio's threads, of which there are 40, or asyncio's, at most 32: more could not even begin."""

OUTAGES: tuple[type[Exception], ...] = (
    OSError,
    sqlite3.Error,
    diskcache.Timeout,
    KeyValueStoreError,
    KeyValueOperationError,
)
MISTAKES = (
    sqlite3.ProgrammingError,
    InvalidKeyError,
    InvalidTTLError,
    PathSecurityError,
    SerializationError,
    ValueTooLargeError,
)
"""Members of the families above that no waiting would heal."""


class StoreUnavailable(Exception):
    """The store failed or did not answer in time. What was to be written may be stored all the same, now or later."""


class PromptStore(OneByOne):
    """Gives each operation of a store `deadline` seconds. Failures are noted (outage.note) and raise StoreUnavailable.

    An operation that is late, or whose caller was cancelled, is left behind and goes on alone. A record that such an
    operation may still write is not written before that has ended: otherwise old content could replace new. Where
    `most_left_behind` operations have not ended, further ones fail at once.
    """

    def __init__(
        self, store: AtomicStore, *, deadline: float = DEADLINE, most_left_behind: int = MOST_LEFT_BEHIND
    ) -> None:
        self._store = store
        self._deadline = deadline
        self._most_left_behind = most_left_behind
        self._left_behind: dict[asyncio.Task[Any], Place | None] = {}
        self._failed_at = -math.inf

    @property
    def failed_at(self) -> float:
        """When the store failed last, here or where it looks by itself whether all is well (time.monotonic)."""
        below = self._store.failed_at if isinstance(self._store, NoticesFailures) else -math.inf
        return max(self._failed_at, below)

    async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
        return await self._read("get", lambda: self._store.get(key, collection=collection))

    async def ttl(self, key: str, *, collection: str | None = None) -> tuple[dict[str, Any] | None, float | None]:
        return await self._read("ttl", lambda: self._store.ttl(key, collection=collection))

    async def put(
        self, key: str, value: Mapping[str, Any], *, collection: str | None = None, ttl: SupportsFloat | None = None
    ) -> None:
        await self._run(
            "put", lambda: self._store.put(key, value, collection=collection, ttl=ttl), place_of(key, collection)
        )

    async def delete(self, key: str, *, collection: str | None = None) -> bool:
        return await self._run(
            "delete", lambda: self._store.delete(key, collection=collection), place_of(key, collection)
        )

    async def add(
        self, key: str, value: Mapping[str, Any], *, collection: str | None = None, ttl: float | None = None
    ) -> bool:
        return await self._run(
            "add", lambda: self._store.add(key, value, collection=collection, ttl=ttl), place_of(key, collection)
        )

    async def entries(self, collection: str) -> AsyncIterator[tuple[str, ManagedEntry]]:
        """Every record of a collection; each has the deadline for itself."""
        records = self._store.entries(collection)
        while (record := await self._run("entries", partial(_next, records))) is not None:
            yield record

    async def close(self) -> None:
        """Close the store, where it is one that has to be."""
        close = getattr(self._store, "close", None)
        if close is not None:
            await close()

    async def _read(self, name: metrics.Operation, operation: Operation[Result]) -> Result:
        """Try a read that failed once more: that changes nothing, and NFS has errors that are gone at once."""
        try:
            with _measured(name):
                return await self._in_time(name, operation, None)
        except MISTAKES:
            raise
        except OUTAGES as error:
            self._failed_at = time.monotonic()
            log.info("reading once more", extra={"error": _kind(error)})
        return await self._run(name, operation)

    async def _run(self, name: metrics.Operation, operation: Operation[Result], place: Place | None = None) -> Result:
        try:
            with _measured(name):
                return await self._in_time(name, operation, place)
        except MISTAKES:
            raise
        except OUTAGES as error:
            raise self._unavailable(f"the store failed at {name}: {_kind(error)}") from error

    async def _in_time(self, name: str, operation: Operation[Result], place: Place | None) -> Result:
        late = f"the store did not answer {name} within {self._deadline:g} s"
        deadline = asyncio.get_running_loop().time() + self._deadline
        if len(self._left_behind) >= self._most_left_behind:
            raise self._unavailable(f"the store has not answered {len(self._left_behind)} operations")
        if place and not await self._earlier_writes_end(place, deadline):
            raise self._unavailable(late)
        task = asyncio.create_task(operation())
        task.add_done_callback(self._forget)
        try:
            await asyncio.wait({task}, timeout=deadline - asyncio.get_running_loop().time())
        finally:
            if not task.done():
                self._left_behind[task] = place
        if not task.done():
            raise self._unavailable(late)
        return task.result()

    def _unavailable(self, cause: str) -> StoreUnavailable:
        self._failed_at = time.monotonic()
        outage.note(cause)
        return StoreUnavailable(cause)

    async def _earlier_writes_end(self, place: Place, deadline: float) -> bool:
        earlier = {task for task, written in self._left_behind.items() if written == place}
        if not earlier:
            return True
        _, pending = await asyncio.wait(earlier, timeout=deadline - asyncio.get_running_loop().time())
        return not pending

    def _forget(self, task: asyncio.Task[Any]) -> None:
        was_left_behind = self._left_behind.pop(task, None) is not None
        error = None if task.cancelled() else task.exception()
        if was_left_behind:
            result = "none" if task.cancelled() else _kind(error) if error else "done"
            log.info("the store ended an operation that nobody waited for any more", extra={"result": result})


@contextmanager
def _measured(operation: metrics.Operation) -> Iterator[None]:
    """Count, time and trace what is done in the block."""
    began_at = time.perf_counter()
    outcome: metrics.Outcome = "failed"
    with tracing.span(f"store {operation}", attributes={"db.operation.name": operation}) as tell:
        try:
            yield
            outcome = "done"
        except StoreUnavailable:
            outcome = "late"
            raise
        except asyncio.CancelledError:
            outcome = "abandoned"
            raise
        finally:
            metrics.count_operation(operation, outcome, time.perf_counter() - began_at)
            tell("holdfast.store.outcome", outcome)


async def _next(records: AsyncIterator[Result]) -> Result | None:
    return await anext(records, None)


def _kind(error: BaseException) -> str:
    """What went wrong, without the text of the error: that may name files and keys."""
    if isinstance(error, StoreConnectionError | StoreSetupError) and error.__cause__ is not None:
        return _kind(error.__cause__)
    if isinstance(error, OSError) and error.errno is not None:
        return f"{type(error).__name__} {errno.errorcode.get(error.errno, error.errno)}"
    return type(error).__name__
