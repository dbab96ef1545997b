"""From exec to ready: the exasol payload on one processor and on a quarter of one, and what Holdfast adds to FastMCP.

Both exasol servers have a login at GitHub, which neither asks at a start. Holdfast is ready when /readyz
is 200, a stock server when it answers anything. Each start is a new process on a warm file cache, with bytecode,
in an environment that has the packages of its image and no others: pydantic looks for its plugins in all there are.
What is imported is told by CPython itself in one more start of each, which takes longer for it.
"""

import http.client
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench import PROGRAMS
from bench.imports import PROFILED, import_table, imported
from bench.processes import confine, cpu_seconds, processors
from bench.result import Progress, Result, Scale, Verdict
from harness.environments import interpreter_of
from harness.server import Server, ServerProcess
from harness.stock import stock_python

SHARES = (1.0, 0.25)
"""Of a processor, as on Fargate's smallest tasks."""

ASKED_EVERY, READY_WITHIN = 0.01, 120.0
"""In seconds."""

EXASOL = {"EXA_DSN": "127.0.0.1:1", "EXA_USER": "u", "EXA_PASSWORD": "p", "EXASOL_TELEMETRY_DISABLE": "1"}
EXASOL_STOCK, EXASOL_OURS = "stock, exasol", "holdfast, exasol"
BARE_STOCK, BARE_OURS = "FastMCP, one tool", "holdfast, one tool"


Found = dict[str, dict[str, list[dict[str, float]]]]
"""What each start took, by the share of a processor and the server."""


class Program(ServerProcess):
    """A stock server."""

    ready_path = "/mcp"

    def __init__(self, log: Path, program: Sequence[str], **environment: str) -> None:
        super().__init__(log, {"FASTMCP_HOME": str(log.with_suffix("")), **environment})
        self._program = program

    def command(self) -> Sequence[str]:
        return [argument.replace("PORT", str(self.port)) for argument in self._program]


def github(prefix: str) -> dict[str, str]:
    """The settings of a login at GitHub, for exasol's own start and for Holdfast, which name them differently."""
    settings = {"CLIENT_ID": "bench", "CLIENT_SECRET": "a-secret-of-the-bench-of-enough-length"}
    return {
        "FASTMCP_SERVER_AUTH": "fastmcp.server.auth.providers.github.GitHubProvider",
        **{f"FASTMCP_SERVER_AUTH_{prefix}_{name}": value for name, value in settings.items()},
    }


def servers(directory: Path) -> dict[str, ServerProcess]:
    stock, bare = stock_python(), str(PROGRAMS / "bare.py")
    program = "from exasol.ai.mcp.server.main import main_http; main_http()"
    exasol = [str(stock), "-c", program, "--host", "0.0.0.0", "--port", "PORT"]
    ours = {"PATH": f"{interpreter_of('holdfast-fastmcp3').parent}:{os.environ['PATH']}"}
    made: dict[str, ServerProcess] = {
        EXASOL_STOCK: Program(directory / "stock-exasol.log", exasol, **EXASOL),
        EXASOL_OURS: Server(directory / "exasol", directory / "exasol.log", HOLDFAST_SERVER="exasol", **EXASOL, **ours),
        BARE_STOCK: Program(directory / "stock-bare.log", [str(stock), bare]),
        BARE_OURS: Server(directory / "bare", directory / "bare.log", HOLDFAST_SERVER=bare, **ours),
    }
    made[EXASOL_OURS].environment.update(github("GITHUB"))
    stock_url = {"FASTMCP_SERVER_AUTH_GITHUBPROVIDER_BASE_URL": made[EXASOL_STOCK].url}
    made[EXASOL_STOCK].environment.update({**github("GITHUBPROVIDER"), **stock_url})
    return made


def one_start(server: ServerProcess) -> dict[str, float]:
    """Seconds until it is ready, and the CPU time that it has used by then."""
    began = time.perf_counter()
    server.launch()
    try:
        while not is_ready(server):
            if time.perf_counter() - began > READY_WITHIN or server.has_ended():
                raise RuntimeError(f"it does not get ready:\n{server.output()}")
            time.sleep(ASKED_EVERY)
        return {"ready s": time.perf_counter() - began, "CPU s": cpu_seconds(server.process_id)}
    finally:
        server.stop()


def imports_of(server: ServerProcess) -> dict[str, float]:
    server.environment.update(PROFILED)
    one_start(server)
    return imported(server.output())


def is_ready(server: ServerProcess) -> bool:
    """Ask it at little cost: what asks shares the machine with what is measured."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request("GET", server.ready_path)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return status == 200 if isinstance(server, Server) else status < 500


def measure(scale: Scale, progress: Progress) -> Result:
    found: Found = defaultdict(lambda: defaultdict(list))
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for share in SHARES:
            processes = stack.enter_context(processors(share))
            chosen = {name: server for name, server in servers(directory).items() if share == 1 or "exasol" in name}
            for server in chosen.values():
                confine(server, processes)
            for number in scale.numbers if share == 1 else range(1, scale.rounds + 1):
                progress(f"start at {share:g} CPU, round {number} of {scale.rounds}")
                for name, server in chosen.items():
                    taken = one_start(server)
                    # The first round fills the file cache.
                    if number:
                        found[f"{share:g}"][name].append(taken)
        progress("imports")
        packages = {name: imports_of(server) for name, server in servers(directory).items()}
    return result(found, packages)


def median(rounds: Sequence[dict[str, float]], what: str) -> float:
    return statistics.median(taken[what] for taken in rounds)


def result(found: Found, packages: Mapping[str, Mapping[str, float]]) -> Result:
    def ratio(share: str) -> float:
        pairs = zip(found[share][EXASOL_OURS], found[share][EXASOL_STOCK], strict=True)
        return statistics.median(ours["ready s"] / stock["ready s"] for ours, stock in pairs)

    pairs = zip(found["1"][BARE_OURS], found["1"][BARE_STOCK], strict=True)
    added = statistics.median(ours["CPU s"] - stock["CPU s"] for ours, stock in pairs)
    rows: list[list[str]] = [["server", "CPUs", "exec to ready, s", "CPU time, s"]]
    for share, of in found.items():
        rows += [
            [name, share, f"{median(rounds, 'ready s'):.2f}", f"{median(rounds, 'CPU s'):.2f}"]
            for name, rounds in of.items()
        ]
    verdicts = [
        Verdict("exec to ready, exasol payload, against stock, 1 CPU", "at most", 0.6, [ratio("1")]),
        Verdict("the same, 0.25 CPU", "at most", 0.6, [ratio("0.25")]),
        Verdict("CPU time of a start, more than a bare FastMCP server", "at most", 0.3, [added], "s"),
    ]
    raw: dict[str, Any] = {"starts": {share: dict(of) for share, of in found.items()}, "imports ms": packages}
    return Result("Start", (__doc__ or "").partition("\n\n")[2], verdicts, [rows, import_table(packages)], raw)
