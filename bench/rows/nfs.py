"""Signed-in calls with the store on NFSv4.1, beside stock FastMCP without a login, which uses no files.

Each server is alone in a machine of the lab of tests/nfs: a kernel of its own (User-Mode Linux) on one processor,
several times slower than this one for both, that mounts the export of an NFS server as EFS is mounted. A ratio is the
median of those of single rounds.
"""

import json
import statistics
import sys
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from bench.result import Progress, Result, Scale, Verdict
from bench.servers import ANONYMOUS, CALCULATOR, OURS, generating
from harness.load_balancer import LoadBalancer
from harness.oauth import OAuthClient
from harness.proxy_login import ProxyPerson, proxy_environment
from harness.server import ENTRYPOINT
from harness.stock import stock_python
from nfs.lab import ReachableProvider, machines, nfs_server, shared_directory, unusable
from nfs.machine import Machine
from nfs.network import private_network
from nfs.replica import PUBLIC_URL, SHARED, ProcessReplica

CALLS_AT_ONCE = (1, 16, 64)
MEMORY = 1024
"""Of a machine, in MiB."""

STOCK, HOLDFAST = "stock, no login", "holdfast, filetree on NFS"

Rounds = dict[str, dict[int, list[dict[str, Any]]]]


class Program(ProcessReplica):
    """Ready when it answers anything."""

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/mcp", timeout=5).status_code < 500
        except httpx.TransportError:
            return False


def measure(scale: Scale, progress: Progress) -> Result:
    """Measure it.

    Raises:
        OSError: there can be no lab on this machine.

    """
    if (reason := unusable()) is not None:
        raise OSError(reason)
    measured: Rounds = defaultdict(lambda: defaultdict(list))
    # Made while there is a network that leads to a registry.
    python = stock_python()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(private_network())
        provider = ReachableProvider(directory / "identity-provider", access_token_lifetime=24 * 3600)
        stack.callback(provider.stop)
        provider.start()
        server = stack.enter_context(nfs_server(directory))
        shared_directory(server)
        boot = stack.enter_context(machines(directory))
        started = {
            STOCK: stock(boot(memory=MEMORY), python),
            HOLDFAST: holdfast(boot(memory=MEMORY), provider),
        }
        for name, program in started.items():
            program.start()
            progress(f"started {name}")
        tokens = {STOCK: "", HOLDFAST: sign_in(started[HOLDFAST].url)}
        # The first round pays for what is loaded once.
        for number in scale.numbers:
            progress(f"round {number} of {scale.rounds}")
            for calls in CALLS_AT_ONCE:
                for name, program in started.items():
                    found = load(program.url, tokens[name], calls, scale.seconds)
                    if number:
                        measured[name][calls].append(found)
    return result(measured)


def stock(machine: Machine, python: Path) -> Program:
    return Program(machine, {**ANONYMOUS, "FASTMCP_HOME": "/tmp"}, [str(python), str(CALCULATOR)])


def holdfast(machine: Machine, provider: ReachableProvider) -> Program:
    environment = {
        **OURS,
        **proxy_environment(provider, PUBLIC_URL),
        "FASTMCP_HOME": SHARED,
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOLDFAST_CIMD": "off",
    }
    return Program(machine, environment, [str(ENTRYPOINT)])


def sign_in(url: str) -> str:
    """A token for what is at `url` and has a public URL that only a load balancer knows."""
    balancer = LoadBalancer([url], 0)
    with (
        httpx.Client(mounts={PUBLIC_URL: balancer}, timeout=60) as browser,
        httpx.Client(base_url=PUBLIC_URL, transport=balancer, timeout=60) as http,
    ):
        client = OAuthClient(http, person=ProxyPerson(quick=True, http=browser))
        return str(client.sign_in().tokens["access_token"])


def load(url: str, token: str, at_once: int, seconds: float) -> dict[str, Any]:
    with generating(url, token, at_once=at_once, seconds=seconds) as generator:
        assert generator.stdout is not None
        found = json.loads(generator.stdout.read())
    if not found["calls"]:
        raise RuntimeError(f"no call was answered: {found['errors']}")
    return {
        "calls a second": found["calls"] / found["seconds"],
        "median ms": statistics.median(found["latencies"]),
        "errors": found["errors"],
    }


def result(measured: Rounds) -> Result:
    ratios = []
    rows = [["server", "at once", "calls/s", "median ms", "errors"]]
    for calls in CALLS_AT_ONCE:
        pairs = zip(measured[HOLDFAST][calls], measured[STOCK][calls], strict=True)
        ratios.append(statistics.median(ours["calls a second"] / other["calls a second"] for ours, other in pairs))
    for name, of in measured.items():
        for calls in CALLS_AT_ONCE:
            columns = ("calls a second", "median ms")
            medians = [f"{statistics.median(found[column] for found in of[calls]):.1f}" for column in columns]
            rows.append([name, str(calls), *medians, str(sum(sum(found["errors"].values()) for found in of[calls]))])
    verdict = Verdict("calls a second on NFSv4.1, signed in, against stock without a login", "at least", 1.0, ratios)
    how = f"{(__doc__ or '').partition(chr(10) * 2)[2]} Found are {' / '.join(map(str, CALLS_AT_ONCE))} calls at once."
    return Result("Tool calls on NFS", how, [verdict], [rows], measured)
