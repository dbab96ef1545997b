"""A browser with a person at it, and the containers and client programs of one test."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from clients.person import Person
from clients.program import ClientProgram
from clients.story import RunContainer, StartClient
from harness.container import HARDENED, Container
from harness.server import free_port

# Without a screen, as root and without a word to hosts of its maker.
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM_FLAGS)


@pytest.fixture
def person(browser: Browser, tmp_path: Path) -> Person:
    return Person(browser, tmp_path / "opened-pages")


@pytest.fixture
def run_container() -> Iterator[RunContainer]:
    """Run the image on a new volume, which goes when its container does."""
    with ExitStack() as containers:

        def run(port: int | None = None, **environment: str) -> Container:
            container = Container(HARDENED, environment=environment, port=port or free_port())
            containers.callback(container.remove)
            return container.run().wait_until_ready()

        yield run


@pytest.fixture
def start_client(person: Person, tmp_path: Path) -> Iterator[StartClient]:
    """Start client programs that end with the test."""
    with ExitStack() as clients:

        def start(command: list[str]) -> ClientProgram:
            client = ClientProgram(command, tmp_path, person)
            clients.callback(client.stop)
            client.start()
            return client

        yield start
