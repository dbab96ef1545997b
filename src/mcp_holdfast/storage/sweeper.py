"""Remove from the store what nobody needs any more, a little at a time, while the server runs."""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict

from key_value.aio.adapters.pydantic import PydanticAdapter
from pydantic import BaseModel

from mcp_holdfast import metrics
from mcp_holdfast.storage.atomic import AtomicStore, Leases
from mcp_holdfast.storage.backends import Backend, Swept
from mcp_holdfast.storage.sealing import HOLDFAST_COLLECTION

log = logging.getLogger(__name__)

PIECE = 500
"""How many records or files are examined before others get a chance."""

MOST_PIECES = 10
"""How many pieces make a tick, at most; only where much has to be removed are there more than one."""

PAUSE_BETWEEN_PIECES = 0.5
JITTER = 0.1

TURN = "sweeper"
LEASE_OF_INTERVAL = 1 - 2 * JITTER
"""The life of a turn, so that who had the last one finds it over when its next tick comes, jitter and all."""

TOTALS, TOTALS_LEASE, LONGEST_WAIT = "swept", 10.0, 10.0


class Totals(BaseModel):
    """What was removed since when, by all processes. Times are in seconds since the epoch."""

    expired: int = 0
    temporary: int = 0
    quarantined: int = 0
    since: float
    last: float | None = None

    def and_also(self, swept: Swept) -> "Totals":
        return Totals(
            expired=self.expired + swept.expired,
            temporary=self.temporary + swept.temporary,
            quarantined=self.quarantined + swept.quarantined,
            since=self.since,
            last=time.time(),
        )


class Sweeper:
    """Sweeps a store in the background, in one process of all at a time, and keeps the totals in the store.

    Whose turn it is, is decided anew at each tick: a turn is a lease that nobody extends or gives back, and lasts
    until about the next tick. So a process that dies needs no successor, and whoever has a turn goes on where that
    process itself stopped. Turns only spare work: several processes that sweep at once do no harm.
    """

    def __init__(self, store: AtomicStore, backend: Backend, *, interval: float, quarantine: float) -> None:
        """`backend` is what `store` keeps its records in: expiry is seen below the seal.

        A tick comes every `interval` seconds, 0 for never; what is in quarantine stays for `quarantine` seconds.
        """
        self._backend = backend
        self._interval = interval
        self._quarantine = quarantine
        self._turns = Leases(store, lifetime=interval * LEASE_OF_INTERVAL)
        self._leases = Leases(store, lifetime=TOTALS_LEASE)
        self._totals = PydanticAdapter[Totals](
            store, Totals, default_collection=HOLDFAST_COLLECTION, raise_on_validation_error=False
        )
        self._pieces: AsyncGenerator[Swept, None] | None = None

    @asynccontextmanager
    async def in_background(self) -> AsyncIterator[None]:
        """Run inside the block."""
        task = asyncio.create_task(self.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def run(self) -> None:
        """Sweep until cancelled. What fails is logged, and the next tick goes on."""
        if self._interval <= 0:
            return
        # The first tick at any time of the first interval: replicas that start together must not all come together.
        pause = self._interval * _random_between(0, 1)
        try:
            while True:
                await asyncio.sleep(pause)
                pause = self._interval * _random_between(1 - JITTER, 1 + JITTER)
                try:
                    await self.tick()
                except Exception as error:  # noqa: BLE001  # whatever the store does
                    log.warning("the sweeper failed and will try again", extra={"error": repr(error)})
        finally:
            if self._pieces is not None:
                await self._pieces.aclose()

    async def tick(self) -> Swept:
        """Sweep a little, unless this turn is another process's; goes on where the last tick of this one stopped."""
        if await self._turns.try_to_take(TURN) is None:
            return Swept()
        swept = piece = await self._next_piece()
        for _ in range(MOST_PIECES - 1):
            if piece.removed < PIECE / 2:
                break
            await asyncio.sleep(PAUSE_BETWEEN_PIECES)
            piece = await self._next_piece()
            swept += piece
        await self._account_for(swept)
        return swept

    async def sweep_all(self) -> Swept:
        """Examine everything once, now, whoever else may be sweeping."""
        swept = Swept()
        async for piece in self._backend.sweep(limit=PIECE, quarantine=self._quarantine):
            swept += piece
        await self._account_for(swept)
        return swept

    async def totals(self) -> Totals:
        return await self._totals.get(TOTALS) or Totals(since=time.time())

    async def _next_piece(self) -> Swept:
        for _ in range(2):
            if self._pieces is None:
                self._pieces = self._backend.sweep(limit=PIECE, quarantine=self._quarantine)
            if (piece := await anext(self._pieces, None)) is not None:
                return piece
            self._pieces = None
        return Swept()

    async def _account_for(self, swept: Swept) -> None:
        metrics.count_sweep(**asdict(swept))
        if not swept.removed:
            return
        log.info("swept the store", extra=asdict(swept))
        async with self._leases.hold(f"{TURN} {TOTALS}", wait=LONGEST_WAIT):
            totals = await self.totals()
            await self._totals.put(TOTALS, totals.and_also(swept))


def _random_between(low: float, high: float) -> float:
    return secrets.SystemRandom().uniform(low, high)
