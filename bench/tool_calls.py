"""Calls of a small tool over streamable HTTP (stateless, JSON answers): Holdfast beside stock FastMCP, in turn.

A load generator in a process of its own checks each answer. For each number of calls at once and each server: calls a
second, CPU seconds that the server's processes spend on a call (user and system), and errors. A ratio is the median of
those of single rounds: stock's to ours, so that above 1 Holdfast is the faster one. Writes results/tool-calls.json and
results.md. Run it by `make bench`; `--quick` takes 3 short rounds and writes nothing.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from harness.identity_provider import IdentityProvider
from harness.oauth import OAuthClient
from harness.proxy_login import ProxyPerson, proxy_environment
from harness.server import Server, ServerProcess
from harness.stock import StockServer, stock_python

HERE = Path(__file__).parent
CALCULATOR = HERE / "calculator.py"
RESULTS = HERE / "results.md"
RAW = HERE / "results/tool-calls.json"
CALLS_AT_ONCE = (1, 16, 64)
SLOW = {"SLOW_FILES": "0.002"}
PACKAGES = ("fastmcp", "mcp", "starlette", "pydantic", "anyio", "uvicorn", "uvloop", "httptools", "gunicorn")
TICKS = os.sysconf("SC_CLK_TCK")


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


@dataclass(frozen=True)
class Goal:
    """How many times as fast as another server one shall be."""

    what: str
    server: str
    other: str
    ratio: float


STOCK, STOCK_FILES, STOCK_MEMORY, STOCK_SLOW = (
    "stock, no login",
    "stock, filetree",
    "stock, memory",
    "stock, filetree, 2 ms",
)
STOCK_UVLOOP = "stock, no login, with uvloop and httptools"
OURS, OURS_ANONYMOUS, OURS_SLOW = "holdfast, filetree", "holdfast, no login", "holdfast, filetree, 2 ms"
ALL = (STOCK, STOCK_UVLOOP, OURS, OURS_ANONYMOUS, OURS_SLOW, STOCK_MEMORY, STOCK_FILES, STOCK_SLOW)
GOALS = (
    Goal("signed in, against stock without a login", OURS, STOCK, 1.0),
    Goal("the same, 2 ms more a file operation", OURS_SLOW, STOCK, 1.0),
    Goal("signed in, against stock signed in", OURS, STOCK_FILES, 5.0),
    Goal("the same, 2 ms more a file operation", OURS_SLOW, STOCK_SLOW, 5.0),
    Goal("without a login, against stock", OURS_ANONYMOUS, STOCK, 2.0),
)


def servers(directory: Path) -> dict[str, ServerProcess]:
    """All that are compared, in the order of their turns."""
    anonymous = {"FASTMCP_SERVER_AUTH": "none"}
    ours = {"HOLDFAST_SERVER": str(CALCULATOR), "HOLDFAST_REPLICAS": "true", "FASTMCP_JSON_RESPONSE": "true"}
    ours |= {"HOLDFAST_STORAGE_KEY": "k" * 40, "HOLDFAST_SIGNING_KEY": "s" * 40}

    def stock(name: str, **environment: str) -> ServerProcess:
        return Stock(directory / name, directory / f"{name}.log", **environment)

    def holdfast(name: str, **environment: str) -> ServerProcess:
        return Server(directory / name, directory / f"{name}.log", **ours, **environment)

    return {
        STOCK: stock("stock", **anonymous),
        STOCK_UVLOOP: stock("stock-uvloop", STOCK_LOOP="uvloop httptools", **anonymous),
        OURS: holdfast("holdfast"),
        OURS_ANONYMOUS: holdfast("holdfast-anonymous", HOLDFAST_ALLOW_ANONYMOUS="true", **anonymous),
        OURS_SLOW: holdfast("holdfast-slow", **SLOW),
        STOCK_MEMORY: stock("stock-memory", STOCK_STORE="memory"),
        STOCK_FILES: stock("stock-files"),
        STOCK_SLOW: stock("stock-slow", **SLOW),
    }


def sign_in(server: ServerProcess) -> str:
    with httpx.Client(base_url=server.url, timeout=30) as http:
        return str(OAuthClient(http, person=ProxyPerson(quick=True)).sign_in().tokens["access_token"])


@contextmanager
def running(names: Sequence[str]) -> Iterator[dict[str, tuple[ServerProcess, str]]]:
    """Start servers, and sign in where one wants it: each with the token for its calls."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        provider = IdentityProvider(directory / "identity-provider", access_token_lifetime=24 * 3600).start()
        stack.callback(provider.stop)
        started = {}
        for name, server in servers(directory).items():
            if name not in names:
                continue
            is_anonymous = server.environment.get("FASTMCP_SERVER_AUTH") == "none"
            if not is_anonymous:
                server.environment.update(proxy_environment(provider, server.url))
            stack.callback(server.stop)
            server.start()
            started[name] = server, "" if is_anonymous else sign_in(server)
            progress(f"started {name}")
        yield started


def cpu_seconds(leader: int) -> float:
    """User and system time of all processes of a session (proc_pid_stat(5))."""
    ticks = 0
    for process in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = process.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS


def measure(server: ServerProcess, token: str, *, at_once: int, seconds: float) -> dict[str, Any]:
    """Load a server for so many seconds."""
    url = f"{server.url}/mcp"
    command = [sys.executable, str(HERE / "load_generator.py"), url, str(at_once), str(seconds), *filter(None, [token])]
    before = cpu_seconds(server.process_id)
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    cpu = cpu_seconds(server.process_id) - before
    latencies, calls = sorted(found["latencies"]), found["calls"]
    if not calls:
        raise RuntimeError(f"no call was answered: {found['errors']}\n{server.output()}")
    return {
        "calls": calls,
        "calls a second": calls / found["seconds"],
        "CPU ms a call": 1000 * cpu / calls,
        "median ms": statistics.median(latencies),
        "99th percentile ms": latencies[int(0.99 * calls)],
        "errors": found["errors"],
    }


Rounds = dict[str, dict[int, list[dict[str, Any]]]]


def rounds_of(names: Sequence[str], at_once: Sequence[int], *, rounds: int, seconds: float) -> Rounds:
    """What was measured, by server and calls at once, one entry a round; the first round is for warming up."""
    measured: Rounds = defaultdict(lambda: defaultdict(list))
    with running(names) as started:
        for server, token in started.values():
            measure(server, token, at_once=16, seconds=seconds)
        for number in range(rounds):
            progress(f"round {number + 1} of {rounds}")
            for calls in at_once:
                for name, (server, token) in started.items():
                    measured[name][calls].append(measure(server, token, at_once=calls, seconds=seconds))
    return measured


def progress(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def ratios(measured: Rounds, goal: Goal, at_once: int) -> dict[str, float]:
    """Medians of the ratios of single rounds; above 1 means faster than the other."""
    pairs = list(zip(measured[goal.server][at_once], measured[goal.other][at_once], strict=True))

    def median(ratio: Callable[[dict[str, Any], dict[str, Any]], float]) -> float:
        return statistics.median(ratio(ours, other) for ours, other in pairs)

    return {
        "time": median(lambda ours, other: ours["calls a second"] / other["calls a second"]),
        "CPU": median(lambda ours, other: other["CPU ms a call"] / ours["CPU ms a call"]),
    }


def table(rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown; the first row is its head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], f"|{'---|' * len(rows[0])}", *lines[1:]])


def goal_table(measured: Rounds, at_once: Sequence[int]) -> str:
    rows = [["goal", "at least", *(f"{calls} at once" for calls in at_once), "CPU a call", "verdict"]]
    for goal in GOALS:
        if goal.server in measured and goal.other in measured:
            found = [ratios(measured, goal, calls) for calls in at_once]
            cpu = " / ".join(f"{of['CPU']:.2f}" for of in found)
            is_met = all(of["time"] >= goal.ratio for of in found)
            times = [f"{of['time']:.2f}" for of in found]
            rows.append([goal.what, f"{goal.ratio:.1f}", *times, cpu, "met" if is_met else "**missed**"])
    return table(rows)


def server_table(measured: Rounds, at_once: Sequence[int]) -> str:
    """Medians of all rounds, with the errors of all."""
    rows = [["server", "at once", "calls/s", "CPU ms a call", "median ms", "99th percentile ms", "errors"]]
    for name, of in measured.items():
        for calls in at_once:
            columns = ("calls a second", "CPU ms a call", "median ms", "99th percentile ms")
            medians = [statistics.median(found[column] for found in of[calls]) for column in columns]
            errors = sum(sum(found["errors"].values()) for found in of[calls])
            digits = (0, 3, 2, 2)
            figures = [f"{figure:.{places}f}" for figure, places in zip(medians, digits, strict=True)]
            rows.append([name, str(calls), *figures, str(errors)])
    return table(rows)


def machine() -> dict[str, str]:
    """What it was measured on and with; both environments have the packages of constraints.txt."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
    cores = len(os.sched_getaffinity(0))
    script = f"import importlib.metadata as m; print(*(p + ' ' + m.version(p) for p in {PACKAGES}), sep=', ')"
    versions = subprocess.run([stock_python(), "-c", script], check=True, capture_output=True, text=True).stdout.strip()
    return {
        "processor": f"{model}, {cores} cores",
        "system": f"Linux {platform.release()}, Python {platform.python_version()}",
        "packages": versions,
    }


def write_section(title: str, text: str) -> None:
    """Put a section into results.md, in the place of what it said before."""
    old = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else "# Results of the benchmarks\n"
    head, *sections = old.split("\n## ")
    kept = {section.partition("\n")[0]: section.partition("\n")[2].strip() for section in sections}
    kept[title] = text.strip()
    parts = [head.strip(), *(f"## {name}\n\n{content}" for name, content in kept.items())]
    RESULTS.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 short rounds; writes nothing")
    parser.add_argument("--only", metavar="SERVER", nargs="+", help="some of the servers; writes nothing")
    parser.add_argument("--at-once", metavar="CALLS", nargs="+", type=int, default=CALLS_AT_ONCE)
    options = parser.parse_args()
    names = options.only or ALL
    rounds, seconds = (3, 1.0) if options.quick else (7, 2.0)
    measured = rounds_of(names, options.at_once, rounds=rounds, seconds=seconds)
    about = machine()
    goals, by_server = goal_table(measured, options.at_once), server_table(measured, options.at_once)
    print(goals, by_server, *about.values(), sep="\n\n")
    if not (options.quick or options.only):
        RAW.parent.mkdir(exist_ok=True)
        RAW.write_text(json.dumps({"machine": about, "rounds": measured}, indent=1) + "\n", encoding="utf-8")
        said = f"{rounds} rounds of {seconds:.0f} s in turn. " + " ".join(f"{text}." for text in about.values())
        write_section("Tool calls", f"{goals}\n\n{by_server}\n\n{said}")


if __name__ == "__main__":
    main()
