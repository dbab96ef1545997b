"""What one request did with the store."""

import asyncio

import pytest

from mcp_holdfast.storage import open_store
from mcp_holdfast.storage.atomic import AtomicStore
from mcp_holdfast.storage.journal import JournaledStore, apply_deletes, keeping_journal, persist_for

DAY = 86400.0


@pytest.fixture
def below() -> AtomicStore:
    return open_store("memory")


@pytest.fixture
def store(below: AtomicStore) -> JournaledStore:
    return JournaledStore(below)


async def test_without_a_journal_everything_is_done_at_once(below: AtomicStore, store: JournaledStore) -> None:
    await store.put("key", {"value": 1}, collection="things", ttl=DAY)
    assert await below.get("key", collection="things") == {"value": 1}
    assert await store.delete("key", collection="things")
    assert await below.get("key", collection="things") is None


async def test_deletions_wait_and_are_believed_meanwhile(below: AtomicStore, store: JournaledStore) -> None:
    await store.put_many(["one", "two"], [{"value": 1}, {"value": 2}], collection="things")
    with keeping_journal(hold_deletes=True) as journal:
        assert await store.delete_many(["one", "two"], collection="things") == 2
        assert not await store.delete("one", collection="things")
        assert await store.get_many(["one", "two"], collection="things") == [None, None]
        assert await store.ttl_many(["one"], collection="things") == [(None, None)]
    assert await below.get("one", collection="things") == {"value": 1}
    await apply_deletes(below, list(journal.deletes))
    assert await below.get("one", collection="things") is None


async def test_a_record_written_after_its_deletion_stays(below: AtomicStore, store: JournaledStore) -> None:
    await store.put("key", {"value": 1})
    with keeping_journal(hold_deletes=True) as journal:
        await store.delete("key")
        await store.put("key", {"value": 2})
        assert await store.get("key") == {"value": 2}
    await apply_deletes(below, list(journal.deletes))
    assert await below.get("key") == {"value": 2}


async def test_writes_are_noted_with_their_expiry(store: JournaledStore) -> None:
    with keeping_journal(hold_deletes=True) as journal:
        await store.put("kept", {"value": 1}, collection="things")
        await store.put("bounded", {"value": 1}, collection="things", ttl=DAY)
    assert journal.writes[("things", "kept")] is None
    assert journal.writes[("things", "bounded")] is not None


async def test_a_default_expiry_bounds_what_would_stay_for_ever(below: AtomicStore, store: JournaledStore) -> None:
    with keeping_journal(hold_deletes=False, default_ttl=DAY):
        await store.put("key", {"value": 1})
    _, ttl = await below.ttl("key")
    assert ttl is not None
    assert ttl <= DAY


async def test_two_requests_at_once_have_a_journal_each(store: JournaledStore) -> None:
    async def write(name: str) -> set[tuple[str, str]]:
        with keeping_journal(hold_deletes=True) as journal:
            await store.put(name, {"value": 1}, collection="things")
            await asyncio.sleep(0)
        return set(journal.writes)

    assert list(await asyncio.gather(write("one"), write("two"))) == [{("things", "one")}, {("things", "two")}]


class TestAStoreThatFails:
    def fail(self, monkeypatch: pytest.MonkeyPatch, below: AtomicStore, times: int) -> list[int]:
        put, failed = below.put, [0]

        async def failing_put(*arguments: object, **options: object) -> None:
            if failed[0] < times:
                failed[0] += 1
                raise OSError("no space left on device")
            await put(*arguments, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(below, "put", failing_put)
        return failed

    async def test_fails_the_request_at_once(
        self, below: AtomicStore, store: JournaledStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        failed = self.fail(monkeypatch, below, times=5)
        with keeping_journal(hold_deletes=True), pytest.raises(OSError, match="no space"):
            await store.put("key", {"value": 1})
        assert failed == [1]

    async def test_is_tried_again_for_what_exists_nowhere_else(
        self, below: AtomicStore, store: JournaledStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.fail(monkeypatch, below, times=3)
        with keeping_journal(hold_deletes=True):
            persist_for(30)
            await store.put("key", {"value": 1})
        assert await below.get("key") == {"value": 1}
