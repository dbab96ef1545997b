"""The servers that are compared, all with the same small tool (programs/calculator.py), and how they are loaded."""

import json
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bench import PROGRAMS
from bench.processes import cpu_seconds
from bench.result import Progress, Scale
from harness.identity_provider import IdentityProvider
from harness.oauth import OAuthClient
from harness.proxy_login import ProxyPerson, proxy_environment
from harness.server import Server, ServerProcess
from harness.stock import StockServer, stock_python

CALLS_AT_ONCE = (1, 16, 64)
Rounds = dict[str, dict[int, list[dict[str, Any]]]]
"""What each load of a server found, by its name and the number of calls at once."""

CALCULATOR = PROGRAMS / "calculator.py"
SLOW = {"SLOW_FILES": "0.002"}
ANONYMOUS = {"FASTMCP_SERVER_AUTH": "none"}
OURS = {
    "HOLDFAST_SERVER": str(CALCULATOR),
    "HOLDFAST_REPLICAS": "true",
    "FASTMCP_JSON_RESPONSE": "true",
    "HOLDFAST_STORAGE_KEY": "k" * 40,
    "HOLDFAST_SIGNING_KEY": "s" * 40,
}
PERCENTILES = (*range(1, 100), 99.9)


class Stock(StockServer):
    """Stock FastMCP with uvicorn, as its own `run` starts it."""

    ready_path = "/mcp"

    def command(self) -> Sequence[str]:
        return [str(stock_python()), str(CALCULATOR)]

    def answers(self) -> bool:
        """Whether it answers anything: a GET of the endpoint is no good request."""
        try:
            return httpx.get(f"{self.url}{self.ready_path}", timeout=5).status_code < 500
        except httpx.TransportError:
            return False


class OtherwiseStarted(Server):
    """Holdfast, started by another program than the image's."""

    def __init__(self, home: Path, log: Path, program: Sequence[str], **environment: str) -> None:
        super().__init__(home, log, **environment)
        self._program = program

    def command(self) -> Sequence[str]:
        return self._program


@dataclass(frozen=True)
class Kind:
    """A server to compare: whose it is, and its environment beside what all of that kind have.

    A `program` is what starts Holdfast instead of the image's.
    """

    is_stock: bool
    environment: Mapping[str, str]
    program: Sequence[str] = ()

    def made(self, directory: Path, name: str) -> ServerProcess:
        home = directory / name.replace(" ", "-").replace(",", "")
        log = home.with_suffix(".log")
        if self.is_stock:
            return Stock(home, log, **self.environment)
        environment = {**OURS, **self.environment}
        if self.program:
            return OtherwiseStarted(home, log, self.program, **environment)
        return Server(home, log, **environment)


@dataclass(frozen=True)
class Started:
    """A server that runs, with the token for its calls where it wants one."""

    server: ServerProcess
    token: str


@contextmanager
def running(kinds: Mapping[str, Kind], progress: Progress) -> Iterator[dict[str, Started]]:
    """Start servers, and sign in where one wants it."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        provider = IdentityProvider(directory / "identity-provider", access_token_lifetime=24 * 3600).start()
        stack.callback(provider.stop)
        started = {}
        for name, kind in kinds.items():
            server = kind.made(directory, name)
            is_anonymous = kind.environment.get("FASTMCP_SERVER_AUTH") == "none"
            if not is_anonymous:
                server.environment.update(proxy_environment(provider, server.url))
            stack.callback(server.stop)
            server.start()
            started[name] = Started(server, "" if is_anonymous else sign_in(server.url))
            progress(f"started {name}")
        yield started


def sign_in(url: str) -> str:
    """A token for the server at `url`, whose identity provider asks nothing."""
    with httpx.Client(base_url=url, timeout=30) as http:
        return str(OAuthClient(http, person=ProxyPerson(quick=True)).sign_in().tokens["access_token"])


@contextmanager
def generating(url: str, token: str, *, at_once: int, seconds: float) -> Iterator[subprocess.Popen[bytes]]:
    """Load what is at `url` from a process of its own, which is there inside the block."""
    program = str(PROGRAMS / "load_generator.py")
    command = [sys.executable, program, f"{url}/mcp", str(at_once), str(seconds), *filter(None, [token])]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as generator:
        yield generator


def loading(started: Started, *, at_once: int, seconds: float) -> AbstractContextManager[subprocess.Popen[bytes]]:
    return generating(started.server.url, started.token, at_once=at_once, seconds=seconds)


def load(started: Started, *, at_once: int, seconds: float) -> dict[str, Any]:
    """Load a server for so many seconds, and tell what became of its calls and what they took."""
    leader = started.server.process_id
    before = cpu_seconds(leader)
    with loading(started, at_once=at_once, seconds=seconds) as generator:
        answer = generator.communicate()[0]
    return told(json.loads(answer), cpu_seconds(leader) - before, started.server)


def load_in_rounds(started: Mapping[str, Started], scale: Scale, progress: Progress) -> Rounds:
    """Load every server once to warm it, then all in turn in each round, at each number of calls at once."""
    measured: Rounds = defaultdict(lambda: defaultdict(list))
    for one in started.values():
        load(one, at_once=16, seconds=scale.seconds)
    for number in range(scale.rounds):
        progress(f"round {number + 1} of {scale.rounds}")
        for calls in CALLS_AT_ONCE:
            for name, one in started.items():
                measured[name][calls].append(load(one, at_once=calls, seconds=scale.seconds))
    return measured


def told(found: Mapping[str, Any], cpu: float, server: ServerProcess) -> dict[str, Any]:
    latencies, calls = sorted(found["latencies"]), found["calls"]
    if not calls:
        raise RuntimeError(f"no call was answered: {found['errors']}\n{server.output()}")
    return {
        "calls": calls,
        "calls a second": calls / found["seconds"],
        "CPU ms a call": 1000 * cpu / calls,
        "median ms": statistics.median(latencies),
        "99th percentile ms": latencies[int(0.99 * calls)],
        "percentiles ms": [round(latencies[int(percent / 100 * calls)], 3) for percent in PERCENTILES],
        "errors": found["errors"],
    }
