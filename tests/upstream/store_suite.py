"""py-key-value's own tests of a store, for each of ours; scripts/upstream-store-suite.sh brings them and runs this."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from key_value.aio.protocols import AsyncKeyValue
from tests.stores.base import BaseStoreTests  # type: ignore[import-not-found]  # of py-key-value

from harness.engines import ENGINES, EngineProcess
from mcp_holdfast.storage import open_store
from mcp_holdfast.storage.backends import open_backend, open_engine
from mcp_holdfast.storage.deadlines import PromptStore
from mcp_holdfast.storage.journal import JournaledStore, keeping_journal
from mcp_holdfast.storage.keys import KeyRing
from mcp_holdfast.storage.sealing import SealedStore

KEYS = KeyRing(("the current secret" * 3,), "test")
ROTATING = KeyRing(("the next secret" * 3, *KEYS.secrets), "test")

COUNTS_WHAT_WAS_NOT_THERE = {
    "test_delete",
    "test_delete_many",
    "test_put_delete_many",
    "test_delete_many_delete_many",
}

Open = Callable[[str, Path], Any]

STORES: dict[str, Open] = {
    "a backend": open_backend,
    "a sealed store": lambda backend, path: open_store(backend, path=path, keys=KEYS),
    "a sealed store while keys rotate": lambda backend, path: open_store(backend, path=path, keys=ROTATING),
    "a store with deadlines": lambda backend, path: PromptStore(open_store(backend, path=path, keys=KEYS)),
    "a store with deadlines and journals": lambda backend, path: JournaledStore(
        PromptStore(open_store(backend, path=path, keys=KEYS))
    ),
}


class OurStoreTests(BaseStoreTests):  # type: ignore[misc]  # nothing is known of its type
    """Differs from what py-key-value expects of most stores in one thing."""

    async def test_not_unbounded(self, store: AsyncKeyValue) -> None:
        """Nothing is evicted: each record may be the session of somebody who would have to sign in again."""
        for number in range(1000):
            await store.put(f"key {number}", {"number": number}, collection="things")
        for number in range(1000):
            assert await store.get(f"key {number}", collection="things") == {"number": number}


class TestEachStore(OurStoreTests):
    @pytest.fixture(params=["filetree", "disk", "memory"])
    def backend(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture(params=STORES)
    async def store(self, request: pytest.FixtureRequest, backend: str, tmp_path: Path) -> AsyncIterator[AsyncKeyValue]:
        store = STORES[request.param](backend, tmp_path)
        yield store
        if hasattr(store, "close"):
            await store.close()


class TestEachEngine(OurStoreTests):
    """Redis, Valkey, PostgreSQL, DynamoDB and MongoDB, as they are and sealed."""

    @pytest.fixture(scope="class", params=ENGINES)
    def engine(
        self, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[EngineProcess]:
        engine = ENGINES[request.param](tmp_path_factory.mktemp(request.param)).start()
        yield engine
        engine.kill()

    @pytest.fixture(params=["as it is", "sealed"])
    async def store(self, request: pytest.FixtureRequest, engine: EngineProcess) -> AsyncIterator[AsyncKeyValue]:
        engine.empty()
        store = open_engine(engine.url)
        yield SealedStore(store, KEYS) if request.param == "sealed" else store
        await store.close()


class TestAStoreInARequest(OurStoreTests):
    """With a journal, whether it holds deletions back or not, its own request sees what it did."""

    @pytest.fixture(params=[True, False], ids=["holding deletions back", "deleting at once"])
    async def store(self, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AsyncKeyValue]:
        if request.param and request.node.originalname in COUNTS_WHAT_WAS_NOT_THERE:
            reason = "a deletion that waits does not look first: it says that a record was there"
            request.node.add_marker(pytest.mark.xfail(reason=reason, strict=True))
        store = open_store("filetree", path=tmp_path, keys=KEYS)
        with ExitStack() as journal:
            journal.enter_context(keeping_journal(hold_deletes=request.param))
            yield JournaledStore(PromptStore(store))
