"""What every engine promises to the seal above it: what the file tree promises, by the engine's own means."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest
from key_value.aio._utils.managed_entry import ManagedEntry

from harness.engines import EngineProcess
from harness.waiting import HANGS_AFTER
from mcp_holdfast.storage.backends import Engine, open_engine
from mcp_holdfast.storage.backends.engine import QUARANTINE_COLLECTION
from mcp_holdfast.storage.keys import KeyRing
from mcp_holdfast.storage.sealing import SealedStore

PROCESSES = 4
ROUNDS = 20
BRIEF = 0.4
KEYS = KeyRing(("a secret that all replicas share",), "test")

ADD_AND_TAKE = """
import asyncio, sys
from mcp_holdfast.storage.backends import open_engine

async def main(url, process, rounds):
    engine = open_engine(url)
    for number in range(rounds):
        sys.stdin.readline()
        added = await engine.add(f"record {number}", {"by": process}, collection="shared", ttl=60)
        print(int(added), flush=True)
        sys.stdin.readline()
        print(int(await engine.delete(f"record {number}", collection="shared")), flush=True)
    await engine.close()

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


@pytest.fixture
async def store(engine: EngineProcess) -> AsyncIterator[Engine]:
    store = open_engine(engine.url)
    yield store
    await store.close()


async def test_a_record_comes_back_as_it_was_put(store: Engine) -> None:
    value = {"text": "é \u2028 '; --", "number": 1.5, "list": [1, None], "sealed": "x" * 20_000}
    await store.put("key", value, collection="one")
    assert await store.get("key", collection="one") == value
    assert await store.get("key", collection="another") is None


async def test_a_record_expires_to_the_fraction_of_a_second(store: Engine) -> None:
    await store.put("key", {"a": 1}, collection="one", ttl=BRIEF)
    assert await store.get("key", collection="one") == {"a": 1}
    await asyncio.sleep(BRIEF)
    assert await store.get("key", collection="one") is None
    assert await store.read("key", collection="one") is None


async def test_what_is_added_is_there_once(store: Engine) -> None:
    assert await store.add("key", {"a": 1}, collection="one")
    assert not await store.add("key", {"a": 2}, collection="one")
    assert await store.add("key", {"a": 3}, collection="another")
    assert await store.get("key", collection="one") == {"a": 1}


async def test_an_expired_record_gives_way_to_one_that_is_added(store: Engine) -> None:
    assert await store.add("key", {"a": 1}, collection="one", ttl=BRIEF)
    assert not await store.add("key", {"a": 2}, collection="one", ttl=BRIEF)
    added = False
    until = time.monotonic() + HANGS_AFTER
    while not added and time.monotonic() < until:
        added = await store.add("key", {"a": 3}, collection="one", ttl=60)
    assert added
    assert await store.get("key", collection="one") == {"a": 3}


async def test_of_two_who_delete_a_record_one_is_told_that_it_was_there(store: Engine) -> None:
    await store.put("key", {"a": 1}, collection="one")
    assert await store.delete("key", collection="one")
    assert not await store.delete("key", collection="one")


def test_of_several_processes_one_adds_and_one_takes(engine: EngineProcess) -> None:
    command = [sys.executable, "-c", ADD_AND_TAKE, engine.url]
    with ExitStack() as everything:
        processes = [
            everything.enter_context(
                subprocess.Popen([*command, str(number), str(ROUNDS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            )
            for number in range(PROCESSES)
        ]
        with ThreadPoolExecutor(PROCESSES) as pool:
            winners = [sum(pool.map(asked, processes)) for _ in range(2 * ROUNDS)]
    assert winners == [1] * 2 * ROUNDS
    assert [process.returncode for process in processes] == [0] * PROCESSES


def asked(process: subprocess.Popen[bytes]) -> int:
    """What a process says when it is told to go on."""
    assert process.stdin
    assert process.stdout
    process.stdin.write(b"\n")
    process.stdin.flush()
    return int(process.stdout.readline())


async def test_all_records_of_a_collection_and_no_others_are_enumerated(store: Engine) -> None:
    numbers = range(1200)
    # No more at once than the slowest stand-in can answer in time on a busy machine.
    for start in numbers[::20]:
        await asyncio.gather(
            *(store.put(f"key {number}", {"n": number}, collection="one") for number in numbers[start : start + 20])
        )
    await store.put("key", {"n": -1}, collection="one*")
    await store.put("gone", {"n": -1}, collection="one", ttl=0.001)
    found = [(key, dict(entry.value)) async for key, entry in store.entries("one")]
    assert sorted(found) == sorted((f"key {number}", {"n": number}) for number in numbers)
    assert [key async for key, _ in store.entries("one*")] == ["key"]
    assert await store.collection_names() == ["one", "one*"]
    assert await store.count("one", at_most=50) == 50
    assert await store.count("one", at_most=5000) in {1200, 1201}


async def test_a_record_is_replaced_only_if_it_has_not_changed(store: Engine) -> None:
    await store.put("key", {"a": 1}, collection="one", ttl=60)
    entry = await store.read("key", collection="one")
    assert entry is not None
    await store.put("key", {"a": 2}, collection="one", ttl=60)
    assert not await store.replace("key", collection="one", expected=entry, value={"a": 3})
    entry = await store.read("key", collection="one")
    assert entry is not None
    assert await store.replace("key", collection="one", expected=entry, value={"a": 3})
    now = await store.read("key", collection="one")
    assert now is not None
    assert now.value == {"a": 3}
    assert now.expires_at is not None
    assert now.expires_at < datetime.now(UTC) + timedelta(seconds=61)
    assert not await store.replace("missing", collection="one", expected=entry, value={"a": 4})


async def test_what_is_set_aside_is_kept_apart(store: Engine) -> None:
    await store.put("key", {"a": 1}, collection="one", ttl=60)
    other = ManagedEntry(value={"a": 2})
    await store.set_aside("key", collection="one", entry=other)
    assert await store.get("key", collection="one") == {"a": 1}
    entry = await store.read("key", collection="one")
    assert entry is not None
    await store.set_aside("key", collection="one", entry=entry)
    assert await store.get("key", collection="one") is None
    assert await store.collection_names() == []
    assert await store.count(QUARANTINE_COLLECTION, at_most=5) == 1


async def test_what_expired_is_swept_and_the_rest_stays(store: Engine) -> None:
    await store.put("kept", {"a": 1}, collection="one", ttl=600)
    swept = [swept async for swept in store.sweep(limit=10, quarantine=60)]
    assert sum(piece.expired for piece in swept) == 0
    assert await store.get("kept", collection="one") == {"a": 1}


def test_a_store_outlives_the_event_loop_that_it_was_used_in(engine: EngineProcess) -> None:
    store = open_engine(engine.url)

    async def put_and_get(number: int) -> object:
        await store.put("key", {"n": number}, collection="one")
        found = await store.get("key", collection="one")
        await store.close()
        return found

    assert [asyncio.run(put_and_get(number)) for number in range(3)] == [{"n": number} for number in range(3)]


def test_nothing_is_made_where_somebody_only_looks(engine: EngineProcess) -> None:
    async def look() -> bool:
        store = open_engine(engine.url, may_create=False)
        try:
            return not await store.exists() or await store.collection_names() == []
        finally:
            await store.close()

    before = engine.dump()
    assert asyncio.run(look())
    assert engine.dump() == before


async def test_a_sealed_store_refuses_what_another_key_has_sealed(store: Engine, engine: EngineProcess) -> None:
    sealed = SealedStore(store, KEYS)
    await sealed.put("key", {"secret": "in the clear"}, collection="one", ttl=60)
    assert await sealed.get("key", collection="one") == {"secret": "in the clear"}
    dump = await asyncio.to_thread(engine.dump)
    assert b"in the clear" not in dump
    entries = [(name, entry) async for name, entry in store.entries("one")]
    ((name, entry),) = entries
    await store.put(name, {"sealed": "gAAAAAplanted"}, collection="one")
    assert await sealed.get("key", collection="one") is None
    await store.put(name, dict(entry.value), collection="another")
    assert await sealed.get("key", collection="another") is None
    await sealed.close()
