"""One winner among several: adding a record, and leases."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from harness.waiting import HANGS_AFTER
from mcp_holdfast.storage import open_store
from mcp_holdfast.storage.atomic import LEASES, AtomicStore, LeaseBusy, Leases
from mcp_holdfast.storage.keys import KeyRing

KEYS = KeyRing(("a key of more than thirty-two characters",), "test")
RIVALS = 8
LONG, SHORT = 30.0, 0.3
SURE = 4.0
"""A holder that works extends this in time however busy the machine is."""


def open_replica(backend: str, path: Path) -> AtomicStore:
    return open_store(backend, path=path, keys=KEYS)


@pytest.fixture(params=["filetree", "disk"])
async def replicas(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[list[AtomicStore]]:
    """Several stores on one volume, as several processes have them."""
    stores = [open_replica(request.param, tmp_path) for _ in range(RIVALS)]
    yield stores
    await asyncio.gather(*(store.close() for store in stores))  # type: ignore[attr-defined]


class TestAddingARecord:
    async def test_has_one_winner_among_all_replicas(self, replicas: list[AtomicStore]) -> None:
        for round_number in range(20):
            results = await asyncio.gather(
                *(store.add(f"key {round_number}", {"of": n}) for n, store in enumerate(replicas))
            )
            assert sorted(results) == [False] * (RIVALS - 1) + [True]
            assert await replicas[0].get(f"key {round_number}") == {"of": results.index(True)}

    async def test_has_one_winner_where_a_record_has_expired(self, replicas: list[AtomicStore]) -> None:
        for round_number in range(20):
            await replicas[0].put(f"key {round_number}", {"of": "the past"}, ttl=0.001)
        await asyncio.sleep(0.01)
        for round_number in range(20):
            results = await asyncio.gather(*(store.add(f"key {round_number}", {"n": 1}) for store in replicas))
            assert results.count(True) == 1

    async def test_leaves_the_record_that_is_there(self, replicas: list[AtomicStore]) -> None:
        await replicas[0].put("key", {"value": 1})
        assert not await replicas[1].add("key", {"value": 2})
        assert await replicas[1].get("key") == {"value": 1}

    async def test_is_seen_by_a_replica_that_looked_before(self, replicas: list[AtomicStore]) -> None:
        assert await replicas[1].get("key") is None
        assert await replicas[0].add("key", {"value": 1})
        assert await replicas[1].get("key") == {"value": 1}

    async def test_leaves_no_other_file(self, tmp_path: Path) -> None:
        store = open_replica("filetree", tmp_path)
        await store.add("key", {"value": 1}, collection="things", ttl=0.001)
        await asyncio.sleep(0.01)
        await store.add("key", {"value": 2}, collection="things")
        await store.add("key", {"value": 3}, collection="things")
        assert len(list((tmp_path / "things").iterdir())) == 1

    async def test_replaces_what_was_planted(self, tmp_path: Path) -> None:
        store = open_replica("filetree", tmp_path)
        await store.add("key", {"value": 1}, collection="things")
        file = next((tmp_path / "things").iterdir())
        file.write_text('{"value": {"planted": true}, "version": 1}')
        assert await store.add("key", {"value": 2}, collection="things")
        assert await store.get("key", collection="things") == {"value": 2}

    async def test_works_in_memory_too(self) -> None:
        store = open_store("memory")
        assert await store.add("key", {"value": 1}, ttl=LONG)
        assert not await store.add("key", {"value": 2})


async def test_of_many_that_delete_a_record_one_is_told_that_it_was_there(replicas: list[AtomicStore]) -> None:
    for number in range(20):
        await replicas[0].put(f"key {number}", {"n": number})
        deleted = await asyncio.gather(*(replica.delete(f"key {number}") for replica in replicas))
        assert sorted(deleted) == [False] * (len(replicas) - 1) + [True]


async def test_who_deletes_a_record_is_told_so_though_the_first_reply_was_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS repeats the request then, and the second answer is that there is no such file."""
    store = open_store("filetree", path=tmp_path, keys=KeyRing(("a secret for tests" * 3,), "test"))
    await store.put("key", {"a": 1})
    rename = Path.rename

    def rename_twice(file: Path, target: Path) -> Path:
        rename(file, target)
        return rename(file, target)

    monkeypatch.setattr(Path, "rename", rename_twice)
    assert await store.delete("key") is True
    assert await store.delete("key") is False


async def test_entries_are_the_records_of_a_collection_with_their_keys(replicas: list[AtomicStore]) -> None:
    for name in ("one", "two", "gone"):
        await replicas[0].put(name, {"name": name}, collection="things")
    await replicas[0].put("other", {"name": "other"}, collection="others")
    await replicas[0].delete("gone", collection="things")
    await replicas[0].put("expired", {"name": "expired"}, collection="things", ttl=0.001)
    await asyncio.sleep(0.01)
    found = {key: entry.value_as_dict async for key, entry in replicas[1].entries("things")}
    assert found == {"one": {"name": "one"}, "two": {"name": "two"}}


class TestALease:
    async def test_is_held_by_one_at_a_time(self, replicas: list[AtomicStore]) -> None:
        inside, most = 0, 0

        async def work(store: AtomicStore) -> None:
            nonlocal inside, most
            async with Leases(store, lifetime=LONG).hold("work", wait=LONG):
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0)
                inside -= 1

        await asyncio.gather(*(work(store) for store in replicas))
        assert most == 1

    async def test_of_a_dead_holder_goes_to_the_next_one_when_its_time_is_over(
        self, replicas: list[AtomicStore]
    ) -> None:
        assert await Leases(replicas[0], lifetime=SHORT).try_to_take("work") is not None
        async with Leases(replicas[1], lifetime=LONG).hold("work", wait=LONG) as turn:
            assert turn.was_contended

    async def test_is_extended_while_its_holder_works(self, replicas: list[AtomicStore]) -> None:
        async with Leases(replicas[0], lifetime=SURE).hold("work", wait=LONG):
            with pytest.raises(LeaseBusy):
                async with Leases(replicas[1], lifetime=SURE).hold("work", wait=1.5 * SURE):
                    pytest.fail("two hold it")

    @pytest.mark.parametrize("steps", range(5))
    async def test_can_be_given_up_in_the_moment_in_which_it_comes(self, tmp_path: Path, steps: int) -> None:
        leases = Leases(open_replica("filetree", tmp_path), lifetime=60)

        async def hold() -> None:
            async with leases.hold("name", wait=60):
                await asyncio.Event().wait()

        async with leases.hold("name", wait=60):
            waiting = asyncio.create_task(hold())
            while leases._interested["name"] < 2:  # noqa: ASYNC110  # nothing tells that somebody waits
                await asyncio.sleep(0)
            # What the lease itself does with files comes later.
            leases._turns["name"].release()
            for _ in range(steps):
                await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting], timeout=HANGS_AFTER)
            await leases._turns["name"].acquire()
        assert waiting.cancelled()

    async def test_is_free_again_after_an_error(self, replicas: list[AtomicStore]) -> None:
        leases = Leases(replicas[0], lifetime=LONG)
        with pytest.raises(ZeroDivisionError):
            async with leases.hold("work", wait=0):
                raise ZeroDivisionError
        async with Leases(replicas[1], lifetime=LONG).hold("work", wait=0) as turn:
            assert not turn.was_contended

    async def test_that_ran_out_is_not_given_back_in_the_name_of_its_next_holder(
        self, replicas: list[AtomicStore]
    ) -> None:
        late = await Leases(replicas[0], lifetime=SHORT).try_to_take("work")
        assert late is not None
        await asyncio.sleep(SHORT)
        assert await Leases(replicas[1], lifetime=LONG).try_to_take("work") is not None
        await late.__aexit__()
        assert await replicas[1].get("work", collection=LEASES) is not None
