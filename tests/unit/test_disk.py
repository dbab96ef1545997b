"""The SQLite database below the disk backend: shared by processes, searched by indexes, and replaced where damaged."""

import asyncio
import fcntl
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from harness import disk_processes
from harness.disk_processes import (
    COLLECTION,
    RECORDS,
    add_records,
    all_of,
    keys_of,
    put_many,
    take_records,
    write_records,
)
from harness.waiting import HANGS_AFTER
from mcp_holdfast.storage.backends import SQLiteDisk, database, open_disk
from mcp_holdfast.storage.backends.database import Database, open_database
from mcp_holdfast.storage.deadlines import OUTAGES

NAMES = ["one", "two", "three", "four"]
PAGE = 4096

Step = Callable[[SQLiteDisk], Any]
Meanwhile = Callable[[Callable[[], Any]], Future[Any]]


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[SQLiteDisk]:
    opened = open_disk(tmp_path / "disk")
    yield opened
    await opened.close()


class TestSeveralProcesses:
    """As the workers of one server."""

    async def test_that_write_at_once_lose_nothing(self, tmp_path: Path) -> None:
        in_processes(write_records, tmp_path, NAMES)
        assert await all_of(open_disk(tmp_path)) == {key for name in NAMES for key in keys_of(name)}

    async def test_that_add_at_once_have_one_winner(self, tmp_path: Path) -> None:
        won = dict(zip(NAMES, in_processes(add_records, tmp_path, NAMES), strict=True))
        disk = open_disk(tmp_path)
        for key in map(str, range(RECORDS)):
            (winner,) = (name for name in NAMES if key in won[name])
            assert await disk.get(key, collection=COLLECTION) == {"of": winner}

    async def test_that_take_at_once_have_one_winner(self, tmp_path: Path) -> None:
        disk = open_disk(tmp_path)
        await put_many(disk, "code")
        taken = in_processes(take_records, tmp_path, ["code"] * len(NAMES))
        assert sorted(key for keys in taken for key in keys) == sorted(keys_of("code"))
        assert await all_of(disk) == set()

    async def test_one_of_which_is_killed_lose_nothing_that_was_stored(self, tmp_path: Path) -> None:
        command = [sys.executable, disk_processes.__file__, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: ASYNC220
            assert process.stdout is not None
            stored = [process.stdout.readline().strip() for _ in range(RECORDS)]
            process.kill()
        assert await all_of(open_disk(tmp_path)) >= set(stored)


def in_processes(work: Callable[[Path, str], Any], directory: Path, names: list[str]) -> list[Any]:
    with ProcessPoolExecutor(len(names), multiprocessing.get_context("spawn")) as processes:
        return list(processes.map(partial(work, directory), names))


class TestTheDatabase:
    async def test_loses_its_expired_rows_when_others_are_written(self, disk: SQLiteDisk) -> None:
        for number in range(5):
            await disk.put(f"code {number}", {"n": number}, collection=COLLECTION, ttl=0.01)
        await asyncio.sleep(0.02)
        await disk.put("another", {"n": 1}, collection=COLLECTION)
        assert [row for (row,) in disk._database._sql("SELECT key FROM Cache")] == [f"{COLLECTION}::another"]

    async def test_is_written_ahead_and_synced_at_each_commit(self, disk: SQLiteDisk) -> None:
        pragmas = {
            name: disk._database._sql(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")
        }
        assert pragmas == {"journal_mode": "wal", "synchronous": 2}

    @pytest.mark.parametrize("change", ["put", "add", "delete"])
    async def test_that_another_process_locks_is_an_outage_and_not_waited_for_without_end(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
    ) -> None:
        monkeypatch.setattr(database, "TIMEOUT", 0.1)
        disk = open_disk(tmp_path)
        changes: dict[str, Callable[[], Awaitable[object]]] = {
            "put": lambda: disk.put("key", {"n": 1}, collection=COLLECTION),
            "add": lambda: disk.add("key", {"n": 1}, collection=COLLECTION),
            "delete": lambda: disk.delete("key", collection=COLLECTION),
        }
        with sqlite3.connect(tmp_path / "cache.db", isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(OUTAGES):
                await changes[change]()
        other.close()

    async def test_that_threads_of_one_process_write_at_once_is_never_found_locked(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """SQLite would have them sleep, each time for longer; here it has no time to."""
        with monkeypatch.context() as at_once:
            at_once.setattr(database, "TIMEOUT", 0)
            disk = open_disk(tmp_path)
        keys = [f"key {number}" for number in range(100)]
        await asyncio.gather(*(disk.put(key, {"n": 1}, collection=COLLECTION) for key in keys))
        assert await all_of(disk) == set(keys)
        await disk.close()

    async def test_is_searched_by_indexes_alone(self, disk: SQLiteDisk) -> None:
        await put_many(disk, "record")
        statements = await statements_of(disk, use_everything)
        assert len(statements) > 10
        with sqlite3.connect(disk._database.directory + "/cache.db") as connection:
            for statement in statements:
                plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
                assert not [step for step in plan if step.startswith("SCAN Cache")], statement
        connection.close()


async def use_everything(disk: SQLiteDisk) -> None:
    entry = await disk.read("record 0", collection=COLLECTION)
    assert entry is not None
    await disk.put("key", {"n": 1}, collection=COLLECTION, ttl=100)
    await disk.add("key", {"n": 2}, collection=COLLECTION, ttl=100)
    await disk.replace("record 0", collection=COLLECTION, expected=entry, value={"n": 3})
    await disk.delete("key", collection=COLLECTION)
    await disk.set_aside("record 1", collection=COLLECTION, entry=None)
    await all_of(disk)
    assert await disk.count(COLLECTION, at_most=10) == 10
    async for _ in disk.sweep(limit=10, quarantine=0):
        pass


async def statements_of(disk: SQLiteDisk, step: Step) -> list[str]:
    """What SQLite is asked for in a step, with the values in it; only what searches the records."""
    asked: list[str] = []
    loop = asyncio.get_running_loop()
    # One thread, so one connection.
    loop.set_default_executor(ThreadPoolExecutor(1))
    await asyncio.to_thread(lambda: disk._database._con.set_trace_callback(asked.append))
    await step(disk)
    await disk.close()
    return [text for text in asked if text.startswith(("SELECT", "UPDATE", "DELETE")) and "Cache" in text]


def damage_one_page(database: Path) -> None:
    with database.open("r+b") as file:
        file.seek(database.stat().st_size // PAGE // 2 * PAGE)
        file.write(os.urandom(PAGE))


def damage_header(database: Path) -> None:
    with database.open("r+b") as file:
        file.write(os.urandom(100))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "with a damaged page": damage_one_page,
    "with a damaged header": damage_header,
    "cut in half": lambda database: os.truncate(database, database.stat().st_size // 2),
    "emptied": lambda database: os.truncate(database, 0),
    "deleted": Path.unlink,
}


def damage(database: Path, how: str) -> None:
    """Damage a database when all that was written is in its file."""
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()
    DAMAGES[how](database)


@pytest.mark.parametrize("how", DAMAGES)
class TestADatabase:
    async def test_is_replaced_at_the_start(self, tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str) -> None:
        in_processes(write_records, tmp_path / "disk", ["old"])
        damage(tmp_path / "disk" / "cache.db", how)
        disk = open_disk(tmp_path / "disk")
        if how not in ("emptied", "deleted"):
            assert list(tmp_path.glob("disk.corrupt-*/cache.db"))
            assert "set the damaged database aside" in caplog.text
        assert await all_of(disk) == set()
        await disk.put("new", {"n": 1}, collection=COLLECTION)
        assert await disk.get("new", collection=COLLECTION) == {"n": 1}

    async def test_is_replaced_while_it_is_used(
        self, disk: SQLiteDisk, tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str
    ) -> None:
        other = open_disk(tmp_path / "disk")
        await put_many(disk, "old")
        damage(tmp_path / "disk" / "cache.db", how)
        for key in keys_of("old"):
            await disk.get(key, collection=COLLECTION)
            await other.get(key, collection=COLLECTION)
        await disk.put("new", {"n": 1}, collection=COLLECTION)
        assert await other.get("new", collection=COLLECTION) == {"n": 1}
        await other.put("newer", {"n": 2}, collection=COLLECTION)
        assert await disk.get("newer", collection=COLLECTION) == {"n": 2}
        await other.close()
        assert await all_of(open_disk(tmp_path / "disk")) == {"new", "newer"}
        assert len(list(tmp_path.glob("disk.corrupt-*"))) == (how != "deleted")
        told = "was deleted while it was used" if how == "deleted" else "set the damaged database aside"
        assert caplog.text.count(told) == 1


def test_damage_that_two_find_at_once_is_set_aside_once(tmp_path: Path) -> None:
    one, other = (open_disk(tmp_path / "disk")._database for _ in range(2))
    damage = sqlite3.DatabaseError("database disk image is malformed")

    def find(database: Database, meanwhile: Callable[[], object]) -> None:
        tries = iter([meanwhile, None])

        def look() -> None:
            database._sql("SELECT 1")
            if (first := next(tries)) is not None:
                first()
                raise damage

        database.healing(look)

    find(one, lambda: find(other, lambda: None))
    assert len(list(tmp_path.glob("disk.corrupt-*"))) == 1
    one.close()
    other.close()


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Iterator[Meanwhile]:
    """Begin something in a thread, which goes on alone when that has ended or is going to wait for a lock."""
    with ThreadPoolExecutor() as threads:

        def begin(work: Callable[[], Any]) -> Future[Any]:
            waits = threading.Event()
            flock, caller = fcntl.flock, threading.get_ident()

            def lock(descriptor: int, how: int) -> None:
                if threading.get_ident() != caller:
                    waits.set()
                flock(descriptor, how)

            monkeypatch.setattr(fcntl, "flock", lock)
            begun = threads.submit(work)
            begun.add_done_callback(lambda _: waits.set())
            assert waits.wait(HANGS_AFTER)
            return begun

        yield begin


def test_a_worker_that_starts_opens_no_database_that_another_one_makes(tmp_path: Path, meanwhile: Meanwhile) -> None:
    with database._alone(tmp_path):
        opened = meanwhile(lambda: open_database(tmp_path / "disk"))
        assert not opened.done()
    opened.result().close()


def test_a_database_is_used_by_nobody_while_it_is_replaced(
    tmp_path: Path, meanwhile: Meanwhile, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (open_disk(tmp_path / "disk")._database for _ in range(2))
    used: list[Future[Any]] = []

    def set_aside(directory: Path, _: Exception) -> None:
        directory.rename(tmp_path / "aside")
        used.append(meanwhile(lambda: other.healing(lambda: other._sql("SELECT count(*) FROM Cache").fetchone())))
        directory.mkdir()

    monkeypatch.setattr(database, "set_aside", set_aside)
    damage(tmp_path / "disk" / "cache.db", "with a damaged header")
    one._sql("SELECT 1")
    one._give_way(sqlite3.DatabaseError("database disk image is malformed"))
    assert [use.result() for use in used] == [(0,)]
    one.close()
    other.close()
