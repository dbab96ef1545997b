"""Each engine, started for real, and servers that keep their store in it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path

import pytest

from harness.engines import ENGINES, EngineProcess
from harness.identity_provider import IdentityProvider
from harness.server import Server

StartServer = Callable[..., Server]

LIMITS = ("CONNECTS_WITHIN", "ANSWERS_WITHIN")
UNHURRIED = 60.0


@pytest.fixture
def in_earnest() -> None:
    """For tests of how long a store waits for an engine."""


@pytest.fixture(autouse=True)
def unhurried(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have stores wait for longer: an engine may take longer to answer where other tests have the processors, too."""
    if "in_earnest" in request.fixturenames:
        return
    for backend in ("dynamodb", "mongodb", "postgresql.engine", "redis"):
        for limit in LIMITS:
            monkeypatch.setattr(import_module(f"mcp_holdfast.storage.backends.{backend}"), limit, UNHURRIED)


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
