"""The image, volumes and containers that end with their test."""

import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest

from harness.container import Container, built_image, docker, run_to_end
from harness.oauth import OAuthClient, Person, answer_parameters
from harness.server import PIN
from harness.waiting import HANGS_AFTER

RunContainer = Callable[..., Container]
SignIn = Callable[..., OAuthClient]
RunToEnd = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def image() -> str:
    return built_image()


@pytest.fixture
def make_volume() -> Iterator[Callable[[], str]]:
    """Make named volumes, empty."""
    names: list[str] = []

    def make() -> str:
        names.append(docker("volume", "create", f"holdfast-test-{uuid.uuid4().hex[:12]}"))
        return names[-1]

    yield make
    for name in names:
        docker("volume", "rm", "--force", name)


@pytest.fixture
def volume(make_volume: Callable[[], str]) -> str:
    return make_volume()


@pytest.fixture
def launch_container(image: str, volume: str) -> Iterator[RunContainer]:
    """Start containers of the image, by default on the test's volume."""
    containers: list[Container] = []

    def launch(*arguments: str, flags: tuple[str, ...] = (), **environment: str) -> Container:
        container = Container((f"--volume={volume}:/data", *flags), arguments, environment)
        containers.append(container)
        return container.run()

    yield launch
    for container in containers:
        container.remove()


@pytest.fixture
def run_container(launch_container: RunContainer) -> RunContainer:
    """Start containers and wait until they are ready."""

    def run(*arguments: str, flags: tuple[str, ...] = (), **environment: str) -> Container:
        return launch_container(*arguments, flags=flags, **environment).wait_until_ready()

    return run


@pytest.fixture
def run_command(image: str) -> RunToEnd:
    """Run the image with a command that ends by itself."""

    def run(*arguments: str, flags: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        return run_to_end(*flags, image, *arguments)

    return run


@pytest.fixture
def sign_in() -> Iterator[SignIn]:
    """Register clients at a server's URL and have a person with the PIN approve them."""
    with ExitStack() as clients:

        def sign_in(url: str, pin: str = PIN) -> OAuthClient:
            client = OAuthClient(clients.enter_context(httpx.Client(base_url=url, timeout=HANGS_AFTER)))
            client.register().raise_for_status()
            answer = Person(client.http).approve(client.authorize().headers["location"], pin=pin)
            client.redeem(answer_parameters(answer)["code"]).raise_for_status()
            return client

        yield sign_in
