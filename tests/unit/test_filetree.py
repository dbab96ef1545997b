"""The files of a tree: what else may be where a record or a collection is expected, and how a file system may fail."""

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.waiting import HANGS_AFTER
from mcp_holdfast.storage.backends import FileTree, filetree, open_filetree
from mcp_holdfast.storage.backends.record_directory import content_of

COLLECTION = "things"


@pytest.fixture
async def record(tree: FileTree, tmp_path: Path) -> Path:
    await tree.put("key", {"a": 1}, collection=COLLECTION)
    (file,) = (tmp_path / COLLECTION).glob("*.json")
    return file


def listen(file: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        # By a short path: that of a socket has a hundred characters at most.
        before = Path.cwd()
        os.chdir(file.parent)
        try:
            listener.bind(file.name)
        finally:
            os.chdir(before)


NO_RECORDS: dict[str, Callable[[Path], Any]] = {
    "a directory": Path.mkdir,
    "a link to nothing": lambda file: file.symlink_to("nowhere"),
    "a link to itself": lambda file: file.symlink_to(file),
    "a link to a record": lambda file: file.symlink_to("record"),
    "a pipe": os.mkfifo,
    "a socket": listen,
}


class TestInPlaceOfARecord:
    @pytest.mark.parametrize("what", NO_RECORDS)
    async def test_what_is_no_file_is_a_miss_and_set_aside(self, tree: FileTree, record: Path, what: str) -> None:
        record.rename(record.with_name("record"))
        NO_RECORDS[what](record)
        async with asyncio.timeout(HANGS_AFTER):
            assert await tree.get("key", collection=COLLECTION) is None
        assert {file.name for file in record.parent.iterdir()} == {"record", f"{record.name}.corrupt"}
        await tree.put("key", {"a": 2}, collection=COLLECTION)
        assert await tree.get("key", collection=COLLECTION) == {"a": 2}


class TestInPlaceOfACollection:
    async def test_a_link_is_neither_read_nor_written_through(
        self, tree: FileTree, record: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        outside = tmp_path_factory.mktemp("outside") / "planted"
        record.parent.rename(outside)
        record.parent.symlink_to(outside)
        with pytest.raises(NotADirectoryError):
            await tree.get("key", collection=COLLECTION)
        with pytest.raises(NotADirectoryError):
            await tree.put("another", {"a": 2}, collection=COLLECTION)
        assert [file.name for file in outside.iterdir()] == [record.name]

    async def test_no_directory_has_no_records(self, tree: FileTree, record: Path) -> None:
        record.unlink()
        record.parent.rmdir()
        assert await tree.get("key", collection=COLLECTION) is None

    async def test_no_store_at_all_is_an_error_and_not_a_miss(self, tmp_path: Path) -> None:
        tree = open_filetree(tmp_path / "store")
        await tree.put("key", {"a": 1}, collection=COLLECTION)
        (tmp_path / "store").rename(tmp_path / "unmounted")
        with pytest.raises(FileNotFoundError):
            await tree.get("key", collection=COLLECTION)


class TestOnANetworkFileSystem:
    @pytest.mark.parametrize("number", [errno.ESTALE, errno.EBADF, errno.EIO])
    async def test_a_record_that_was_replaced_when_it_was_read_is_read_again(
        self, tree: FileTree, record: Path, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        def fail_once(name: str, directory: int) -> bytes | None:
            monkeypatch.setattr(filetree, "content_of", content_of)
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(filetree, "content_of", fail_once)
        assert await tree.get("key", collection=COLLECTION) == {"a": 1}

    async def test_a_record_that_cannot_be_read_is_not_a_miss(
        self, tree: FileTree, record: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(name: str, directory: int) -> bytes | None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(filetree, "content_of", fail)
        with pytest.raises(OSError, match="Input/output"):
            await tree.get("key", collection=COLLECTION)
        assert record.exists()

    async def test_a_put_whose_first_reply_was_lost_has_been_done(
        self, tree: FileTree, record: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rename = Path.rename

        def rename_twice(file: Path, target: Path) -> Path:
            rename(file, target)
            return rename(file, target)

        monkeypatch.setattr(Path, "rename", rename_twice)
        await tree.put("key", {"a": 2}, collection=COLLECTION)
        assert await tree.get("key", collection=COLLECTION) == {"a": 2}

    async def test_a_put_whose_file_was_removed_has_not_been_done(
        self, tree: FileTree, record: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rename = Path.rename

        def rename_too_late(file: Path, target: Path) -> Path:
            file.unlink()
            return rename(file, target)

        monkeypatch.setattr(Path, "rename", rename_too_late)
        with pytest.raises(FileNotFoundError):
            await tree.put("key", {"a": 2}, collection=COLLECTION)
        assert await tree.get("key", collection=COLLECTION) == {"a": 1}


async def test_a_put_that_fails_leaves_nothing_behind(
    tree: FileTree, record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        await tree.put("key", {"a": 2}, collection=COLLECTION)
    assert [file.name for file in record.parent.iterdir()] == [record.name]
    assert await tree.get("key", collection=COLLECTION) == {"a": 1}
