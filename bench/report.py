"""Write down what was found: one table of goals for all rows, then each row's own tables; raw JSON and plots beside."""

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from bench import HERE
from bench.plots import draw
from bench.result import Result, markdown
from harness.stock import stock_python

RESULTS = HERE / "results.md"
RAW = HERE / "results"
PACKAGES = ("fastmcp", "mcp", "starlette", "pydantic", "anyio", "uvicorn", "uvloop", "httptools", "gunicorn")
GOALS = ("what", "goal", "found", "verdict")


def print_results(results: Mapping[str, Result]) -> None:
    print(markdown([GOALS, *(verdict.cells() for result in results.values() for verdict in result.verdicts)]))
    for result in results.values():
        print("", *(markdown(rows) for rows in result.tables), sep="\n\n", flush=True)


def write_results(results: Mapping[str, Result], order: Iterable[str]) -> None:
    """Write these rows anew, and keep what the others said."""
    RAW.mkdir(exist_ok=True)
    for row, result in results.items():
        written = {**result.as_json(), "machine": machine()}
        # Through JSON, so that what is drawn and told now is what will be read later.
        (RAW / f"{row}.json").write_text(json.dumps(written, separators=(",", ":")) + "\n", encoding="utf-8")
    known = {row: json.loads(file.read_text()) for row in order if (file := RAW / f"{row}.json").exists()}
    machines = {row: said.pop("machine") for row, said in known.items()}
    found = {row: Result.from_json(said) for row, said in known.items()}
    RESULTS.write_text("\n\n".join(sections(found, machines)) + "\n", encoding="utf-8")
    draw(found, RAW)


def sections(found: Mapping[str, Result], machines: Mapping[str, str]) -> Iterable[str]:
    goals = [verdict.cells() for result in found.values() for verdict in result.verdicts]
    yield "# Results of the benchmarks"
    yield "`make bench` writes this page. Medians of paired rounds; several are of what a line or its section names."
    yield markdown([GOALS, *goals])
    for row, result in found.items():
        yield f"## {result.title}"
        yield result.how.strip()
        yield from (markdown(rows) for rows in result.tables)
        yield machines[row]


@cache
def machine() -> str:
    """What it was measured on and with; both environments have the packages of constraints.txt."""
    script = f"import importlib.metadata as m; print(*(p + ' ' + m.version(p) for p in {PACKAGES}), sep=', ')"
    versions = subprocess.run([stock_python(), "-c", script], check=True, capture_output=True, text=True).stdout.strip()
    return f"{hardware()}, Python {platform.python_version()}. {versions}."


def hardware() -> str:
    """The processor and the kernel."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
    return f"{model}, {len(os.sched_getaffinity(0))} cores. Linux {platform.release()}"
