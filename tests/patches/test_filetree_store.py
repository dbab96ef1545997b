"""What the patched file tree store does altogether, including what the unpatched one does, too."""

import asyncio
import errno
import io
import logging
import os
import resource
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from stat import S_IMODE

import pytest
from key_value.aio.errors import PathSecurityError, StoreSetupError
from key_value.aio.stores.filetree import FileTreeStore

from patches.filetree import lose_rename_replies, names_in, open_store
from patches.series import copy_unpatched


@pytest.fixture(params=[0o000, 0o022, 0o077], ids="umask {:03o}".format)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.fixture
def a_megabyte_at_most() -> Iterator[None]:
    """No file may grow past a megabyte, which writing reports as it reports a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def expire(record: Path) -> None:
    past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    record.write_text(f'{{"value": {{"v": 1}}, "expires_at": "{past}"}}')


async def test_what_was_put_is_got_until_it_is_deleted(tmp_path: Path) -> None:
    store = open_store(tmp_path)

    assert await store.get("k") is None
    await store.put("k", {"v": "é\ud800\0"})
    assert await open_store(tmp_path).get("k") == {"v": "é\ud800\0"}
    assert await store.delete("k") is True
    assert await store.delete("k") is False
    assert await store.get("k") is None


async def test_many_at_once(tmp_path: Path) -> None:
    store = open_store(tmp_path)

    await store.put_many(["a", "b"], [{"v": 1}, {"v": 2}], ttl=60)

    assert await store.get_many(["a", "b", "c"]) == [{"v": 1}, {"v": 2}, None]
    assert [value for value, _ in await store.ttl_many(["a", "c"])] == [{"v": 1}, None]
    assert await store.delete_many(["a", "b", "c"]) == 2


async def test_a_record_expires(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    await store.put("k", {"v": 1}, ttl=3600)
    value, left = await store.ttl("k")
    assert value == {"v": 1}
    assert left is not None
    assert 3590 < left <= 3600

    expire(tmp_path / "codes" / "k.json")

    assert await store.get("k") is None


async def test_cull_removes_expired_records_and_nothing_else(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    await store.put("expired", {"v": 1})
    await store.put("alive", {"v": 1}, ttl=3600)
    expire(tmp_path / "codes" / "expired.json")
    expire(tmp_path / "codes" / "damaged.json.corrupt")
    expire(tmp_path / "codes" / ".put-abcd.tmp")

    await store.cull()

    assert names_in(tmp_path / "codes") == {"alive.json", "damaged.json.corrupt", ".put-abcd.tmp"}
    assert names_in(tmp_path) == {"codes", "codes-info.json"}


async def test_concurrent_writers_and_readers_never_see_a_mixture(tmp_path: Path) -> None:
    stores = [open_store(tmp_path), open_store(tmp_path)]
    await stores[0].put("k", {"v": "0" * 10_000})

    async def write(number: int) -> None:
        await stores[number % 2].put("k", {"v": str(number % 10) * 10_000})

    async def read(number: int) -> str:
        value = await stores[number % 2].get("k")
        assert value is not None
        return str(value["v"])

    _, seen = await asyncio.gather(
        asyncio.gather(*(write(n) for n in range(50))),
        asyncio.gather(*(read(n) for n in range(50))),
    )

    assert all(value == value[0] * 10_000 for value in seen)
    assert names_in(tmp_path / "codes") == {"k.json"}


async def test_of_concurrent_deletions_one_wins(tmp_path: Path) -> None:
    stores = [open_store(tmp_path) for _ in range(8)]
    await stores[0].put("k", {"v": 1})

    assert sorted(await asyncio.gather(*(store.delete("k") for store in stores))) == [False] * 7 + [True]


async def test_files_are_the_owners_only_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    await open_store(tmp_path).put("k", {"v": 1})

    assert {S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*.json")} == {0o600}


async def test_an_existing_directory_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "codes").mkdir()
    (tmp_path / "codes").chmod(0o750)

    await open_store(tmp_path).put("k", {"v": 1})

    assert S_IMODE((tmp_path / "codes").stat().st_mode) == 0o750


@pytest.mark.usefixtures("a_megabyte_at_most")
async def test_a_write_that_does_not_fit_leaves_the_record_as_it_was(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    await store.put("k", {"v": 1})

    with pytest.raises(OSError, match="File too large"):
        await store.put("k", {"v": "x" * 2**21})

    assert await store.get("k") == {"v": 1}
    assert names_in(tmp_path / "codes") == {"k.json"}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO], ids=errno.errorcode.get)
async def test_a_failed_sync_leaves_the_record_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    store = open_store(tmp_path)
    await store.put("k", {"v": 1})

    def fail(fd: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)

    with pytest.raises(OSError, match=os.strerror(number)):
        await store.put("k", {"v": 2})

    assert await store.get("k") == {"v": 1}
    assert names_in(tmp_path / "codes") == {"k.json"}


async def test_a_failed_close_leaves_the_record_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(tmp_path)
    await store.put("k", {"v": 1})

    class FailsToClose(io.FileIO):
        def close(self) -> None:
            if not self.closed:
                super().close()
                raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    with monkeypatch.context() as quota:
        quota.setattr(os, "fdopen", lambda fd, mode: FailsToClose(fd, mode))
        with pytest.raises(OSError, match=os.strerror(errno.EDQUOT)):
            await store.put("k", {"v": 2})

    assert await store.get("k") == {"v": 1}
    assert names_in(tmp_path / "codes") == {"k.json"}


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP], ids=errno.errorcode.get)
async def test_a_file_system_that_cannot_sync_a_directory_is_good_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    fsync = os.fsync

    def fail_for_directories(fd: int) -> None:
        if Path(f"/proc/self/fd/{fd}").is_dir():
            raise OSError(number, os.strerror(number))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", fail_for_directories)
    store = open_store(tmp_path)

    await store.put("k", {"v": 1})

    assert await store.get("k") == {"v": 1}


async def test_a_write_overtaken_by_another_while_its_reply_was_lost_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path)
    await store.put("k", {"v": 1})
    lose_rename_replies(monkeypatch, then_found=b'{"value": {"v": 3}}')

    with pytest.raises(FileNotFoundError):
        await store.put("k", {"v": 2})

    assert await store.get("k") == {"v": 3}
    assert names_in(tmp_path / "codes") == {"k.json"}


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ESTALE], ids=errno.errorcode.get)
async def test_a_record_that_cannot_be_read_is_an_error_and_not_a_miss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    store = open_store(tmp_path)
    await store.put("k", {"v": 1})
    with monkeypatch.context() as outage:

        def fail(_: Path) -> bytes:
            raise OSError(number, os.strerror(number))

        outage.setattr(Path, "read_bytes", fail)

        with pytest.raises(OSError, match=os.strerror(number)):
            await store.get("k")
        with pytest.raises(StoreSetupError, match=os.strerror(number)):
            await open_store(tmp_path).get("k")

    assert await store.get("k") == {"v": 1}
    assert names_in(tmp_path) == {"codes", "codes-info.json"}


async def test_a_pipe_in_place_of_a_record_is_a_miss_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    await store.setup_collection(collection="codes")
    os.mkfifo(tmp_path / "codes" / "k.json")

    assert await store.get("k") is None

    assert names_in(tmp_path / "codes") == {"k.json.corrupt"}


async def test_a_planted_link_is_replaced_by_writing_and_removed_by_deleting(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data")
    await store.setup_collection(collection="codes")
    outside = tmp_path / "outside.json"
    outside.write_text("untouched")
    record = tmp_path / "data" / "codes" / "k.json"

    record.symlink_to(outside)
    await store.put("k", {"v": 1})
    assert await store.get("k") == {"v": 1}
    await store.delete("k")
    record.symlink_to(outside)
    assert await store.delete("k")

    assert outside.read_text() == "untouched"


async def test_a_key_cannot_leave_the_data_directory(tmp_path: Path) -> None:
    store = FileTreeStore(data_directory=tmp_path / "data", default_collection="codes")
    await store.setup_collection(collection="codes")
    (tmp_path / "data" / "codes" / "link").symlink_to(tmp_path)

    for key in ("../../escaped", "link/escaped", str(tmp_path / "escaped")):
        with pytest.raises(PathSecurityError):
            await store.put(key, {"v": 1})
        with pytest.raises(PathSecurityError):
            await store.get(key)
        with pytest.raises(PathSecurityError):
            await store.delete(key)
        with pytest.raises(PathSecurityError):
            await store._set_aside_entry(key=key, collection="codes")


async def test_state_of_the_unpatched_package_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    program = """
        import asyncio, sys
        from key_value.aio.stores.filetree import FileTreeStore

        asyncio.run(FileTreeStore(data_directory=sys.argv[1], default_collection="codes").put("k", {"v": 1}))
    """
    run_unpatched(tmp_path / "packages", textwrap.dedent(program), str(tmp_path / "data"))

    with caplog.at_level(logging.WARNING):
        assert await open_store(tmp_path / "data").get("k") == {"v": 1}
    assert not caplog.records


async def test_the_unpatched_package_reads_our_state_once_the_metadata_is_deleted(tmp_path: Path) -> None:
    await open_store(tmp_path / "data").put("k", {"v": 1})
    (tmp_path / "data" / "codes-info.json").unlink()
    program = """
        import asyncio, sys
        from key_value.aio.stores.filetree import FileTreeStore

        print(asyncio.run(FileTreeStore(data_directory=sys.argv[1], default_collection="codes").get("k")))
    """

    assert run_unpatched(tmp_path / "packages", textwrap.dedent(program), str(tmp_path / "data")) == "{'v': 1}\n"


def run_unpatched(packages: Path, program: str, *arguments: str) -> str:
    copy_unpatched(packages)
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=os.environ | {"PYTHONPATH": str(packages)},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
