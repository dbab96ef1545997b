"""Promise 9 for the storage key: it is changed while replicas use the store, and nothing is lost."""

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from key_value.aio._utils.managed_entry import ManagedEntry
from key_value.aio.errors import KeyValueOperationError

from mcp_holdfast.settings import ConfigurationError
from mcp_holdfast.storage import check_store, rotation, sealing
from mcp_holdfast.storage.backends import Backend, filetree, open_backend
from mcp_holdfast.storage.keys import KeyRing
from mcp_holdfast.storage.rotation import Rotated, rotate
from mcp_holdfast.storage.seal import Seal
from mcp_holdfast.storage.sealing import HOLDFAST_COLLECTION, KEY_CHECK_COPIES, SealedStore, SealedWithAnotherKey

OLD, NEW = "the secret until now" * 3, "the next secret" * 3
BEFORE, NEXT, AFTER = KeyRing((OLD,), "test"), KeyRing((NEW, OLD), "test"), KeyRing((NEW,), "test")
EARLY = KeyRing((OLD, NEW), "test")
"""Of a replica that was told of the next key, but not yet to begin with it."""

OpenStore = Callable[[KeyRing], SealedStore]


@pytest.fixture(params=["filetree", "disk"])
def backend_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def backend(backend_name: str, tmp_path: Path) -> Backend:
    return open_backend(backend_name, tmp_path)


@pytest.fixture
def open_store(backend_name: str, tmp_path: Path) -> OpenStore:
    return lambda ring: SealedStore(open_backend(backend_name, tmp_path), ring)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replicas follow within a tenth of a second."""
    monkeypatch.setattr(sealing, "LOOKED_AT_EVERY", 0.05)
    monkeypatch.setattr(sealing, "FOLLOWED_WITHIN", 0.1)
    monkeypatch.setattr(rotation, "HANDOVER", 0.5)
    monkeypatch.setattr(rotation, "PAUSE_BETWEEN_PASSES", 0.01)


async def rotated(store: SealedStore, backend: Backend) -> Rotated:
    async for done in rotate(store, backend):
        last = done
    return last


async def test_what_is_sealed_with_the_previous_key_can_be_read_and_deleted(open_store: OpenStore) -> None:
    await open_store(BEFORE).put("key", {"a": 1}, collection="one")
    store = open_store(NEXT)
    assert await store.get("key", collection="one") == {"a": 1}
    assert await store.delete("key", collection="one") is True
    assert await store.get("key", collection="one") is None


async def test_replicas_that_have_the_next_key_already_write_what_the_others_can_read(open_store: OpenStore) -> None:
    before = open_store(BEFORE)
    await before.put("key", {"a": 1}, collection="one")
    ahead = open_store(NEXT)
    await ahead.put("key", {"a": 2}, collection="one")
    assert await before.get("key", collection="one") == {"a": 2}
    assert await ahead.add("once", {}, collection="one") is True
    assert await before.add("once", {}, collection="one") is False


async def test_after_the_rotation_the_new_key_alone_opens_everything(open_store: OpenStore, backend: Backend) -> None:
    store = open_store(BEFORE)
    for number in range(20):
        await store.put(f"key {number}", {"a": number}, collection="one", ttl=1000 if number % 2 else None)
    done = await rotated(open_store(NEXT), backend)
    assert (done.renewed, done.remaining, done.foreign) == (20, 0, 0)
    after = open_store(AFTER)
    await check_store(after)
    for number in range(20):
        value, ttl = await after.ttl(f"key {number}", collection="one")
        assert value == {"a": number}
        assert (ttl is not None and 900 < ttl <= 1000) if number % 2 else ttl is None
    with pytest.raises(ConfigurationError, match="sealed with another key"):
        await check_store(open_store(BEFORE))


async def test_a_running_replica_follows(open_store: OpenStore, backend: Backend) -> None:
    running = open_store(EARLY)
    await running.put("key", {"a": 1}, collection="one")
    await rotated(open_store(NEXT), backend)
    await running.put("key", {"a": 2}, collection="one")
    assert await open_store(AFTER).get("key", collection="one") == {"a": 2}


async def test_a_running_replica_without_the_new_key_fails_and_damages_nothing(
    open_store: OpenStore, backend: Backend
) -> None:
    left_out = open_store(BEFORE)
    await left_out.put("key", {"a": 1}, collection="one")
    await rotated(open_store(NEXT), backend)
    asked = [
        operation
        for number in range(10)
        for operation in (
            left_out.get("key", collection="one"),
            left_out.put("key", {"a": 2}, collection="one"),
            left_out.add(f"another {number}", {"a": 2}, collection="one"),
            left_out.delete("key", collection="one"),
        )
    ]
    told = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(answer) for answer in told} == {SealedWithAnotherKey}
    assert await open_store(AFTER).get("key", collection="one") == {"a": 1}


async def test_no_write_is_lost_and_nothing_deleted_returns_while_seals_are_renewed(
    open_store: OpenStore, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine these many writes leave little time for looking which key is in use.
    monkeypatch.setattr(rotation, "HANDOVER", 3)
    replicas = [open_store(EARLY), open_store(NEXT)]
    keys = [f"key {number}" for number in range(30)]
    for key in keys:
        await replicas[0].put(key, {"n": 0}, collection="one")
    written = dict.fromkeys(keys, 0)
    over = asyncio.Event()

    async def work(replica: SealedStore, mine: list[str]) -> None:
        for number in count(1):
            for key in mine:
                if number % 5 == 4:
                    assert await replica.delete(key, collection="one") is True
                    assert await replica.get(key, collection="one") is None
                await replica.put(key, {"n": number}, collection="one")
                written[key] = number
            if over.is_set():
                return

    workers = [asyncio.create_task(work(replicas[part % 2], keys[part::3])) for part in range(3)]
    done = await rotated(open_store(NEXT), backend)
    over.set()
    await asyncio.gather(*workers)
    assert done.remaining == 0
    assert await open_store(AFTER).get_many(keys, collection="one") == [{"n": written[key]} for key in keys]


@pytest.mark.parametrize("change", ["rewritten", "deleted"])
async def test_a_record_that_has_changed_is_not_replaced(backend: Backend, change: str) -> None:
    await backend.put("key", {"of": "then"}, collection="one")
    seen = await backend.read("key", collection="one")
    assert seen is not None
    if change == "rewritten":
        await backend.put("key", {"of": "now"}, collection="one")
    else:
        await backend.delete("key", collection="one")
    assert await backend.replace("key", collection="one", expected=seen, value={"of": "then, renewed"}) is False
    assert await backend.get("key", collection="one") == ({"of": "now"} if change == "rewritten" else None)


@pytest.mark.parametrize("change", ["rewritten", "deleted"])
async def test_a_record_is_not_changed_while_it_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """In files: who replaces a record has compared it already when somebody else comes to write it."""
    tree, replica = open_backend("filetree", tmp_path), SealedStore(open_backend("filetree", tmp_path), NEXT)
    await replica.put("key", {"of": "then"}, collection="one")
    ((name, seen),) = [entry async for entry in tree.entries("one")]
    write_beside, loop = filetree._written_beside, asyncio.get_running_loop()
    others: list[Future[object]] = []

    def after_somebody_came(file: Path, content: bytes) -> Path:
        monkeypatch.setattr(filetree, "_written_beside", write_beside)
        come = replica.put("key", {"of": "now"}, collection="one") if change == "rewritten" else delete()
        others.append(asyncio.run_coroutine_threadsafe(come, loop))
        with suppress(FutureTimeoutError):
            others[0].result(timeout=0.3)
        return write_beside(file, content)

    async def delete() -> None:
        assert await replica.delete("key", collection="one") is True

    monkeypatch.setattr(filetree, "_written_beside", after_somebody_came)
    await tree.replace(name, collection="one", expected=seen, value=dict(seen.value))
    await asyncio.wrap_future(others[0])
    assert await replica.get("key", collection="one") == ({"of": "now"} if change == "rewritten" else None)


async def test_a_rotation_that_was_cut_off_goes_on(
    open_store: OpenStore, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotation, "TOLD_EVERY", 5)
    store = open_store(BEFORE)
    for number in range(20):
        await store.put(f"key {number}", {"a": number}, collection="one")
    cut_off = rotate(open_store(NEXT), backend)
    assert 0 < (await anext(cut_off)).renewed < 20
    await cut_off.aclose()
    rest = await rotated(open_store(NEXT), backend)
    assert 0 < rest.renewed < 20
    assert await open_store(AFTER).get("key 19", collection="one") == {"a": 19}


async def test_what_no_key_opens_is_counted_and_left_alone(open_store: OpenStore, backend: Backend) -> None:
    await open_store(BEFORE).put("key", {"a": 1}, collection="one")
    foreign = Seal(KeyRing(("somebody else's secret" * 3,), "test")).close("one", "planted", ManagedEntry(value={}))
    await backend.put("planted", foreign, collection="one")
    await backend.put("never sealed", {"a": 1}, collection="one")
    done = await rotated(open_store(NEXT), backend)
    assert (done.renewed, done.foreign) == (1, 1)
    assert await backend.get("planted", collection="one") == foreign
    with pytest.raises(ConfigurationError, match="a rotation has not ended"):
        await check_store(open_store(AFTER))
    await backend.delete("planted", collection="one")
    await rotated(open_store(NEXT), backend)
    await check_store(open_store(AFTER))


async def test_a_record_that_is_changed_all_the_time_remains_and_is_told(
    open_store: OpenStore, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def has_changed(*_: object, **__: object) -> bool:
        return False

    await open_store(BEFORE).put("key", {"a": 1}, collection="one")
    with monkeypatch.context() as patched:
        patched.setattr(backend, "replace", has_changed)
        assert (await rotated(open_store(NEXT), backend)).remaining == 1
    assert (await rotated(open_store(NEXT), backend)).renewed == 1


async def test_the_previous_key_cannot_be_taken_away_before_the_rotation_has_ended(
    open_store: OpenStore, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotation, "TOLD_EVERY", 2)
    store = open_store(BEFORE)
    for number in range(10):
        await store.put(f"key {number}", {"a": number}, collection="one")
    cut_off = rotate(open_store(NEXT), backend)
    await anext(cut_off)
    await cut_off.aclose()
    with pytest.raises(ConfigurationError, match=r"HOLDFAST_STORAGE_KEY_PREVIOUS: .* a rotation has not ended"):
        await check_store(open_store(AFTER))
    assert (await open_store(NEXT).get("key 9", collection="one")) == {"a": 9}


async def test_a_rotation_that_was_cut_off_while_it_began_changes_nothing_for_the_others(
    open_store: OpenStore, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the two copies of the key check."""
    await open_store(BEFORE).put("key", {"a": 1}, collection="one")
    put = backend.put
    ahead = SealedStore(backend, NEXT)

    async def put_one(*arguments: Any, **options: Any) -> None:
        monkeypatch.setattr(backend, "put", fail)
        await put(*arguments, **options)

    async def fail(*_: object, **__: object) -> None:
        raise OSError(5, "killed")

    monkeypatch.setattr(backend, "put", put_one)
    with pytest.raises(OSError, match="killed"):
        await ahead.adopt_first_key()
    monkeypatch.setattr(backend, "put", put)
    for ring in (BEFORE, AFTER):
        with pytest.raises(ConfigurationError):
            await check_store(open_store(ring))
    assert (await rotated(open_store(NEXT), backend)).renewed == 1
    assert await open_store(AFTER).get("key", collection="one") == {"a": 1}


@pytest.mark.parametrize("content", ["", "{", '{"value": {"sealed": "no"}, "created_at": null}'])
@pytest.mark.parametrize("damaged", [KEY_CHECK_COPIES[:1], KEY_CHECK_COPIES[1:], KEY_CHECK_COPIES])
async def test_a_damaged_key_check_is_written_anew(tmp_path: Path, damaged: tuple[str, ...], content: str) -> None:
    await SealedStore(open_backend("filetree", tmp_path), BEFORE).put("key", {"a": 1}, collection="one")
    for copy in damaged:
        (tmp_path / HOLDFAST_COLLECTION / f"{copy}.json").write_text(content)
    again = SealedStore(open_backend("filetree", tmp_path), BEFORE)
    await check_store(again)
    assert await again.get("key", collection="one") == {"a": 1}
    for copy in KEY_CHECK_COPIES:
        assert json.loads((tmp_path / HOLDFAST_COLLECTION / f"{copy}.json").read_text())["value"]["sealed"]


async def test_one_copy_of_the_key_check_is_enough_after_a_rotation(tmp_path: Path) -> None:
    backend = open_backend("filetree", tmp_path)
    await SealedStore(backend, BEFORE).put("key", {"a": 1}, collection="one")
    await rotated(SealedStore(backend, NEXT), backend)
    for copy in KEY_CHECK_COPIES:
        (tmp_path / HOLDFAST_COLLECTION / f"{copy}.json").write_text("")
        assert await SealedStore(open_backend("filetree", tmp_path), AFTER).get("key", collection="one") == {"a": 1}


@pytest.mark.parametrize("copy", KEY_CHECK_COPIES)
async def test_a_key_check_of_another_key_stops_everything_and_damages_nothing(tmp_path: Path, copy: str) -> None:
    await SealedStore(open_backend("filetree", tmp_path / "ours"), BEFORE).put("key", {"a": 1}, collection="one")
    await check_store(SealedStore(open_backend("filetree", tmp_path / "theirs"), AFTER))
    planted = f"{HOLDFAST_COLLECTION}/{copy}.json"
    ours = (tmp_path / "ours" / planted).read_bytes()
    (tmp_path / "ours" / planted).write_bytes((tmp_path / "theirs" / planted).read_bytes())
    with pytest.raises(ConfigurationError, match="sealed with another key"):
        await check_store(SealedStore(open_backend("filetree", tmp_path / "ours"), BEFORE))
    (tmp_path / "ours" / planted).write_bytes(ours)
    assert await SealedStore(open_backend("filetree", tmp_path / "ours"), BEFORE).get("key", collection="one")


async def test_a_key_check_of_another_store_of_the_same_key_is_not_followed(tmp_path: Path) -> None:
    backend = open_backend("filetree", tmp_path / "ours")
    running = SealedStore(backend, NEXT)
    await running.put("key", {"a": 1}, collection="one")
    await check_store(SealedStore(open_backend("filetree", tmp_path / "theirs"), AFTER))
    for copy in KEY_CHECK_COPIES:
        planted = f"{HOLDFAST_COLLECTION}/{copy}.json"
        (tmp_path / "ours" / planted).write_bytes((tmp_path / "theirs" / planted).read_bytes())
    await asyncio.sleep(sealing.FOLLOWED_WITHIN)
    with pytest.raises(KeyValueOperationError):
        await running.get("key", collection="one")
    assert list((tmp_path / "ours" / "one").glob("*.json"))


@pytest.mark.parametrize(
    ("before", "then", "said"),
    [
        (BEFORE, KeyRing(("somebody else's secret" * 3,), "test"), "sealed with another key"),
        (NEXT, AFTER, "both copies of holdfast/key_check are gone"),
    ],
    ids=["another key", "the key after a rotation"],
)
async def test_records_without_a_key_check_are_for_nobody_else(
    tmp_path: Path, before: KeyRing, then: KeyRing, said: str
) -> None:
    backend = open_backend("filetree", tmp_path)
    await SealedStore(backend, BEFORE).put("key", {"a": 1}, collection="one")
    if before is NEXT:
        await rotated(SealedStore(backend, NEXT), backend)
    for copy in KEY_CHECK_COPIES:
        (tmp_path / HOLDFAST_COLLECTION / f"{copy}.json").unlink()
    with pytest.raises(ConfigurationError, match=said):
        await check_store(SealedStore(open_backend("filetree", tmp_path), then))
    assert not list((tmp_path / "one").glob("*.corrupt"))


async def test_replicas_that_begin_a_store_together_agree(open_store: OpenStore) -> None:
    replicas = [open_store(BEFORE) for _ in range(8)]
    assert sum(await asyncio.gather(*(replica.add("once", {}, collection="one") for replica in replicas))) == 1


async def test_of_two_replicas_with_different_keys_that_begin_a_store_one_is_refused(open_store: OpenStore) -> None:
    begun = await asyncio.gather(*(check_store(open_store(ring)) for ring in (BEFORE, AFTER)), return_exceptions=True)
    assert sum(isinstance(result, ConfigurationError) for result in begun) >= 1
