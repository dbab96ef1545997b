"""Each engine, started for real, and servers that keep their store in it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.engines import ENGINES, EngineProcess
from harness.identity_provider import IdentityProvider
from harness.server import Server

StartServer = Callable[..., Server]


@pytest.fixture(scope="session")
def running_engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], EngineProcess]]:
    """Engines by name, each started when it is asked for first."""
    running: dict[str, EngineProcess] = {}

    def get(name: str) -> EngineProcess:
        if name not in running:
            running[name] = ENGINES[name](tmp_path_factory.mktemp(name)).start()
        return running[name]

    yield get
    for engine in running.values():
        engine.kill()


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, running_engines: Callable[[str], EngineProcess]) -> EngineProcess:
    """An engine that runs, with nothing in it."""
    engine = running_engines(request.param)
    engine.empty()
    return engine


@pytest.fixture
def start_server(engine: EngineProcess, tmp_path: Path) -> Iterator[StartServer]:
    """Start servers with the built-in login on the engine; each has a volume of its own, where nothing is kept."""
    with ExitStack() as everything:

        def start(**environment: str) -> Server:
            number = len(list(tmp_path.glob("*.log")))
            log = tmp_path / f"server-{number}.log"
            server = Server(tmp_path / f"home-{number}", log, **{**engine.settings(), **environment})
            everything.callback(server.stop)
            return server.start()

        yield start


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentityProvider]:
    provider = IdentityProvider(tmp_path_factory.mktemp("identity-provider")).start()
    yield provider
    provider.stop()
