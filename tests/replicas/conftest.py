"""Real replicas on one store, behind a real load balancer with the configuration that compose/ has."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import pytest

from conftest import Say
from harness.container import ROOT
from harness.faults import StoreFaults
from harness.oauth import OAuthClient
from harness.server import Server
from harness.waiting import HANGS_AFTER, eventually
from replicas.balancers import HAProxy, Nginx

PAYLOAD = f"{ROOT}/tests/harness/conversing_payload.py:mcp"
REPLICAS = 3

SignIn = Callable[[str], OAuthClient]
Tell = Callable[[str], None]


@dataclass
class Site:
    """Replicas under the one URL of their load balancer."""

    replicas: list[Server]
    balancer: HAProxy

    @property
    def url(self) -> str:
        return self.balancer.url

    def name_of(self, port: str) -> str:
        """How the load balancer calls the replica on this port."""
        ports = [str(replica.port) for replica in self.replicas]
        return f"holdfast-{ports.index(port) + 1}"

    def repair(self) -> None:
        """Have every replica ready and the load balancer know it, whatever was done to them."""
        for replica in self.replicas:
            StoreFaults(faults_of(replica)).heal()
            if not replica.is_running:
                replica.start()
        eventually(self.balancer.states, lambda states: {state.split()[0] for state in states.values()} == {"UP"})

    def replica_on(self, port: str) -> Server:
        (replica,) = [replica for replica in self.replicas if str(replica.port) == port]
        return replica


@pytest.fixture(scope="session")
def installed() -> None:
    """Install the load balancers. Where they cannot be had this is said, and on CI it is an error."""
    command = [str(ROOT / "scripts/install-packages.sh"), "haproxy", "nginx-light"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    reason = f"NOTHING WAS TRIED BEHIND A LOAD BALANCER: {done.stderr.strip()}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def started(directory: Path, storage: dict[str, str]) -> Iterator[Site]:
    """Replicas on the store of these settings; on a volume, where there are none."""
    environment = {"HOLDFAST_SERVER": PAYLOAD, **storage}
    replicas = [Server(directory / "data", directory / f"replica-{n}.log", **environment) for n in range(REPLICAS)]
    balancer = HAProxy(directory / "haproxy.log", replicas)
    with ExitStack() as everything:
        for replica in replicas:
            everything.callback(replica.stop)
            replica.environment |= {"HOLDFAST_BASE_URL": balancer.url, "STORE_FAULTS": str(faults_of(replica))}
            replica.launch()
        for replica in replicas:
            replica.wait_until_ready()
        everything.callback(balancer.stop)
        balancer.start()
        yield Site(replicas, balancer)


def faults_of(replica: Server) -> Path:
    """The file that tells this replica alone how its store fails (harness/faults.py)."""
    return replica.log.with_suffix(".faults")


@pytest.fixture(scope="module")
def shared_site(installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with started(tmp_path_factory.mktemp("site"), {}) as site:
        yield site


@pytest.fixture
def site(shared_site: Site) -> Iterator[Site]:
    """One for the tests of a module, in which every replica is ready before the next."""
    yield shared_site
    shared_site.repair()


@pytest.fixture
def storage() -> dict[str, str]:
    """The settings of the store that the replicas of `new_site` share; tests give another one than their volume."""
    return {}


@pytest.fixture
def new_site(installed: None, storage: dict[str, str], tmp_path: Path) -> Iterator[Site]:
    with started(tmp_path, storage) as site:
        yield site


@pytest.fixture(scope="module")
def shared_nginx(installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    directory = tmp_path_factory.mktemp("nginx")
    server = Server(directory / "alone", directory / "alone.log", HOLDFAST_SERVER=PAYLOAD)
    nginx = Nginx(directory / "nginx", server)
    server.environment["HOLDFAST_BASE_URL"] = nginx.url
    with ExitStack() as everything:
        everything.callback(server.stop)
        server.start()
        everything.callback(nginx.stop)
        yield nginx.start()


@pytest.fixture
def nginx(shared_nginx: Nginx) -> Iterator[Nginx]:
    """One server behind nginx."""
    yield shared_nginx
    if not shared_nginx.server.is_running:
        shared_nginx.server.start()


@pytest.fixture
def sign_in() -> Iterator[SignIn]:
    with ExitStack() as clients:
        yield lambda url: OAuthClient(clients.enter_context(httpx.Client(base_url=url, timeout=HANGS_AFTER))).sign_in()


@pytest.fixture
def tell(say: Say) -> Tell:
    """Have a line printed at the end of all tests."""
    return partial(say, "three replicas behind HAProxy", "each is stopped and started while clients work")
