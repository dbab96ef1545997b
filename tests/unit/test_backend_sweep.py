"""The sweep of a backend: what it removes, what it never removes, and how little of it at a time."""

import asyncio
import json
import multiprocessing
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from harness.expired_records import COLLECTION, put_expired
from harness.sweeping import sweep_for_ever
from harness.waiting import eventually
from mcp_holdfast.storage.backends import (
    Backend,
    FileTree,
    Swept,
    filetree,
    open_backend,
    open_filetree,
    record_lock,
)
from mcp_holdfast.storage.backends.record_lock import locked

WEEK, HOUR = 7 * 86400.0, 3600.0


@pytest.fixture(params=["filetree", "disk"])
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    opened = open_backend(request.param, tmp_path)
    yield opened
    await opened.close()


async def all_swept(backend: Backend, *, limit: int = 500, quarantine: float = WEEK) -> Swept:
    return sum([piece async for piece in backend.sweep(limit=limit, quarantine=quarantine)], Swept())


def age(file: Path, seconds: float) -> Path:
    os.utime(file, (time.time() - seconds,) * 2)
    return file


class TestExpiredRecords:
    async def test_are_removed_and_others_stay(self, backend: Backend) -> None:
        await backend.put("for ever", {"n": 1}, collection=COLLECTION)
        await backend.put("for long", {"n": 2}, collection=COLLECTION, ttl=1000)
        await put_expired(backend, "one", "two", "three")
        assert (await all_swept(backend)).expired == 3
        assert await backend.get("for ever", collection=COLLECTION) == {"n": 1}
        assert await backend.get("for long", collection=COLLECTION) == {"n": 2}
        assert (await all_swept(backend)).removed == 0

    async def test_stay_while_another_replicas_clock_may_be_behind(self, backend: Backend) -> None:
        await backend.put("just now", {"n": 1}, collection=COLLECTION, ttl=0.001)
        await asyncio.sleep(0.01)
        assert (await all_swept(backend)).expired == 0

    async def test_leave_no_file_behind(self, tree: FileTree, tmp_path: Path) -> None:
        await put_expired(tree, "one", "two")
        await all_swept(tree)
        assert list((tmp_path / COLLECTION).iterdir()) == []

    async def test_of_a_collection_that_this_process_never_used(self, tree: FileTree, tmp_path: Path) -> None:
        await put_expired(tree, "one")
        assert (await all_swept(open_filetree(tmp_path))).expired == 1

    async def test_in_memory_go_too(self) -> None:
        memory = open_backend("memory")
        await memory.put("one", {"n": 1}, collection=COLLECTION, ttl=0.001)
        await asyncio.sleep(0.01)
        assert (await all_swept(memory)).expired == 1

    async def test_that_somebody_else_is_replacing_are_left_to_them(self, tree: FileTree, tmp_path: Path) -> None:
        await put_expired(tree, "one")
        (file,) = (tmp_path / COLLECTION).glob("*.json")
        with locked(file) as opened:
            assert opened is not None
            assert (await all_swept(tree)).expired == 0
        assert (await all_swept(tree)).expired == 1


class TestARecordThatReplacesAnExpiredOne:
    """put() asks for no lock: it may come at any moment of a removal."""

    @pytest.mark.parametrize(
        ("module", "moment"),
        [
            (filetree, "locked"),
            (record_lock, "is_open_as"),
            (filetree, "_take_away"),
            (filetree, "_temporary_beside"),
        ],
    )
    async def test_is_kept_at_whatever_moment_it_comes(
        self, tree: FileTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType, moment: str
    ) -> None:
        await put_expired(tree, "key")
        (file,) = (tmp_path / COLLECTION).glob("*.json")
        whole = getattr(module, moment)
        fresh = {**json.loads(file.read_text()), "value": {"of": "now"}}
        del fresh["expires_at"]

        def after_a_put(*arguments: Any) -> Any:
            monkeypatch.setattr(module, moment, whole)
            (tmp_path / "fresh").write_text(json.dumps(fresh))
            (tmp_path / "fresh").replace(file)
            return whole(*arguments)

        monkeypatch.setattr(module, moment, after_a_put)
        assert (await all_swept(tree)).expired == 0
        assert await tree.get("key", collection=COLLECTION) == {"of": "now"}
        assert [found.name for found in (tmp_path / COLLECTION).iterdir()] == [file.name]

    async def test_is_kept_by_sweepers_of_other_processes(self, tree: FileTree, tmp_path: Path) -> None:
        keys = [f"key{number}" for number in range(150)]
        await tree.setup_collection(collection=COLLECTION)
        processes = [multiprocessing.get_context("spawn").Process(target=sweep_for_ever, args=[tmp_path])]
        for process in processes:
            process.start()
        try:
            await asyncio.to_thread(eventually, (tmp_path / "swept").exists, bool)
            for _ in range(3):
                await put_expired(tree, *keys)
                for key in keys:
                    await tree.put(key, {"of": "now"}, collection=COLLECTION)
                await asyncio.sleep(0.05)
                assert [await tree.get(key, collection=COLLECTION) for key in keys] == [{"of": "now"}] * len(keys)
        finally:
            for process in processes:
                process.kill()
                process.join()


class TestLeftovers:
    def leftover(self, directory: Path, name: str = ".put-0123456789abcdef.tmp") -> Path:
        (directory / name).write_bytes(b"half a rec")
        return directory / name

    async def test_of_killed_writes_go_after_an_hour(self, tree: FileTree, tmp_path: Path) -> None:
        for collection in (COLLECTION, "others"):
            await tree.setup_collection(collection=collection)
        old = [age(self.leftover(directory), 1.1 * HOUR) for directory in (tmp_path, tmp_path / COLLECTION)]
        young = age(self.leftover(tmp_path / "others"), 0.9 * HOUR)
        swept = await all_swept(tree)
        assert (swept.temporary, swept.removed) == (2, 2)
        assert [file.exists() for file in (*old, young)] == [False, False, True]

    async def test_in_quarantine_stay_for_as_long_as_is_set(self, tree: FileTree, tmp_path: Path) -> None:
        await tree.setup_collection(collection=COLLECTION)
        damaged = [
            age(self.leftover(directory, "abc.json.corrupt"), 100 * 86400)
            for directory in (tmp_path, tmp_path / COLLECTION)
        ]
        assert (await all_swept(tree)).removed == 0, "set aside just now, however old the record is"
        await asyncio.sleep(0.05)
        assert (await all_swept(tree, quarantine=0.01)).quarantined == 2
        assert not any(file.exists() for file in damaged)

    async def test_in_quarantine_of_a_database_stay_for_as_long_as_is_set(self, tmp_path: Path) -> None:
        disk = open_backend("disk", tmp_path)
        await disk.put("other", {"n": 1}, collection="quarantined")
        await disk.put("key", {"n": 1}, collection=COLLECTION)
        entry = await disk.read("key", collection=COLLECTION)
        assert entry is not None
        await disk.set_aside("key", collection=COLLECTION, entry=entry)
        assert (await all_swept(disk)).removed == 0
        await asyncio.sleep(0.05)
        assert (await all_swept(disk, quarantine=0.01)).quarantined == 1
        assert await disk.get("other", collection="quarantined") == {"n": 1}
        await disk.close()

    async def test_that_are_nothing_of_ours_stay(self, tree: FileTree, tmp_path: Path) -> None:
        for name in ("notes.txt", "things-info.json", ".nfs000012"):
            age(self.leftover(tmp_path, name), WEEK)
        (tmp_path / "disk").mkdir()
        (tmp_path / "disk" / "cache.db").touch()
        (tmp_path / "disk.corrupt").mkdir()
        before = sorted(tmp_path.rglob("*"))
        assert (await all_swept(tree, quarantine=0)).removed == 0
        assert sorted(tmp_path.rglob("*")) == before


class TestWhatCannotBeSwept:
    async def test_a_damaged_record_is_set_aside(self, tree: FileTree, tmp_path: Path) -> None:
        await put_expired(tree, "one", "two")
        first, _ = (tmp_path / COLLECTION).glob("*.json")
        first.write_text('{"torn')
        assert (await all_swept(tree)).expired == 1
        assert first.with_name(f"{first.name}.corrupt").exists()

    async def test_a_link_is_never_followed(self, tree: FileTree, tmp_path: Path) -> None:
        await put_expired(tree, "one")
        (file,) = (tmp_path / COLLECTION).glob("*.json")
        elsewhere = file.rename(tmp_path / "elsewhere")
        file.symlink_to(elsewhere)
        (tmp_path / "linked").symlink_to(tmp_path / COLLECTION)
        assert (await all_swept(tree)).expired == 0
        assert elsewhere.exists()

    async def test_a_file_that_fails_does_not_keep_the_others(
        self, tree: FileTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        await put_expired(tree, "one", "two", "three")
        failing, *_ = (tmp_path / COLLECTION).glob("*.json")
        whole = filetree._take_away

        def fail_for_one(file: Path, expected: Any) -> bool:
            if file == failing:
                raise PermissionError(13, "Permission denied", str(file))
            return whole(file, expected)

        monkeypatch.setattr(filetree, "_take_away", fail_for_one)
        assert (await all_swept(tree)).expired == 2
        (record,) = [record for record in caplog.records if "could not be swept" in record.getMessage()]
        assert (record.__dict__["files"], record.__dict__["error"]) == (1, "EACCES")


class TestAPieceOfWork:
    async def test_is_bounded_and_the_next_goes_on_where_it_stopped(self, tree: FileTree) -> None:
        await put_expired(tree, *(f"key{number}" for number in range(25)))
        pieces = [piece async for piece in tree.sweep(limit=10, quarantine=WEEK)]
        assert [piece.examined for piece in pieces] == [10, 10, 6], "the records and the collection's own file"
        assert sum(piece.expired for piece in pieces) == 25

    async def test_leaves_the_event_loop_free(self, tree: FileTree, tmp_path: Path) -> None:
        await tree.setup_collection(collection=COLLECTION)
        for number in range(20_000):
            (tmp_path / COLLECTION / f".put-{number}.tmp").touch()
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        working = asyncio.create_task(others())
        pieces = [piece async for piece in tree.sweep(limit=5_000, quarantine=WEEK)]
        working.cancel()
        assert sum(piece.examined for piece in pieces) > 20_000
        # Each piece would let them have a turn or two at its end if it kept the loop meanwhile.
        assert turns > 20 * len(pieces)
