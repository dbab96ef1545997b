"""The same Holdfast served in other ways: by gunicorn's worker classes, by granian, and by uvicorn alone.

A signed-in tool call with its answer in JSON, on sealed files and one worker process. The application, its settings,
uvloop and the garbage collector are the same for all. Only the image's class bounds headers and slow clients
(`http/connections.py`); uvicorn-worker as it comes stands beside it. gunicorn's own class has the parser in Python that
comes with it: the one in C has no built package.

The ratio is of CPU time a call to the image's, the median of those of single rounds, above 1 where the image's takes
less. Memory is proportional (PSS), of all processes, after the calls.

Then each is started anew, and gets a header that is too long, clients that do not go on, and SIGTERM in a call of 3 s,
with a drain of 2 s, in which a server shall still say that it is not ready.
"""

import statistics
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from bench import PROGRAMS
from bench.processes import proportional_bytes
from bench.result import Progress, Result, Scale
from bench.robustness import DRAIN, table_of
from bench.servers import ANONYMOUS, CALLS_AT_ONCE, Kind, Rounds, load_in_rounds, running
from harness.environments import interpreter_of

COLUMNS = ("calls a second", "CPU ms a call", "median ms", "99th percentile ms")
PATIENT = {"HOLDFAST_SERVER": str(PROGRAMS / "patient.py"), "HOLDFAST_ALLOW_ANONYMOUS": "true", **ANONYMOUS, **DRAIN}
IMAGE = "gunicorn, as in the image"


def kinds(environment: Mapping[str, str]) -> dict[str, Kind]:
    """Every server, with an environment beside what each has."""

    def by(server: str, **more: str) -> Kind:
        return Kind(False, {**environment, **more}, (sys.executable, str(PROGRAMS / "other_server.py"), server))

    return {
        IMAGE: Kind(False, environment),
        "gunicorn, uvicorn-worker as it comes": by("uvicorn_worker.UvicornWorker"),
        "gunicorn, its own ASGI worker": by("asgi"),
        "granian": by("granian", PYTHONPATH=extra_packages()),
        "uvicorn alone": by("uvicorn"),
    }


def extra_packages() -> str:
    """Where the packages are that only this row needs; the others are this environment's."""
    (directory,) = interpreter_of("servers").parents[1].glob("lib/python*/site-packages")
    return str(directory)


def measure(scale: Scale, progress: Progress) -> Result:
    with running(kinds({}), progress) as started:
        measured = load_in_rounds(started, scale, progress)
        memory = {name: proportional_bytes(one.server.process_id) for name, one in started.items()}
    progress("clients that do not go on, and stops")
    robustness = try_robustness()
    tables = [table(measured), [["server", "PSS, MB"], *([name, f"{1e-6 * of:.0f}"] for name, of in memory.items())]]
    raw = {"calls": measured, "PSS": memory, "robustness": robustness}
    return Result("Worker classes", (__doc__ or "").partition("\n\n")[2], [], [*tables, robustness], raw)


def try_robustness() -> list[list[str]]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = {name: kind.made(directory, name) for name, kind in kinds(PATIENT).items()}
        for server in servers.values():
            stack.callback(server.stop)
            server.start()
        return table_of(servers)


def table(measured: Rounds) -> list[list[str]]:
    """Medians of all rounds, with the errors of all."""
    rows = [["server", "at once", "calls/s", "CPU ms a call", "ratio", "median ms", "99th percentile ms", "errors"]]
    for calls in CALLS_AT_ONCE:
        for name, of in measured.items():
            rate, cpu, *latencies = (statistics.median(found[column] for found in of[calls]) for column in COLUMNS)
            pairs = zip(of[calls], measured[IMAGE][calls], strict=True)
            ratio = statistics.median(other["CPU ms a call"] / image["CPU ms a call"] for other, image in pairs)
            errors = sum(sum(found["errors"].values()) for found in of[calls])
            figures = [f"{rate:.0f}", f"{cpu:.3f}", f"{ratio:.2f}", *(f"{latency:.2f}" for latency in latencies)]
            rows.append([name, str(calls), *figures, str(errors)])
    return rows
