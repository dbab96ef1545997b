"""A browser, and the containers and clients of one test."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from clients.client import Client
from clients.kinds import IN_EVERY_RUN, OTHERS, Kinds
from clients.person import Person
from harness.chromium import chromium
from harness.container import HARDENED, Container
from harness.server import free_port

RunContainer = Callable[..., Container]
ClientsOf = Callable[[str], list[Client]]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def run_container() -> Iterator[RunContainer]:
    """Run the image on a new volume, which goes when its container does."""
    with ExitStack() as containers:

        def run(port: int | None = None, **environment: str) -> Container:
            container = Container(HARDENED, environment=environment, port=port or free_port())
            containers.callback(container.remove)
            return container.run().wait_until_ready()

        yield run


@pytest.fixture(params=[IN_EVERY_RUN, pytest.param(OTHERS, marks=pytest.mark.long)], ids=["five kinds", "other kinds"])
def kinds(request: pytest.FixtureRequest) -> Kinds:
    kinds: Kinds = request.param
    return kinds


@pytest.fixture
def clients_of(browser: Browser, tmp_path: Path, kinds: Kinds) -> Iterator[ClientsOf]:
    """Make one of each kind of client for the server at a URL, each with a home and a person of its own."""
    with ExitStack() as running:

        def make(url: str) -> list[Client]:
            clients = []
            for kind in kinds:
                home = tmp_path / kind.__name__
                clients.append(kind(url, home, Person(browser, home / "opened-pages")))
                running.callback(clients[-1].stop)
            return clients

        yield make
