"""The sweeper: one of all replicas sweeps at a time, counts what it removed, and goes on after a failure."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path

import pytest
from anyio import to_thread

from harness.expired_records import COLLECTION, put_expired
from harness.waiting import HANGS_AFTER
from mcp_holdfast.storage.atomic import Leases
from mcp_holdfast.storage.backends import Backend, FileTree, Swept, open_filetree
from mcp_holdfast.storage.keys import KeyRing
from mcp_holdfast.storage.sealing import KEY_CHECK_COPIES, SealedStore
from mcp_holdfast.storage.sweeper import Sweeper

KEYS = KeyRing(("a key of more than thirty-two characters",), "test")
WEEK = 7 * 86400.0


def sweeper_of(backend: Backend, **options: float) -> Sweeper:
    return Sweeper(SealedStore(backend, KEYS), backend, **{"interval": 60, "quarantine": WEEK, **options})


class TestATick:
    async def test_is_done_by_one_of_all_replicas(self, tmp_path: Path) -> None:
        backends = [open_filetree(tmp_path) for _ in range(5)]
        await put_expired(backends[0], "one", "two")
        results = await asyncio.gather(*(sweeper_of(backend).tick() for backend in backends))
        assert sorted(swept.expired for swept in results) == [0, 0, 0, 0, 2]
        assert await sweeper_of(backends[0]).tick() == Swept(), "not before the interval is over"

    async def test_passes_to_another_replica_when_one_has_died(self, tmp_path: Path) -> None:
        dead, alive = (sweeper_of(open_filetree(tmp_path), interval=2) for _ in range(2))
        await dead.tick()
        await put_expired(open_filetree(tmp_path), "one")
        assert await alive.tick() == Swept()
        await asyncio.sleep(1.7)
        assert (await alive.tick()).expired == 1

    async def test_does_more_where_much_has_expired(self, tree: FileTree, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("mcp_holdfast.storage.sweeper.PIECE", 20)
        await put_expired(tree, *(f"key{number}" for number in range(60)))
        assert (await sweeper_of(tree).tick()).expired == 60

    async def test_goes_on_where_the_last_one_stopped(self, tree: FileTree, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("mcp_holdfast.storage.sweeper.PIECE", 10)
        for number in range(40):
            await tree.put(f"key{number}", {"n": number}, collection=COLLECTION)
        sweeper = sweeper_of(tree, interval=0.001)
        examined: list[int] = []
        while sum(examined) < 40:
            await asyncio.sleep(0.01)
            examined.append((await sweeper.tick()).examined)
        assert set(examined) == {10}
        await sweeper.sweep_all()

    async def test_that_removed_something_is_logged_and_counted(
        self, tree: FileTree, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        await put_expired(tree, "one", "two")
        await sweeper_of(tree).tick()
        (record,) = [record for record in caplog.records if record.getMessage() == "swept the store"]
        assert record.__dict__["expired"] == 2
        await put_expired(tree, "three")
        await sweeper_of(tree).sweep_all()
        totals = await sweeper_of(tree).totals()
        assert (totals.expired, totals.temporary, totals.quarantined) == (3, 0, 0)
        assert totals.last is not None
        assert totals.since <= totals.last

    async def test_that_removed_nothing_says_and_stores_nothing(
        self, tree: FileTree, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        await tree.put("key", {"n": 1}, collection=COLLECTION)
        await sweeper_of(tree).tick()
        assert caplog.records == []
        assert {file.stem for file in (tmp_path / "holdfast").glob("*.json")} == set(KEY_CHECK_COPIES)

    async def test_counts_what_several_remove_at_the_same_time(self, tmp_path: Path) -> None:
        backends = [open_filetree(tmp_path) for _ in range(4)]
        await put_expired(backends[0], *(f"key{number}" for number in range(100)))
        await asyncio.gather(*(sweeper_of(backend).sweep_all() for backend in backends))
        assert (await sweeper_of(backends[0]).totals()).expired == 100


class Failing(FileTree):
    """Fails at its first sweeps, with what a disk or a bug may raise."""

    failures: tuple[Exception, ...] = (OSError(5, "Input/output error"), RuntimeError("a bug"))

    async def sweep(self, *, limit: int, quarantine: float) -> AsyncGenerator[Swept, None]:
        error, *self.failures = self.failures or (None,)  # type: ignore[assignment]
        if error is not None:
            raise error
        async with aclosing(super().sweep(limit=limit, quarantine=quarantine)) as pieces:
            async for swept in pieces:
                yield swept


class Hanging(FileTree):
    """Hangs in its thread, as on a dead mount."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.began, self.heal = threading.Event(), threading.Event()

    async def sweep(self, *, limit: int, quarantine: float) -> AsyncGenerator[Swept, None]:
        self.began.set()
        await to_thread.run_sync(self.heal.wait)
        yield Swept(examined=limit)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(HANGS_AFTER):
        while not condition():  # noqa: ASYNC110  # nothing tells when a file is gone
            await asyncio.sleep(0.02)


class TestTheTask:
    async def test_sweeps_until_it_is_cancelled(self, tree: FileTree, tmp_path: Path) -> None:
        async with sweeper_of(tree, interval=0.1).in_background():
            for _ in range(2):
                await put_expired(tree, "one", "two")
                await until(lambda: not list((tmp_path / COLLECTION).glob("*.json")))
        await put_expired(tree, "three")
        await asyncio.sleep(0.3)
        assert list((tmp_path / COLLECTION).glob("*.json"))

    async def test_goes_on_after_a_failure(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        tree = Failing(tmp_path)
        await put_expired(tree, "one")
        async with sweeper_of(tree, interval=0.05).in_background():
            await until(lambda: not list((tmp_path / COLLECTION).glob("*.json")))
        said = [record for record in caplog.records if record.getMessage() == "the sweeper failed and will try again"]
        assert len(said) == 2

    async def test_goes_on_after_the_store_failed(
        self, tree: FileTree, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        sweeper = sweeper_of(tree, interval=0.05)
        await sweeper.tick()
        leases = (tmp_path / "holdfast_leases").rename(tmp_path / "elsewhere")
        await put_expired(tree, "one")
        async with sweeper.in_background():
            await until(lambda: "the sweeper failed and will try again" in caplog.messages)
            leases.rename(tmp_path / "holdfast_leases")
            await until(lambda: not list((tmp_path / COLLECTION).glob("*.json")))

    async def test_ends_at_once_while_the_volume_hangs(self, tmp_path: Path) -> None:
        tree = Hanging(tmp_path)
        try:
            async with sweeper_of(tree, interval=0.05).in_background():
                await until(tree.began.is_set)
                before = time.monotonic()
            assert time.monotonic() - before < 1
        finally:
            tree.heal.set()

    async def test_does_nothing_where_the_interval_is_none(self, tree: FileTree) -> None:
        await asyncio.wait_for(sweeper_of(tree, interval=0).run(), timeout=HANGS_AFTER)

    async def test_needs_no_other_lease(self, tree: FileTree) -> None:
        await put_expired(tree, "one")
        async with Leases(SealedStore(tree, KEYS), lifetime=30).hold("session of somebody", wait=1):
            assert (await sweeper_of(tree).tick()).expired == 1
