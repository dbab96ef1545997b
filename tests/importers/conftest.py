"""What other servers left, and Holdfast in their place."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from harness.identity_provider import IdentityProvider
from harness.oauth import OAuthClient
from harness.proxy_login import ProxyPerson, proxy_environment
from harness.server import Server
from harness.waiting import HANGS_AFTER
from importers.old_servers import LeftBehind, OldServer

VERSIONS = ("fastmcp-2", "fastmcp-3", "fastmcp-4")
CLIENTS = 8
StartHoldfast = Callable[..., Server]
RunHoldfast = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def identity_provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentityProvider]:
    provider = IdentityProvider(tmp_path_factory.mktemp("identity-provider")).start()
    yield provider
    provider.stop()


def sign_in_at(version: str, provider: IdentityProvider, directory: Path, **environment: str) -> LeftBehind:
    """Have clients sign in at FastMCP of a version, and kill it."""
    server = OldServer(version, directory / "home", directory / "log", **environment)
    server.environment |= proxy_environment(provider, server.url)
    server.start()
    clients = []
    with httpx.Client(base_url=server.url, timeout=HANGS_AFTER) as http:
        for _ in range(CLIENTS):
            client = OAuthClient(http, person=ProxyPerson(quick=True)).sign_in()
            assert client.call().is_success
            clients.append(client)
    server.kill()
    return LeftBehind(directory / "home", server.environment, clients)


@pytest.fixture(scope="module", params=VERSIONS)
def left_behind(
    request: pytest.FixtureRequest, identity_provider: IdentityProvider, tmp_path_factory: pytest.TempPathFactory
) -> LeftBehind:
    """What each version of FastMCP left."""
    return sign_in_at(request.param, identity_provider, tmp_path_factory.mktemp(request.param))


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[LeftBehind], LeftBehind]:
    """A copy of what was left, to do with what one likes."""

    def copy(left_behind: LeftBehind) -> LeftBehind:
        home = tmp_path / "copy"
        shutil.copytree(left_behind.home, home)
        return LeftBehind(home, left_behind.environment, left_behind.clients)

    return copy


@pytest.fixture
def start_holdfast(tmp_path: Path) -> Iterator[StartHoldfast]:
    with ExitStack() as everything:

        def start(home: Path, **environment: str) -> Server:
            server = Server(home, tmp_path / "holdfast.log", **environment)
            everything.callback(server.stop)
            return server.start()

        yield start


@pytest.fixture
def run_holdfast() -> RunHoldfast:
    """Run a command beside a server, with the server's own environment."""

    def run(server: Server, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = ["holdfast", *map(str, arguments)]
        environment = {**os.environ, **server.environment}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    return run
