"""Servers for the integration tests: real processes on real files, spoken to over real HTTP."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from harness.oauth import OAuthClient, Person
from harness.server import Server
from harness.waiting import HANGS_AFTER

StartServer = Callable[..., Server]


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """Start servers that end with the test; those of one test share a volume unless told otherwise."""
    servers: list[Server] = []

    def start(home: Path = tmp_path / "data", **environment: str) -> Server:
        server = Server(home, tmp_path / f"server-{len(servers)}.log", **environment)
        servers.append(server)
        return server.start()

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server with default settings for all tests of a module."""
    directory = tmp_path_factory.mktemp("server")
    server = Server(directory / "data", directory / "server.log").start()
    yield server
    server.stop()


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=HANGS_AFTER) as client:
        yield client


@pytest.fixture
def client(http: httpx.Client) -> OAuthClient:
    return OAuthClient(http)


@pytest.fixture
def person(http: httpx.Client) -> Person:
    return Person(http)
