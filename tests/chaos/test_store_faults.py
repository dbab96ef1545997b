"""The store fails under load: while clients call, refresh and sign in, and with their requests in flight at the onset.

FAULT_SECONDS says for how long, FAULT_TIMES how often a server has to go through it. A hang ends after HANG_SECONDS,
which are 30 at most unless given.
"""

import errno
import os
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness.faults import StoreFaults
from harness.identity_provider import IdentityProvider
from harness.proxy_login import ProxyPerson, browser, proxy_environment
from harness.server import Server
from promises.journeys import LocalJourney, Lost, ProxyJourney

FAULT_SECONDS = float(os.environ.get("FAULT_SECONDS", "3"))
FAULT_TIMES = int(os.environ.get("FAULT_TIMES", "1"))
HANG_SECONDS = float(os.environ.get("HANG_SECONDS", min(FAULT_SECONDS, 30.0)))
CLIENTS = 8
PAUSE = 0.05
ANSWERED_WITHIN = 30.0
NO_ANSWER = "no answer"
IN_FLIGHT_FOR = 0.25
RECOVERED_WITHIN = 120.0
CALL_REFRESH_SIGN_IN = (6, 3, 1)
ONLY_CALL = (1, 0, 0)

Seen = Counter[tuple[str, str]]

pytestmark = pytest.mark.timeout(240 + 2 * FAULT_TIMES * max(FAULT_SECONDS, HANG_SECONDS))


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


class Worker(threading.Thread):
    """Clients of one connection, all of which sign in once, call and refresh; a step is repeated until it is answered.

    `seen` counts the answers by endpoint and status, `wrong` holds those that no client may get.
    """

    def __init__(self, server: Server, journey: type[LocalJourney], number: int) -> None:
        super().__init__(daemon=True)
        self.seen: Seen = Counter()
        self.wrong: list[str] = []
        self.signed_in = threading.Event()
        self.stopping = threading.Event()
        self.journeys: list[LocalJourney] = []
        self._server = server
        self._journey = journey
        self._random = random.Random(number)
        # Some only call: the others soon wait for the end of a refresh.
        self._weights = CALL_REFRESH_SIGN_IN if number % 4 else ONLY_CALL
        self._hooks: dict[str, list[Callable[..., Any]]] = {"request": [self._ask], "response": [self._judge]}
        self._http = httpx.Client(base_url=server.url, timeout=ANSWERED_WITHIN, event_hooks=self._hooks)

    def run(self) -> None:
        try:
            self._sign_in()
            self.signed_in.set()
            while not self.stopping.wait(PAUSE):
                self._random.choices([self._call, self._refresh, self._sign_in], self._weights)[0]()
            for journey in list(self.journeys):
                self._take(journey, journey.call, journey.refresh, journey.call)
        finally:
            self._http.close()

    def _call(self) -> None:
        self._take(journey := self._any(), journey.call)

    def _refresh(self) -> None:
        self._take(journey := self._any(), journey.refresh)

    def _any(self) -> LocalJourney:
        return self._random.choice(self.journeys)

    def _sign_in(self) -> None:
        journey = self._journey(self._http, f"Client {len(self.journeys)} of {self.name}")
        if isinstance(journey, ProxyJourney):
            journey.person = ProxyPerson(quick=True, http=browser())
            journey.person.http.event_hooks = self._hooks
        self.journeys.append(journey)
        steps = journey.steps
        before_the_first_call = list(steps)[: list(steps).index("call")]
        self._take(journey, *(steps[name] for name in before_the_first_call))

    def _take(self, journey: LocalJourney, *steps: Callable[[], None]) -> None:
        try:
            for step in steps:
                step()
        except (Lost, TimeoutError, httpx.HTTPError, AssertionError) as error:
            self.wrong.append(f"lost a session: {error}")
            self.journeys.remove(journey)
            if not self.journeys:
                self._sign_in()

    def _ask(self, request: httpx.Request) -> None:
        if (endpoint := self._endpoint(request)) is not None:
            self.seen[endpoint, NO_ANSWER] += 1

    def _judge(self, response: httpx.Response) -> None:
        endpoint, status = self._endpoint(response.request), response.status_code
        if endpoint is None:
            return
        response.read()
        self.seen[endpoint, NO_ANSWER] -= 1
        self.seen[endpoint, str(status)] += 1
        if status == 401 or (status >= 500 and status != 503) or "invalid_grant" in response.text:
            self.wrong.append(f"{endpoint}: {status} {response.text[-300:]}")

    def _endpoint(self, request: httpx.Request) -> str | None:
        """What is asked for; None where it is asked of somebody else."""
        if request.url.port != self._server.port:
            return None
        path = request.url.path
        if path != "/token":
            return path
        return f"{path} refresh" if b"grant_type=refresh_token" in request.content else f"{path} code"


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
    assert all(worker.signed_in.wait(60) for worker in workers), server.output()
    yield workers
    for worker in workers:
        worker.stopping.set()


@pytest.mark.parametrize(("login", "fault"), CASES)
def test_no_session_ends(
    login: str,
    fault: str,
    server: Server,
    provider: IdentityProvider,
    faults: StoreFaults,
    workers: list[Worker],
    capsys: pytest.CaptureFixture[str],
) -> None:
    reuses, code_reuses = provider.reuses(), provider.code_reuses()
    for _ in range(FAULT_TIMES):
        suffer(FAULTS[fault], faults, provider)
    finish(workers)
    with capsys.disabled():
        print(f"\n{login}, the store {fault}:\n{table(workers)}")
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


def finish(workers: list[Worker]) -> None:
    """Let every client call and refresh once more."""
    time.sleep(1)
    for worker in workers:
        worker.stopping.set()
    deadline = time.monotonic() + RECOVERED_WITHIN
    for worker in workers:
        worker.join(max(0.0, deadline - time.monotonic()))


def tracebacks(server: Server) -> list[str]:
    """The lines of the log that are followed by a traceback."""
    return re.findall(r"^(.*)\nTraceback", server.output(), re.MULTILINE)


def answers(workers: list[Worker]) -> Seen:
    return +sum((worker.seen for worker in workers), Counter())


def unanswered(workers: list[Worker]) -> dict[str, int]:
    """How many requests to which endpoint were given up, after ANSWERED_WITHIN seconds or with the connection."""
    return {endpoint: count for (endpoint, status), count in answers(workers).items() if status == NO_ANSWER}


def table(workers: list[Worker]) -> str:
    """One line an endpoint: how often it answered with which status."""
    seen = answers(workers)
    sessions = sum(len(worker.journeys) for worker in workers)
    lost = sum(wrong.startswith("lost") for worker in workers for wrong in worker.wrong)
    lines = [f"    {sessions} sessions go on, {lost} were lost"]
    for endpoint in sorted({endpoint for endpoint, _ in seen}):
        counts = [f"{status}: {count:<7}" for (path, status), count in sorted(seen.items()) if path == endpoint]
        lines.append(f"    {endpoint:16}{''.join(counts)}".rstrip())
    return "\n".join(lines)
