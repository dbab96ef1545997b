"""An engine crashes, fails over or hangs while clients work: they are told "later", and nobody signs in again.

FAULT_SECONDS says for how long.
"""

import os
import time
from collections.abc import Callable, Iterator

import pytest

from conftest import Say
from engines.conftest import StartServer
from harness.engines import EngineProcess
from harness.identity_provider import IdentityProvider
from harness.journeys import ProxyJourney
from harness.load import Worker, finish, table, tracebacks, unanswered
from harness.proxy_login import proxy_environment
from harness.server import Server

FAULT_SECONDS = float(os.environ.get("FAULT_SECONDS", "3"))
CLIENTS = 6

pytestmark = pytest.mark.timeout(300 + 4 * FAULT_SECONDS)


class StatelessJourney(ProxyJourney):
    """With several workers there are no MCP sessions: the first request says it all."""

    def call(self) -> None:
        self._expect(self.client.call, 200)


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
    assert all(worker.signed_in.wait(60) for worker in workers), server.output()
    yield workers
    for worker in workers:
        worker.stopping.set()


FAULTS: dict[str, tuple[Callable[[EngineProcess], None], Callable[[EngineProcess], object]]] = {
    "crashes": (EngineProcess.kill, EngineProcess.start),
    "hangs": (EngineProcess.hang, EngineProcess.go_on),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_nobody_is_told_to_sign_in_again(
    fault: str,
    engine: EngineProcess,
    server: Server,
    provider: IdentityProvider,
    workers: list[Worker],
    say: Say,
) -> None:
    if fault == "crashes" and not engine.keeps_what_it_holds:
        pytest.skip(f"NOT TRIED: what stands in for {engine.backend} forgets everything when it ends")
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
