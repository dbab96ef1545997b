"""The store fails under load: while clients call, refresh and sign in, and with their requests in flight at the onset.

FAULT_SECONDS says for how long, FAULT_TIMES how often a server has to go through it. A hang ends after HANG_SECONDS,
which are 30 at most unless given.
"""

import errno
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import Say
from harness.faults import StoreFaults
from harness.identity_provider import IdentityProvider
from harness.journeys import LocalJourney, ProxyJourney
from harness.load import Worker, finish, table, tracebacks, unanswered
from harness.proxy_login import proxy_environment
from harness.selection import in_every_run
from harness.server import Server
from harness.waiting import HANGS_AFTER

FAULT_SECONDS = float(os.environ.get("FAULT_SECONDS", "3"))
FAULT_TIMES = int(os.environ.get("FAULT_TIMES", "1"))
HANG_SECONDS = float(os.environ.get("HANG_SECONDS", min(FAULT_SECONDS, 30.0)))
CLIENTS = 8
IN_FLIGHT_FOR = 0.25

pytestmark = pytest.mark.timeout(3600 + 2 * FAULT_TIMES * max(FAULT_SECONDS, HANG_SECONDS))


@dataclass(frozen=True)
class Fault:
    """What goes wrong with the store, and for how many seconds."""

    begin: Callable[[StoreFaults], None]
    seconds: float = FAULT_SECONDS


FAULTS = {
    "cannot be read": Fault(lambda store: store.fail(["get"], errno.EIO)),
    "cannot be written": Fault(lambda store: store.fail(["put", "delete", "add"], errno.EIO)),
    "is full": Fault(lambda store: store.fail(["put", "add"], errno.ENOSPC)),
    "is read-only": Fault(lambda store: store.fail(["put", "delete", "add"], errno.EROFS)),
    "hangs": Fault(lambda store: store.hang(), HANG_SECONDS),
    "is slow": Fault(lambda store: store.slow(0.2)),
}
WRITES_ARE_LOST = ("cannot be written", "hangs")


class StatelessJourney(ProxyJourney):
    """With several workers there are no MCP sessions: the first request says it all."""

    def call(self) -> None:
        self._expect(self.client.call, 200)


@dataclass(frozen=True)
class Login:
    """How clients sign in, and at a server of which settings."""

    journey: type[LocalJourney]
    environment: dict[str, str]


LOGINS = {
    "identity provider": Login(ProxyJourney, {}),
    "identity provider, two workers": Login(StatelessJourney, {"WEB_CONCURRENCY": "2"}),
    "a refresh at every call": Login(
        ProxyJourney, {"FASTMCP_SERVER_AUTH_OAUTHPROXY_TOKEN_EXPIRY_THRESHOLD_SECONDS": "7200"}
    ),
    "local login": Login(LocalJourney, {}),
}
CASES = [
    *[("identity provider", fault) for fault in FAULTS],
    *[(login, fault) for login in LOGINS if login != "identity provider" for fault in WRITES_ARE_LOST],
]
IN_EVERY_RUN = [
    *[("identity provider", fault) for fault in ("cannot be read", "cannot be written", "hangs", "is slow")],
    *[(login, "cannot be written") for login in LOGINS if login != "identity provider"],
]


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentityProvider]:
    provider = IdentityProvider(tmp_path_factory.mktemp("identity-provider")).start()
    yield provider
    provider.stop()


@pytest.fixture
def faults(tmp_path: Path) -> StoreFaults:
    return StoreFaults(tmp_path / "faults.json")


@pytest.fixture
def server(login: str, provider: IdentityProvider, faults: StoreFaults, tmp_path: Path) -> Iterator[Server]:
    # Without the cache each call asks the store whether its token is good.
    environment = {"HOLDFAST_TOKEN_CACHE": "0", **faults.environment, **LOGINS[login].environment}
    server = Server(tmp_path / "data", tmp_path / "server.log", **environment)
    if login != "local login":
        server.environment |= proxy_environment(provider, server.url)
    yield server.start()
    server.stop()


@pytest.fixture
def workers(login: str, server: Server) -> Iterator[list[Worker]]:
    """Clients at work, each of which has signed in."""
    workers = [Worker(server, LOGINS[login].journey, number) for number in range(CLIENTS)]
    for worker in workers:
        worker.start()
    assert all(worker.signed_in.wait(HANGS_AFTER) for worker in workers), server.output()
    yield workers
    for worker in workers:
        worker.stopping.set()


@pytest.mark.parametrize(("login", "fault"), in_every_run(IN_EVERY_RUN, CASES))
def test_no_session_ends(
    login: str,
    fault: str,
    server: Server,
    provider: IdentityProvider,
    faults: StoreFaults,
    workers: list[Worker],
    say: Say,
) -> None:
    reuses, code_reuses = provider.reuses(), provider.code_reuses()
    for _ in range(FAULT_TIMES):
        suffer(FAULTS[fault], faults, provider)
    finish(workers)
    say("the store fails under load", f"{login}, the store {fault}:", table(workers))
    assert not any(worker.is_alive() for worker in workers)
    assert [wrong for worker in workers for wrong in worker.wrong] == []
    assert unanswered(workers) == {}
    assert (provider.reuses() - reuses, provider.code_reuses() - code_reuses) == (0, 0)
    assert tracebacks(server) == []


def suffer(fault: Fault, store: StoreFaults, provider: IdentityProvider) -> None:
    """Begin a fault while answers of the identity provider are on their way, and end it."""
    time.sleep(1)
    provider.hang_token_endpoint(IN_FLIGHT_FOR)
    time.sleep(0.9 * IN_FLIGHT_FOR)
    fault.begin(store)
    provider.heal()
    time.sleep(fault.seconds)
    store.heal()
