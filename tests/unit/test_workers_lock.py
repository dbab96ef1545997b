"""The lock between worker processes: one holder at a time, and none after its holder died."""

import asyncio
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

from harness.waiting import HANGS_AFTER
from mcp_holdfast.auth.local.workers import WorkersLock

WORKERS = 4
TURNS = 25

forking = multiprocessing.get_context("fork")


def run_workers(work: Callable[[], None], number: int = WORKERS) -> None:
    """Fork as gunicorn does, after the lock was made."""
    workers = [forking.Process(target=work) for _ in range(number)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
        assert not worker.is_alive()


def test_workers_take_turns(tmp_path: Path) -> None:
    lock, count = WorkersLock(), tmp_path / "count"
    count.write_text("0")

    async def count_up() -> None:
        for _ in range(TURNS):
            async with lock:
                seen = int(count.read_text())
                await asyncio.sleep(0)
                count.write_text(str(seen + 1))

    async def two_at_once() -> None:
        await asyncio.gather(count_up(), count_up())

    run_workers(lambda: asyncio.run(two_at_once()))
    assert int(count.read_text()) == 2 * WORKERS * TURNS


def test_a_worker_that_dies_lets_go() -> None:
    lock = WorkersLock()

    async def die_holding_it() -> None:
        await lock.__aenter__()
        os._exit(9)

    async def take_it() -> None:
        async with asyncio.timeout(HANGS_AFTER), lock:
            pass

    run_workers(lambda: asyncio.run(die_holding_it()), 1)
    asyncio.run(take_it())


async def test_who_is_cancelled_while_waiting_does_not_keep_it() -> None:
    lock = WorkersLock()
    inherited = WorkersLock.__new__(WorkersLock)
    inherited.__dict__ = {**lock.__dict__, "_descriptor": None, "_within_this_process": asyncio.Lock()}
    async with inherited:
        waiting = asyncio.create_task(lock.__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    async with asyncio.timeout(HANGS_AFTER), lock:
        pass
