"""Promises are tried on Holdfast and, with TARGET=stock, on stock FastMCP beside it; one table tells what was seen.

PROMISE_SCALE multiplies how often: 1 is what `make test` does, `make promises` does a hundred times as much.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from conftest import Say
from harness.identity_provider import IdentityProvider
from harness.oauth import OAuthClient
from harness.proxy_login import ProxyPerson, proxy_environment
from harness.server import Server, ServerProcess
from harness.stock import StockServer
from harness.waiting import HANGS_AFTER

SCALE = int(os.environ.get("PROMISE_SCALE", "1"))
TARGETS: dict[str, type[Server] | type[StockServer]] = {"holdfast": Server, "stock": StockServer}
CHOSEN = ["holdfast", "stock"] if os.environ.get("TARGET") == "stock" else ["holdfast"]

StartReplicas = Callable[..., "Replicas"]
Tell = Callable[[str, str, bool], None]


@dataclass
class Replicas:
    """Servers on one volume that share one public URL, which is the first one's."""

    servers: list[ServerProcess]
    provider: IdentityProvider
    clients: ExitStack = field(default_factory=ExitStack)

    def http(self, number: int = 0) -> httpx.Client:
        """A connection to one replica."""
        return self.clients.enter_context(httpx.Client(base_url=self.servers[number].url, timeout=HANGS_AFTER))

    def client(self, name: str = "A test client") -> OAuthClient:
        """A client that signed in at the first replica."""
        client = self.new_client()
        client.register(client_name=name).raise_for_status()
        client.redeem(client.code()).raise_for_status()
        return client

    def new_client(self) -> OAuthClient:
        return OAuthClient(self.http(), person=ProxyPerson(quick=True))

    def at(self, number: int, client: OAuthClient) -> OAuthClient:
        """The same client, speaking to another replica."""
        return OAuthClient(self.http(number), client.client_id, client.verifier, dict(client.tokens))


@pytest.fixture(params=CHOSEN)
def target(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentityProvider]:
    provider = IdentityProvider(tmp_path_factory.mktemp("identity-provider")).start()
    yield provider
    provider.stop()


@pytest.fixture
def storage() -> Mapping[str, str]:
    """Where replicas keep their store: on the volume that they share, unless other tests say otherwise."""
    return {}


@pytest.fixture
def start_replicas(
    target: str, provider: IdentityProvider, storage: Mapping[str, str], tmp_path: Path
) -> Iterator[StartReplicas]:
    """Start replicas of the target that sign in at the identity provider."""
    with ExitStack() as everything:

        def start(count: int = 1, chosen: IdentityProvider | None = None, **environment: str) -> Replicas:
            servers: list[ServerProcess] = [
                TARGETS[target](tmp_path / "data", tmp_path / f"{target}-{number}.log", **{**storage, **environment})
                for number in range(count)
            ]
            used = chosen or provider
            shared = proxy_environment(used, servers[0].url)
            for server in servers:
                server.environment.update({name: value for name, value in shared.items() if name not in environment})
                everything.callback(server.stop)
                server.start()
            replicas = Replicas(servers, used)
            everything.callback(replicas.clients.close)
            return replicas

        yield start


@pytest.fixture
def tell(target: str, say: Say) -> Tell:
    """Write a row of the table; of Holdfast it must say that the promise is kept."""

    def tell(promise: str, observed: str, kept: bool) -> None:
        say("promises", promise, f"    {target:10}{'kept' if kept else 'BROKEN'}: {observed}")
        assert kept or target != "holdfast", f"{promise}: {observed}"

    return tell
