"""Stores: sealed, bound to their place, and whole after damage; the same behaviour on every backend."""

import asyncio
import json
import os
import sqlite3
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from harness.scraping import Scrape
from harness.waiting import eventually
from mcp_holdfast.settings import ConfigurationError
from mcp_holdfast.storage import check_store, open_store
from mcp_holdfast.storage.atomic import AtomicStore
from mcp_holdfast.storage.keys import KeyRing, create_once, volume_key_ring

RING = KeyRing(("the current secret" * 3,), "test")
NEXT_RING = KeyRing(("the next secret" * 3, *RING.secrets), "test")
OTHER_RING = KeyRing(("somebody else's secret" * 3,), "test")

Open = Callable[[], AtomicStore]


@pytest.fixture(params=["filetree", "disk"])
def open_sealed(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    return lambda: open_store(request.param, path=tmp_path, keys=RING)


@pytest.fixture(params=["filetree", "disk", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> AtomicStore:
    return open_store(request.param, path=tmp_path, keys=RING)


class TestEveryBackend:
    async def test_returns_what_was_put(self, store: AtomicStore) -> None:
        await store.put("key", {"a": [1, None, "ü"]}, collection="one")
        assert await store.get("key", collection="one") == {"a": [1, None, "ü"]}
        assert await store.get("key", collection="another") is None
        assert await store.get("another", collection="one") is None

    async def test_delete_tells_whether_it_was_there(self, store: AtomicStore) -> None:
        await store.put("key", {"a": 1}, collection="one")
        assert await store.delete("key", collection="one") is True
        assert await store.delete("key", collection="one") is False
        assert await store.get("key", collection="one") is None

    async def test_many_at_once(self, store: AtomicStore) -> None:
        await store.put_many(["a", "b"], [{"n": 1}, {"n": 2}], collection="one")
        assert await store.get_many(["b", "x", "a"], collection="one") == [{"n": 2}, None, {"n": 1}]
        assert await store.delete_many(["a", "x"], collection="one") == 1

    async def test_tells_the_time_to_live(self, store: AtomicStore) -> None:
        await store.put("key", {"a": 1}, collection="one", ttl=100)
        value, ttl = await store.ttl("key", collection="one")
        assert value == {"a": 1}
        assert ttl is not None
        assert 90 < ttl <= 100

    async def test_takes_any_text_as_a_key(self, store: AtomicStore) -> None:
        keys = ["", "../../etc/passwd", "a/b", "ü" * 300, "\x00", "https://client.example/metadata.json"]
        for number, key in enumerate(keys):
            await store.put(key, {"n": number}, collection="one")
        assert [await store.get(key, collection="one") for key in keys] == [{"n": n} for n in range(len(keys))]

    async def test_concurrent_writes_leave_one_whole_value(self, store: AtomicStore) -> None:
        values = [{"n": number, "fill": "x" * 5000} for number in range(30)]
        await asyncio.gather(*(store.put("key", value, collection="one") for value in values))
        assert await store.get("key", collection="one") in values


async def test_what_was_put_is_there_after_opening_again(open_sealed: Open) -> None:
    await open_sealed().put("key", {"a": 1}, collection="one")
    assert await open_sealed().get("key", collection="one") == {"a": 1}


async def test_nothing_readable_is_on_the_volume(open_sealed: Open, tmp_path: Path) -> None:
    await open_sealed().put("the-secret-code", {"token": "the-secret-token"}, collection="one")
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    names_and_contents = "".join(map(str, files)).encode() + b"".join(file.read_bytes() for file in files)
    assert b"the-secret" not in names_and_contents


async def test_a_store_moved_to_another_path_goes_on(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "elsewhere" / "new"
    await open_store("filetree", path=old, keys=RING).put("key", {"a": 1}, collection="one")
    new.parent.mkdir()
    old.rename(new)
    assert await open_store("filetree", path=new, keys=RING).get("key", collection="one") == {"a": 1}


def test_a_store_needs_its_path_and_keys(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs a path and keys"):
        open_store("filetree")
    with pytest.raises(ValueError, match="unknown backend 'floppy'"):
        open_store("floppy", path=tmp_path, keys=RING)


class TestTheKeyCheck:
    async def test_a_store_of_another_key_is_refused(self, open_sealed: Open, tmp_path: Path) -> None:
        await check_store(open_sealed())
        await check_store(open_sealed())
        backend = "disk" if (tmp_path / "disk").exists() else "filetree"
        await check_store(open_store(backend, path=tmp_path, keys=NEXT_RING))
        with pytest.raises(ConfigurationError, match=r"HOLDFAST_STORAGE_KEY: the store was sealed with another key"):
            await check_store(open_store(backend, path=tmp_path, keys=OTHER_RING))


def records(directory: Path, collection: str) -> list[Path]:
    return sorted((directory / collection).glob("*.json"))


def sealed_text(record: Path) -> str:
    return str(json.loads(record.read_text())["value"]["sealed"])


def reseal(record: Path, sealed: Any) -> None:
    stored = json.loads(record.read_text())
    stored["value"] = sealed
    record.write_text(json.dumps(stored))


class TestDamagedFiles:
    """One file at a time: a miss, the file set aside, and the record can be written anew."""

    async def damaged(self, directory: Path, damage: Callable[[Path], object]) -> None:
        store = open_store("filetree", path=directory, keys=RING)
        await store.put("key", {"a": 1}, collection="one")
        (record,) = records(directory, "one")
        damage(record)
        assert await open_store("filetree", path=directory, keys=RING).get("key", collection="one") is None
        assert list((directory / "one").glob("*.corrupt*"))
        await store.put("key", {"a": 2}, collection="one")
        assert await store.get("key", collection="one") == {"a": 2}

    async def test_empty(self, tmp_path: Path) -> None:
        await self.damaged(tmp_path, lambda record: record.write_bytes(b""))

    async def test_torn(self, tmp_path: Path) -> None:
        await self.damaged(tmp_path, lambda record: os.truncate(record, record.stat().st_size // 2))

    async def test_zeroed(self, tmp_path: Path) -> None:
        await self.damaged(tmp_path, lambda record: record.write_bytes(bytes(200)))

    async def test_not_text(self, tmp_path: Path) -> None:
        await self.damaged(tmp_path, lambda record: record.write_bytes(b"\xff\xfe{}"))

    async def test_not_a_record(self, tmp_path: Path) -> None:
        await self.damaged(tmp_path, lambda record: record.write_text("[1, 2]"))

    @pytest.mark.parametrize(
        "planted", [{"a": "planted"}, {"sealed": "planted"}, {"sealed": None}, {"sealed": "gAAA=="}]
    )
    async def test_planted_unencrypted(self, tmp_path: Path, planted: Any) -> None:
        await self.damaged(tmp_path, lambda record: reseal(record, planted))

    async def test_every_truncation_of_the_ciphertext(self, tmp_path: Path) -> None:
        store = open_store("filetree", path=tmp_path, keys=RING)
        await store.put("key", {"a": 1}, collection="one")
        (record,) = records(tmp_path, "one")
        whole, sealed = record.read_text(), sealed_text(record)
        for length in range(0, len(sealed), 7):
            record.write_text(whole)
            reseal(record, {"sealed": sealed[:length]})
            assert await store.get("key", collection="one") is None

    async def test_sealed_with_another_key(self, tmp_path: Path) -> None:
        other = open_store("filetree", path=tmp_path / "other", keys=OTHER_RING)
        await other.put("key", {"a": "planted"}, collection="one")
        (foreign,) = records(tmp_path / "other", "one")
        await self.damaged(tmp_path, lambda record: reseal(record, {"sealed": sealed_text(foreign)}))

    async def test_swapped_with_another_record(self, tmp_path: Path) -> None:
        store = open_store("filetree", path=tmp_path, keys=RING)
        await store.put("mine", {"user": "me"}, collection="one")
        await store.put("yours", {"user": "you"}, collection="one")
        first, second = records(tmp_path, "one")
        one, two = first.read_text(), second.read_text()
        first.write_text(two)
        second.write_text(one)
        assert await store.get("mine", collection="one") is None
        assert await store.get("yours", collection="one") is None

    async def test_moved_to_another_collection(self, tmp_path: Path) -> None:
        store = open_store("filetree", path=tmp_path, keys=RING)
        await store.put("key", {"a": 1}, collection="one")
        await store.put("key", {"a": 2}, collection="two")
        records(tmp_path, "one")[0].replace(records(tmp_path, "two")[0])
        before = Scrape.here()
        assert await store.get("key", collection="two") is None
        assert Scrape.here().increases_since(before, "records_quarantined_total") == {("wrong_seal",): 1}

    async def test_re_dated(self, tmp_path: Path) -> None:
        store = open_store("filetree", path=tmp_path, keys=RING)
        await store.put("key", {"a": 1}, collection="one", ttl=0.001)
        (record,) = records(tmp_path, "one")
        stored = json.loads(record.read_text())
        expired = datetime.fromisoformat(stored["expires_at"])
        stored["expires_at"] = "2999-01-01T00:00:00+00:00"
        record.write_text(json.dumps(stored))
        eventually(lambda: datetime.now(tz=UTC), lambda now: now > expired)
        before = Scrape.here()
        assert await store.get("key", collection="one") is None
        assert Scrape.here().increases_since(before, "records_quarantined_total") == {("redated",): 1}

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"directory": "/etc"}'])
    async def test_a_damaged_collection_keeps_its_records(self, tmp_path: Path, content: bytes) -> None:
        await open_store("filetree", path=tmp_path, keys=RING).put("key", {"a": 1}, collection="one")
        info = tmp_path / "one-info.json"
        info.write_bytes(content)
        assert await open_store("filetree", path=tmp_path, keys=RING).get("key", collection="one") == {"a": 1}

    async def test_files_are_for_their_owner_only(self, tmp_path: Path) -> None:
        await open_store("filetree", path=tmp_path / "store", keys=RING).put("key", {"a": 1}, collection="one")
        for path in [tmp_path / "store", *(tmp_path / "store").rglob("*")]:
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


class TestADamagedDatabase:
    def row(self, directory: Path) -> sqlite3.Connection:
        return sqlite3.connect(directory / "disk" / "cache.db", isolation_level=None)

    @pytest.mark.parametrize("value", ["", "{", "[]", '{"value": {"sealed": "planted"}}', '{"value": {"a": 1}}'])
    async def test_a_damaged_row_is_a_miss_and_set_aside(self, tmp_path: Path, value: str) -> None:
        store = open_store("disk", path=tmp_path, keys=RING)
        await store.put("key", {"a": 1}, collection="one")
        self.row(tmp_path).execute("UPDATE Cache SET value = ? WHERE key LIKE 'one::%'", [value])
        assert await store.get("key", collection="one") is None
        (key,) = self.row(tmp_path).execute("SELECT key FROM Cache WHERE key LIKE '%one::%'").fetchone()
        assert key.startswith("quarantine::")
        await store.put("key", {"a": 2}, collection="one")
        assert await store.get("key", collection="one") == {"a": 2}

    async def test_a_pickle_is_never_loaded(self, tmp_path: Path) -> None:
        store = open_store("disk", path=tmp_path, keys=RING)
        await store.put("key", {"a": 1}, collection="one")
        bomb = f"cposix\nsystem\n(S'touch {tmp_path}/exploded'\ntR.".encode()
        self.row(tmp_path).execute("UPDATE Cache SET mode = 4, value = ? WHERE key LIKE 'one::%'", [bomb])
        assert await store.get("key", collection="one") is None
        assert not (tmp_path / "exploded").exists()

    async def test_no_file_is_read_because_a_row_names_it(self, tmp_path: Path) -> None:
        store = open_store("disk", path=tmp_path, keys=RING)
        await store.put("key", {"a": 1}, collection="one")
        self.row(tmp_path).execute("UPDATE Cache SET mode = 3, value = NULL, filename = '../../../../etc/passwd'")
        assert await store.get("key", collection="one") is None

    async def test_a_file_that_is_no_database_is_set_aside(self, tmp_path: Path) -> None:
        store = open_store("disk", path=tmp_path, keys=RING)
        await store.put("key", {"a": 1}, collection="one")
        await check_store(store)
        for leftover in (tmp_path / "disk").glob("cache.db*"):
            leftover.write_bytes(b"this is not a database, " * 500)
        again = open_store("disk", path=tmp_path, keys=RING)
        assert await again.get("key", collection="one") is None
        await again.put("key", {"a": 2}, collection="one")
        assert list(tmp_path.glob("disk.corrupt-*/cache.db"))


class TestKeysOnTheVolume:
    def test_are_made_once_for_their_owner_only(self, tmp_path: Path) -> None:
        path = tmp_path / "keys" / "storage.key"
        first = volume_key_ring(path, "HOLDFAST_STORAGE_KEY", store_is_in_use=False)
        assert volume_key_ring(path, "HOLDFAST_STORAGE_KEY", store_is_in_use=False) == first
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert [file.name for file in path.parent.iterdir()] == ["storage.key"]

    def test_replicas_that_start_together_agree(self, tmp_path: Path) -> None:
        with ThreadPoolExecutor(8) as replicas:
            for round_ in range(50):
                path, ready = tmp_path / f"key {round_}", Barrier(8)

                def start(name: str, path: Path = path, ready: Barrier = ready) -> str:
                    ready.wait()
                    return create_once(path, name)

                assert len(set(replicas.map(start, map(str, range(8))))) == 1

    @pytest.mark.parametrize("content", ["", "torn"])
    def test_a_damaged_key_file_stops_the_start_and_is_kept(self, tmp_path: Path, content: str) -> None:
        path = tmp_path / "storage.key"
        path.write_text(content)
        with pytest.raises(ConfigurationError, match=r"holds no usable key\. Restore that file"):
            volume_key_ring(path, "HOLDFAST_STORAGE_KEY", store_is_in_use=False)
        assert path.read_text() == content

    def test_a_key_file_that_is_not_text_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "key").write_bytes(b"\xff" * 40)
        with pytest.raises(ConfigurationError, match="it is not text"):
            volume_key_ring(tmp_path / "key", "HOLDFAST_STORAGE_KEY", store_is_in_use=True)

    def test_a_key_that_a_store_in_use_misses_is_not_made_anew(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="is missing, without which a store in use is lost"):
            volume_key_ring(tmp_path / "key", "HOLDFAST_STORAGE_KEY", store_is_in_use=True)
        assert not (tmp_path / "key").exists()

    def test_a_key_path_that_is_a_directory_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="cannot read or write"):
            volume_key_ring(tmp_path, "HOLDFAST_STORAGE_KEY", store_is_in_use=False)
