"""An engine crashes, fails over or hangs while clients work: they are told "later", and nobody signs in again.

FAULT_SECONDS says for how long.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from conftest import Say
from engines.conftest import StartServer
from harness.engines import ENGINES, EngineProcess
from harness.identity_provider import IdentityProvider
from harness.journeys import ProxyJourney
from harness.load import Worker, finish, table, tracebacks, unanswered
from harness.oauth import OAuthClient
from harness.proxy_login import ProxyPerson, proxy_environment
from harness.selection import in_every_run
from harness.server import Server
from harness.waiting import HANGS_AFTER, eventually

FAULT_SECONDS = float(os.environ.get("FAULT_SECONDS", "3"))
CLIENTS = 6
LEASE, LONGER_THAN_A_LEASE = 4, 8.0
"""In seconds. Replicas look every five whether the store is there, even if nobody asks them for anything."""

pytestmark = pytest.mark.timeout(3600 + 4 * FAULT_SECONDS)


class StatelessJourney(ProxyJourney):
    """With several workers there are no MCP sessions: the first request says it all."""

    def call(self) -> None:
        self._expect(self.client.call, 200)


FAULTS: dict[str, tuple[Callable[[EngineProcess], None], Callable[[EngineProcess], object]]] = {
    "crashes": (EngineProcess.kill, EngineProcess.start),
    "hangs": (EngineProcess.hang, EngineProcess.go_on),
}


IN_EVERY_RUN = ("redis", "postgresql", "mongodb")


@pytest.fixture(params=FAULTS)
def fault(request: pytest.FixtureRequest, engine: EngineProcess) -> str:
    if request.param == "crashes" and not engine.keeps_what_it_holds:
        pytest.skip(f"NOT TRIED: what stands in for {engine.backend} forgets everything when it ends")
    return str(request.param)


@pytest.fixture
def server(start_server: StartServer, provider: IdentityProvider) -> Server:
    """Two workers that ask the store at each call whether its token is good."""
    server = start_server(HOLDFAST_TOKEN_CACHE="0", WEB_CONCURRENCY="2")
    server.kill()
    server.environment |= proxy_environment(provider, server.url)
    server.start()
    return server


@pytest.fixture
def workers(server: Server) -> Iterator[list[Worker]]:
    workers = [Worker(server, StatelessJourney, number) for number in range(CLIENTS)]
    for worker in workers:
        worker.start()
    assert all(worker.signed_in.wait(HANGS_AFTER) for worker in workers), server.output()
    yield workers
    for worker in workers:
        worker.stopping.set()


@pytest.mark.parametrize("engine", in_every_run(IN_EVERY_RUN, ENGINES), indirect=True)
def test_nobody_is_told_to_sign_in_again(
    fault: str,
    engine: EngineProcess,
    server: Server,
    provider: IdentityProvider,
    workers: list[Worker],
    say: Say,
) -> None:
    reuses = provider.reuses()
    begin, end = FAULTS[fault]
    time.sleep(1)
    begin(engine)
    time.sleep(FAULT_SECONDS)
    end(engine)
    finish(workers)
    say("an engine fails under load", f"{engine.backend} {fault}:", table(workers))
    assert not any(worker.is_alive() for worker in workers)
    assert [wrong for worker in workers for wrong in worker.wrong] == []
    assert unanswered(workers) == {}
    assert provider.reuses() == reuses
    assert tracebacks(server) == []


@pytest.mark.parametrize("name", ["redis"])
def test_a_replica_that_had_nothing_to_do_in_an_outage_repeats_no_refresh(
    name: str, running_engines: Callable[[str], EngineProcess], provider: IdentityProvider, tmp_path: Path
) -> None:
    """The other one holds what the identity provider gave it, and its lease ran out while it could not store that."""
    engine = running_engines(name)
    engine.empty()
    replicas = [Server(tmp_path / f"home-{n}", tmp_path / f"log-{n}", **engine.settings()) for n in range(2)]
    for replica in replicas:
        replica.environment |= proxy_environment(provider, replicas[0].url) | {"HOLDFAST_LEASE": str(LEASE)}
        replica.launch()
    with ExitStack() as everything:
        for replica in replicas:
            everything.callback(replica.stop)
            replica.wait_until_ready()
        first, second = (
            everything.enter_context(httpx.Client(base_url=replica.url, timeout=HANGS_AFTER)) for replica in replicas
        )
        client = OAuthClient(first, person=ProxyPerson(quick=True)).sign_in()
        refreshes, reuses = provider.refreshes(), provider.reuses()
        provider.hang_token_endpoint(4)
        with pytest.raises(httpx.ReadTimeout):
            first.post("/token", data=client.refresh_request(), timeout=1)
        engine.kill()
        provider.heal()
        eventually(provider.refreshes, lambda counted: counted > refreshes)
        time.sleep(LONGER_THAN_A_LEASE)
        engine.start()
        client.http = second
        answer = eventually(client.refresh, lambda answer: answer.status_code != 503)
        assert answer.status_code == 200, answer.text
        assert client.call().status_code == 200
        assert provider.reuses() == reuses
