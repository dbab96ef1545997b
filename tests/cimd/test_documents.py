"""Documents in one process: how long they are fresh, what strangers cannot do, and when it is tried again."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import fastmcp
import pytest
from fastmcp.server.auth.cimd import CIMDFetchError

from harness.document_host import DocumentHost
from harness.egress_proxy import EgressProxy
from harness.server import free_port
from harness.waiting import eventually
from mcp_holdfast import outage
from mcp_holdfast.auth.cimd import detection
from mcp_holdfast.auth.cimd.detection import Detection
from mcp_holdfast.auth.cimd.documents import DOCUMENTS, MOST_ASKED_AGAIN, MOST_FETCHED_AT_ONCE, ClientDocuments
from mcp_holdfast.storage import open_store
from mcp_holdfast.storage.atomic import AtomicStore

URL = "https://client.example/app.json"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DocumentHost]:
    """Can be reached through a proxy alone, which takes the guard's part."""
    port = free_port()
    host = DocumentHost(tmp_path, ("127.0.0.1", port), ["client.example"]).start()
    proxy = EgressProxy({"client.example": port})
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    monkeypatch.setenv("SSL_CERT_FILE", str(host.authority))
    monkeypatch.setattr(fastmcp.settings, "ssrf_trust_proxy", True)
    yield host
    host.stop()
    proxy.close()


@pytest.fixture
def store() -> AtomicStore:
    return open_store("memory")


@pytest.fixture
def documents(store: AtomicStore) -> ClientDocuments:
    return ClientDocuments(store, can_fetch=True)


@pytest.mark.parametrize("header", ["no-store", "no-cache", "max-age=0", "max-age=never"])
async def test_a_document_is_fetched_once_a_minute_at_most(
    host: DocumentHost, documents: ClientDocuments, header: str
) -> None:
    host.publish(URL)
    host.serve(URL, host.answers[URL].body, cache_control=header)
    for _ in range(3):
        await documents.fetch(URL)
    assert host.asked == [URL]


async def test_a_document_is_kept_fresh_for_an_hour_at_most(
    host: DocumentHost, documents: ClientDocuments, store: AtomicStore
) -> None:
    host.publish(URL)
    host.serve(URL, host.answers[URL].body, cache_control="max-age=31536000")
    await documents.fetch(URL)
    await documents.keep(URL)
    kept = await store.get(URL, collection=DOCUMENTS)
    assert kept is not None
    assert kept["good_until"] - kept["fresh_until"] >= 29 * 86400


async def test_a_host_is_not_asked_again_for_each_unknown_key(host: DocumentHost, documents: ClientDocuments) -> None:
    host.publish(URL)
    for _ in range(MOST_ASKED_AGAIN):
        await documents.fetch_again(URL)
    with outage.watching() as causes, pytest.raises(CIMDFetchError, match="too often"):
        await documents.fetch_again(URL)
    assert causes
    assert host.asked == [URL] * MOST_ASKED_AGAIN


async def test_a_stranger_stores_nothing(host: DocumentHost, documents: ClientDocuments, store: AtomicStore) -> None:
    host.publish(URL)
    await documents.fetch(URL)
    assert await store.get(URL, collection=DOCUMENTS) is None


async def test_hosts_that_never_answer_hold_up_only_so_many(host: DocumentHost, documents: ClientDocuments) -> None:
    host.publish(URL)
    await documents.fetch(URL)
    await documents.keep(URL)
    host.hang()
    urls = [f"https://client.example/{number}.json" for number in range(MOST_FETCHED_AT_ONCE)]
    waiting = [asyncio.create_task(documents.fetch(url)) for url in urls]
    await asyncio.sleep(0)
    with outage.watching() as causes, pytest.raises(CIMDFetchError, match="too many"):
        await documents.fetch("https://client.example/one-more.json")
    assert causes
    await documents.fetch(URL)
    host.go_on()
    assert all(isinstance(answer, CIMDFetchError) for answer in await asyncio.gather(*waiting, return_exceptions=True))


class TestDetection:
    @pytest.fixture
    async def detecting(
        self, host: DocumentHost, documents: ClientDocuments, monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[None]:
        monkeypatch.setattr(detection, "ASKED_FOR", (URL,))
        monkeypatch.setattr(detection, "ASKED_EVERY", 0.05)
        documents.can_fetch = False
        async with Detection(documents).in_background():
            yield

    async def test_finds_out_when_documents_can_be_fetched_at_last(
        self, host: DocumentHost, documents: ClientDocuments, detecting: None
    ) -> None:
        await asyncio.to_thread(eventually, lambda: len(host.asked), lambda times: times >= 2)
        assert not documents.can_fetch
        host.publish(URL)
        await becomes(documents, can_fetch=True)

    async def test_asks_again_after_a_document_could_not_be_had(
        self, host: DocumentHost, documents: ClientDocuments, detecting: None
    ) -> None:
        host.publish(URL)
        await becomes(documents, can_fetch=True)
        del host.answers[URL]
        with pytest.raises(CIMDFetchError):
            await documents.fetch("https://client.example/gone.json")
        await becomes(documents, can_fetch=False)

    async def test_asks_no_more_while_all_is_well(
        self, host: DocumentHost, documents: ClientDocuments, detecting: None
    ) -> None:
        host.publish(URL)
        await becomes(documents, can_fetch=True)
        asked = len(host.asked)
        # Six times as long as it would wait.
        await asyncio.sleep(0.3)
        assert len(host.asked) == asked


async def becomes(documents: ClientDocuments, *, can_fetch: bool) -> None:
    await asyncio.to_thread(eventually, lambda: documents.can_fetch, lambda found: found == can_fetch)
