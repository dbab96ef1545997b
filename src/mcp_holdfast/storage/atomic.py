"""What a store must do beyond get, put and delete so that several processes can share it; and leases built on that."""

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable
from weakref import WeakValueDictionary

from key_value.aio._utils.managed_entry import ManagedEntry
from key_value.aio.protocols import AsyncKeyValue

log = logging.getLogger(__name__)

LEASES = "holdfast_leases"
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.25
SHORTEST_WAIT = 0.001
PAUSE_WHILE_THE_STORE_FAILS = 0.2
OUTAGE_IS_RECENT_FOR, HOLDERS_GO_FIRST_FOR = 15.0, 3.0
"""In seconds. After an outage the holder of a lease that ran out meanwhile writes down first what it has: it tries
every half second, and others may have learned of the outage by what they look for every five seconds only.
"""


@runtime_checkable
class AtomicStore(AsyncKeyValue, Protocol):
    """A store with one winner among all processes that use it."""

    async def add(
        self, key: str, value: Mapping[str, Any], *, collection: str | None = None, ttl: float | None = None
    ) -> bool:
        """Store a record unless there is one that has not expired; tell whether it was stored."""
        ...

    def entries(self, collection: str) -> AsyncIterator[tuple[str, ManagedEntry]]:
        """Every record of a collection with its key, in no order, without those that have expired."""
        ...


@runtime_checkable
class NoticesFailures(Protocol):
    """A store that knows when it failed last."""

    failed_at: float
    """By time.monotonic, which is also an event loop's time."""


class LeaseBusy(Exception):
    """Somebody else held the lease for longer than we wanted to wait."""


class Leases:
    """Let one task at a time, of all workers and replicas, do something under a name.

    A holder that dies is followed by another one after `lifetime` seconds; one that lives extends its lease, so the
    clocks of the replicas may differ by about a third of it.
    """

    def __init__(self, store: AtomicStore, *, lifetime: float) -> None:
        self._store = store
        self._lifetime = lifetime
        # Within a process a lock tells at once who is next, and a holder that cannot reach the store keeps its turn.
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._interested: Counter[str] = Counter()

    async def try_to_take(self, name: str) -> "Lease | None":
        """Take the lease if it is free."""
        lease = Lease(self._store, name, self._lifetime)
        return lease if await lease.take() else None

    @asynccontextmanager
    async def hold(self, name: str, *, wait: float) -> AsyncIterator["Turn"]:
        """Wait up to `wait` seconds for the lease and hold it inside the block.

        Raises:
            LeaseBusy: it did not become free in time.

        """
        deadline = asyncio.get_running_loop().time() + wait
        turn = self._turns.setdefault(name, asyncio.Lock())
        contended = self._interested[name] > 0
        self._interested[name] += 1
        try:
            # Not wait_for: in Python 3.11 it loses a cancellation that comes as the turn does.
            async with asyncio.timeout(max(wait, SHORTEST_WAIT)):
                await turn.acquire()
        except BaseException as error:
            self._lose_interest(name)
            if isinstance(error, TimeoutError):
                raise LeaseBusy(name) from None
            raise
        try:
            lease, had_to_wait = await self._wait_for(name, deadline)
            async with lease:
                if self._an_outage_is_recent():
                    await asyncio.sleep(HOLDERS_GO_FIRST_FOR)
                yield Turn(lease, was_contended=contended or had_to_wait)
        finally:
            turn.release()
            self._lose_interest(name)

    def _an_outage_is_recent(self) -> bool:
        if not isinstance(self._store, NoticesFailures):
            return False
        return asyncio.get_running_loop().time() < self._store.failed_at + OUTAGE_IS_RECENT_FOR

    def _lose_interest(self, name: str) -> None:
        self._interested[name] -= 1
        if not self._interested[name]:
            del self._interested[name]

    async def _wait_for(self, name: str, deadline: float) -> tuple["Lease", bool]:
        pause = FIRST_PAUSE
        had_to_wait = False
        while (lease := await self.try_to_take(name)) is None:
            had_to_wait = True
            if asyncio.get_running_loop().time() > deadline:
                raise LeaseBusy(name)
            # By trying to take it, not by looking at it: an NFS client may remember for half a minute that a name
            # was not there, but never mistakes a name that it cannot make.
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        return lease, had_to_wait


@dataclass(frozen=True)
class Turn:
    """Somebody's time with a lease."""

    lease: "Lease"
    was_contended: bool
    """Whether somebody else had it when this one came."""

    @property
    def was_lost(self) -> bool:
        """Whether it ran out, so that somebody else may have it."""
        return not self.lease.is_held


class Lease:
    """A lease that was taken; extended until the block ends, then given back."""

    def __init__(self, store: AtomicStore, name: str, lifetime: float) -> None:
        self._store = store
        self._name = name
        self._lifetime = lifetime
        self._record = {"holder": secrets.token_hex(8)}
        self._extending: asyncio.Task[None] | None = None
        self._held_until = 0.0

    @property
    def is_held(self) -> bool:
        return asyncio.get_running_loop().time() < self._held_until

    async def take(self) -> bool:
        asked_at = asyncio.get_running_loop().time()
        taken = await self._store.add(self._name, self._record, collection=LEASES, ttl=self._lifetime)
        self._held_until = asked_at + self._lifetime
        return taken

    async def __aenter__(self) -> "Lease":
        self._extending = asyncio.create_task(self._extend())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._extending is not None:
            self._extending.cancel()
            await asyncio.wait([self._extending])
        # Past its time it may be somebody else's, and must not be given back in their name.
        if self.is_held:
            try:
                await self._store.delete(self._name, collection=LEASES)
            except Exception as error:  # noqa: BLE001  # it ends by itself
                log.warning("a lease could not be given back and will expire", extra={"error": repr(error)})

    async def _extend(self) -> None:
        """Extend it in time; while the store fails try on, and take it back afterwards if nobody else has."""
        pause = self._lifetime / 3
        while True:
            await asyncio.sleep(pause)
            try:
                if not await self._extend_once():
                    return
                pause = self._lifetime / 3
            except Exception as error:  # noqa: BLE001  # whatever is wrong with the store
                if pause != PAUSE_WHILE_THE_STORE_FAILS:
                    log.warning("a lease could not be extended yet", extra={"error": repr(error)})
                pause = PAUSE_WHILE_THE_STORE_FAILS

    async def _extend_once(self) -> bool:
        asked_at = asyncio.get_running_loop().time()
        if asked_at < self._held_until:
            await self._store.put(self._name, self._record, collection=LEASES, ttl=self._lifetime)
        elif not await self._store.add(self._name, self._record, collection=LEASES, ttl=self._lifetime):
            return False
        self._held_until = asked_at + self._lifetime
        return True
