"""/livez and /readyz: what load balancers and container engines ask."""

import asyncio
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from key_value.aio.stores.memory import MemoryStore

from harness.waiting import eventually
from integration.conftest import StartServer
from mcp_holdfast.http import health
from mcp_holdfast.http.health import Readiness


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """A real file system that can be made read-only."""
    directory = tmp_path / "volume"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(directory)], check=True)
    yield directory
    subprocess.run(["umount", "--lazy", str(directory)], check=True)


def test_ready_and_alive_where_all_is_well(start_server: StartServer) -> None:
    server = start_server()
    assert httpx.get(f"{server.url}/livez").json() == {"status": "alive"}
    assert httpx.get(f"{server.url}/readyz").json() == {"status": "ready"}


def test_a_probe_leaves_nothing_behind(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server()
    assert httpx.get(f"{server.url}/readyz").status_code == 200
    assert list((tmp_path / "data" / "oauth-proxy").glob("*probes/*")) == []


def test_a_store_that_cannot_be_written_makes_it_unready_but_not_dead(start_server: StartServer, volume: Path) -> None:
    server = start_server(home=volume)
    subprocess.run(["mount", "-o", "remount,ro", str(volume)], check=True)
    unready = eventually(lambda: httpx.get(f"{server.url}/readyz"), lambda response: response.status_code == 503)
    assert unready.json()["status"] == "not ready"
    assert str(volume) not in unready.text
    assert httpx.get(f"{server.url}/livez").status_code == 200
    subprocess.run(["mount", "-o", "remount,rw", str(volume)], check=True)
    eventually(lambda: httpx.get(f"{server.url}/readyz").status_code, lambda status: status == 200)
    told = [line for line in server.output().splitlines() if "the store can" in line]
    assert ["the store cannot be used" in told[0], "the store can be used again" in told[1]] == [True, True]
    assert len(told) == 2


class HungStore(MemoryStore):
    """Stands for a hard NFS mount whose server is gone: operations neither fail nor end."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    async def put(self, *_: object, **__: object) -> None:
        self.operations += 1
        await asyncio.Event().wait()


async def test_a_hung_store_is_reported_in_time_and_not_piled_upon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "DEADLINE", 0.05)
    monkeypatch.setattr(health, "RESULT_HOLDS_FOR", 0.0)
    store = HungStore()
    readiness = Readiness(store)
    answers = [await readiness.problem() for _ in range(5)]
    assert all(answer is not None and "has not answered" in answer for answer in answers)
    assert store.operations == 1


async def test_requests_at_once_share_one_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    puts = 0
    put = store.put

    async def counting_put(*arguments: object, **options: object) -> None:
        nonlocal puts
        puts += 1
        await put(*arguments, **options)

    monkeypatch.setattr(store, "put", counting_put)
    readiness = Readiness(store)
    started = time.monotonic()
    assert await asyncio.gather(*(readiness.problem() for _ in range(50))) == [None] * 50
    assert puts <= 1 + (time.monotonic() - started) / health.RESULT_HOLDS_FOR
