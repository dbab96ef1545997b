"""A store that hangs or fails: each operation ends in time, and what went wrong is noted as an outage."""

import asyncio
import errno
import logging
import sqlite3
from collections.abc import AsyncIterator

import pytest
from key_value.aio.errors import InvalidTTLError, StoreConnectionError

from harness.faulty_store import FaultyStore
from harness.scraping import Scrape
from harness.waiting import HANGS_AFTER
from mcp_holdfast.storage.atomic import AtomicStore
from mcp_holdfast.storage.backends import Memory
from mcp_holdfast.storage.deadlines import PromptStore, StoreUnavailable

DEADLINE = 0.2


@pytest.fixture
async def below() -> AsyncIterator[FaultyStore]:
    store = FaultyStore()
    yield store
    # Before the event loop ends, which waits for its threads.
    store.open.set()


@pytest.fixture
def store(below: FaultyStore) -> PromptStore:
    return PromptStore(below, deadline=DEADLINE, most_left_behind=3)


async def everything_has_ended(store: PromptStore) -> None:
    if store._left_behind:
        await asyncio.wait(store._left_behind, timeout=HANGS_AFTER)
    assert not store._left_behind


class TestStore:
    async def test_does_what_the_store_below_it_does(self) -> None:
        store = PromptStore(Memory())
        assert isinstance(store, AtomicStore)
        await store.put("a", {"n": 1}, collection="one", ttl=100)
        await store.put_many(["b", "c"], [{"n": 2}, {"n": 3}], collection="one")
        assert await store.get("a", collection="one") == {"n": 1}
        assert (await store.ttl("a", collection="one"))[1] == pytest.approx(100, abs=5)
        assert await store.get_many(["b", "x"], collection="one") == [{"n": 2}, None]
        assert await store.ttl_many(["c"], collection="one") == [({"n": 3}, None)]
        assert await store.add("a", {"n": 4}, collection="one") is False
        assert await store.add("d", {"n": 4}, collection="one", ttl=10) is True
        assert {key async for key, _ in store.entries("one")} == {"a", "b", "c", "d"}
        assert await store.delete("a", collection="one") is True
        assert await store.delete_many(["b", "x"], collection="one") == 1

    @pytest.mark.parametrize(
        "error",
        [
            OSError(errno.ENOSPC, "No space left", "/data/oauth-proxy/clients/the-key.json"),
            sqlite3.OperationalError("disk I/O error"),
            StoreConnectionError("the-key"),
        ],
    )
    async def test_a_failed_write_is_an_outage_and_not_repeated(
        self, store: PromptStore, below: FaultyStore, causes: list[str], error: Exception
    ) -> None:
        below.errors = [error]
        with pytest.raises(StoreUnavailable) as raised:
            await store.put("the-key", {"secret": "value"})
        assert len(causes) == 1
        assert type(error).__name__ in causes[0]
        assert "the-key" not in causes[0] + str(raised.value)
        assert below.operations == 1

    async def test_a_failed_read_is_tried_once_more(
        self, store: PromptStore, below: FaultyStore, causes: list[str]
    ) -> None:
        await store.put("key", {"n": 1})
        below.errors = [OSError(errno.ESTALE, "Stale file handle")]
        assert await store.get("key") == {"n": 1}
        assert causes == []
        below.errors = [OSError(errno.EIO, "I/O error") for _ in range(3)]
        with pytest.raises(StoreUnavailable):
            await store.get("key")
        assert len(below.errors) == 1
        assert causes == ["the store failed at get: OSError EIO"]

    @pytest.mark.parametrize("error", [TypeError("x"), ValueError("x"), AssertionError(), sqlite3.ProgrammingError()])
    async def test_a_mistake_is_no_outage(
        self, store: PromptStore, below: FaultyStore, causes: list[str], error: Exception
    ) -> None:
        below.errors = [error]
        with pytest.raises(type(error)):
            await store.get("key")
        with pytest.raises(InvalidTTLError):
            await store.put("key", {}, ttl=-1)
        assert causes == []

    async def test_a_hang_ends_at_the_deadline_and_its_write_is_done_later(
        self, store: PromptStore, below: FaultyStore, causes: list[str]
    ) -> None:
        below.open.clear()
        async with asyncio.timeout(5 * DEADLINE):
            with pytest.raises(StoreUnavailable, match=r"put within 0\.2 s"):
                await store.put("key", {"n": 1})
        assert len(causes) == 1
        below.open.set()
        await everything_has_ended(store)
        assert await store.get("key") == {"n": 1}

    async def test_a_read_that_hung_is_not_repeated(self, store: PromptStore, below: FaultyStore) -> None:
        below.open.clear()
        with pytest.raises(StoreUnavailable):
            await store.get("key")
        assert below.operations == 1

    async def test_a_listing_that_hangs_ends_too(self, store: PromptStore, below: FaultyStore) -> None:
        await store.put("key", {"n": 1}, collection="one")
        below.open.clear()
        with pytest.raises(StoreUnavailable):
            assert [key async for key, _ in store.entries("one")]

    async def test_a_cancelled_caller_does_not_cancel_the_operation(
        self, store: PromptStore, below: FaultyStore
    ) -> None:
        below.open.clear()
        caller = asyncio.create_task(store.put("key", {"n": 1}))
        await asyncio.sleep(DEADLINE / 4)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        below.open.set()
        await everything_has_ended(store)
        assert await store.get("key") == {"n": 1}

    async def test_each_try_is_counted_by_what_became_of_it(self, store: PromptStore, below: FaultyStore) -> None:
        before = Scrape.here()
        await store.put("key", {"n": 1})
        below.errors = [OSError(errno.EIO, "I/O error"), OSError(errno.EIO, "I/O error")]
        with pytest.raises(StoreUnavailable):
            await store.get("key")
        below.open.clear()
        with pytest.raises(StoreUnavailable):
            await store.delete("key")
        caller = asyncio.create_task(store.add("another", {"n": 1}))
        await asyncio.sleep(DEADLINE / 4)
        caller.cancel()
        await asyncio.wait({caller})
        assert Scrape.here().increases_since(before, "store_operations_total") == {
            ("put", "done"): 1,
            ("get", "failed"): 2,
            ("delete", "late"): 1,
            ("add", "abandoned"): 1,
        }

    async def test_what_is_late_does_not_replace_what_is_newer(self, store: PromptStore, below: FaultyStore) -> None:
        below.open.clear()
        with pytest.raises(StoreUnavailable):
            await store.put("key", {"n": "old"})
        with pytest.raises(StoreUnavailable):
            await store.put("key", {"n": "never begun"})
        assert below.operations == 1
        newer = asyncio.create_task(store.put("key", {"n": "new"}))
        await asyncio.sleep(DEADLINE / 4)
        below.open.set()
        await newer
        assert await store.get("key") == {"n": "new"}

    async def test_no_more_wait_for_a_hung_store_than_allowed(
        self, store: PromptStore, below: FaultyStore, causes: list[str]
    ) -> None:
        below.open.clear()
        await asyncio.gather(*(store.get(str(n)) for n in range(3)), return_exceptions=True)
        begun = below.operations
        async with asyncio.timeout(DEADLINE / 2):
            for _ in range(100):
                with pytest.raises(StoreUnavailable):
                    await store.get("key")
        assert below.operations == begun
        assert len(causes) == 103
        below.open.set()
        await everything_has_ended(store)
        assert await store.get("key") is None

    async def test_a_late_failure_is_only_logged(
        self, store: PromptStore, below: FaultyStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        below.open.clear()
        below.errors = [OSError(errno.EIO, "I/O error", "/data/the-key")]
        with pytest.raises(StoreUnavailable):
            await store.put("the-key", {"n": 1})
        with caplog.at_level(logging.INFO):
            below.open.set()
            await everything_has_ended(store)
        assert [record.__dict__["result"] for record in caplog.records] == ["OSError EIO"]
        assert "the-key" not in caplog.text
