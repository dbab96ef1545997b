"""The seed's own case: the container is killed again and again while clients sign in, refresh and call tools.

CHAOS_KILLS says how often; `make chaos` asks for 200, `make test` for a few of the same.
"""

import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from uuid import uuid4

import httpx
import pytest

from harness.container import HARDENED, Container, docker
from harness.oauth import OAuthClient, Person, answer_parameters
from harness.waiting import HANGS_AFTER

KILLS = int(os.environ.get("CHAOS_KILLS", "4"))
CLIENTS = 4
LONGEST_WAIT_FOR_A_KILL = 1.5

pytestmark = pytest.mark.timeout(3600 + 30 * KILLS)


@pytest.fixture(params=["filetree", "disk"])
def container(request: pytest.FixtureRequest) -> Iterator[Container]:
    volume = f"holdfast-chaos-{uuid4().hex[:8]}"
    flags = (*HARDENED, f"--volume={volume}:/data")
    environment = {"EXA_MCP_STORAGE_BACKEND": request.param, "HOLDFAST_REGISTRATIONS_PER_MINUTE": "100000"}
    container = Container(flags=flags, environment=environment)
    try:
        yield container.run().wait_until_ready()
    finally:
        container.remove()
        docker("volume", "rm", "--force", volume)


class Worker(threading.Thread):
    """A client that signs in, calls tools and refreshes, in random order, until it is told to stop.

    It repeats a request whose answer it did not get, as real clients do; an answer that it does get must be right.
    """

    def __init__(self, url: str, seed: int) -> None:
        super().__init__(daemon=True)
        self.done: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.stopping = threading.Event()
        self._http = httpx.Client(base_url=url, timeout=10)
        self._random = random.Random(seed)
        self._client = OAuthClient(self._http)

    def run(self) -> None:
        try:
            self._sign_in()
            while not self.stopping.is_set():
                step = self._random.choices([self._call_a_tool, self._refresh, self._sign_in], [6, 3, 1])[0]
                step()
            self._call_a_tool()
            self._refresh()
        except AssertionError as error:
            self.wrong.append(str(error))
        finally:
            self._http.close()

    def _sign_in(self) -> None:
        client = OAuthClient(self._http)
        # Two clients that register alike from one machine are one.
        self._answered(lambda: client.register(client_name=f"Client {uuid4()}"), 201)
        location = self._answered(client.authorize, 302).headers["location"]
        approved = self._answered(lambda: Person(self._http).approve(location), 303)
        self._answered(lambda: client.redeem(answer_parameters(approved)["code"]), 200)
        self._client = client
        self.done["signed in"] += 1

    def _call_a_tool(self) -> None:
        answer = self._answered(lambda: self._client.call_tool("whoami"), 200)
        assert self._client.client_id in answer.text, answer.text
        self.done["tool calls"] += 1

    def _refresh(self) -> None:
        refresh_token = self._client.tokens["refresh_token"]
        self._answered(lambda: self._client.refresh(refresh_token), 200)
        self.done["refreshes"] += 1

    def _answered(self, request: Callable[[], httpx.Response], status: int) -> httpx.Response:
        while True:
            try:
                response = request()
            except httpx.TransportError:
                self.done["repeated"] += 1
                self.stopping.wait(0.1)
                continue
            assert response.status_code == status, f"{response.request.url}: {response.status_code} {response.text}"
            return response


def test_every_client_goes_on_after_every_kill(container: Container, capsys: pytest.CaptureFixture[str]) -> None:
    moments = random.Random(0)
    workers = [Worker(container.url, seed) for seed in range(CLIENTS)]
    for worker in workers:
        worker.start()
    never = threading.Event()
    for _ in range(KILLS):
        # Some kills hit a server that is still starting.
        never.wait(moments.uniform(0, LONGEST_WAIT_FOR_A_KILL))
        container.kill()
        container.start()
        if moments.random() < 0.8:
            container.wait_until_ready()
    container.wait_until_ready()
    for worker in workers:
        worker.stopping.set()
    for worker in workers:
        worker.join(HANGS_AFTER)
    done = sum((worker.done for worker in workers), Counter())
    with capsys.disabled():
        print(f"\n{container.environment['EXA_MCP_STORAGE_BACKEND']}: {KILLS} kills, {dict(done)}")
    assert not any(worker.is_alive() for worker in workers)
    assert [worker.wrong for worker in workers] == [[]] * CLIENTS
    assert done["signed in"] >= CLIENTS
    assert done["repeated"] > 0
    assert "Traceback" not in container.output()
