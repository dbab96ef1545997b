import threading
from pathlib import Path

import pytest

from patches.filetree import lose_rename_replies, open_store, watch_system_calls


async def test_a_write_syncs_the_file_then_renames_it_then_syncs_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path)
    await store.setup_collection(collection="codes")
    codes = tmp_path / "codes"
    seen = watch_system_calls(monkeypatch)

    await store.put("k", {"v": 1})

    (first, temporary_file), *rest = seen
    assert first == "fsync"
    assert temporary_file.parent == codes
    assert rest == [("rename", codes / "k.json"), ("fsync", codes)]


async def test_collection_metadata_is_written_the_same_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(tmp_path)
    seen = watch_system_calls(monkeypatch)

    await store.setup_collection(collection="codes")

    assert list(seen)[-2:] == [("rename", tmp_path / "codes-info.json"), ("fsync", tmp_path)]


async def test_nothing_waits_for_the_disk_on_the_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(tmp_path)
    seen = watch_system_calls(monkeypatch)

    await store.put("k", {"v": 1})
    await store.delete("k")

    assert threading.get_ident() not in seen.threads


async def test_a_write_takes_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(tmp_path)
    await store.setup_collection(collection="codes")
    seen = watch_system_calls(monkeypatch)

    await store.put("k", {"v": 1})

    assert len(seen.threads - {threading.get_ident()}) == 1


async def test_a_deletion_syncs_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(tmp_path)
    await store.put("k", {"v": 1})
    seen = watch_system_calls(monkeypatch)

    assert await store.delete("k")

    assert list(seen) == [("unlink", tmp_path / "codes" / "k.json"), ("fsync", tmp_path / "codes")]


async def test_a_rename_that_was_done_although_its_reply_was_lost_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path)
    await store.put("k", {"v": 1})
    lose_rename_replies(monkeypatch)

    await store.put("k", {"v": 2})

    assert await store.get("k") == {"v": 2}


async def test_a_temporary_file_is_named_like_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(tmp_path)
    await store.setup_collection(collection="codes")
    seen = watch_system_calls(monkeypatch)

    await store.put("k", {"v": 1})

    _, temporary_file = next(iter(seen))
    assert temporary_file.match(".put-*.tmp")
