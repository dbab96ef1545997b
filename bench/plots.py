"""Draw what was found, as SVG: calls, the distribution of their latency, starts, growth with records, and workers."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from bench.result import Result
from bench.servers import PERCENTILES

# The same figures give the same file: no random identifiers, no date; text stays text.
mpl.rcParams.update({"svg.hashsalt": "bench", "svg.fonttype": "none", "figure.constrained_layout.use": True})
METADATA = {"Date": None, "Creator": "bench"}

AT_ONCE = ("1", "16", "64")
DRAWN_LATENCIES = "16"
SMALLEST_LATENCY = 0.1
"""In milliseconds, for a logarithmic axis."""


def draw(found: Mapping[str, Result], directory: Path) -> None:
    """Draw each plot whose row was measured."""
    plots = (
        ("tool_calls", "throughput", throughput),
        ("tool_calls", "latency", latency),
        ("start", "start", start),
        ("records", "growth", growth),
        ("many_records", "growth-many", growth),
        ("worker_classes", "worker-classes", worker_classes),
    )
    for row, name, plot in plots:
        if row in found:
            figure, axes = plt.subplots(figsize=(8, 4.5))
            plot(axes, found[row])
            figure.savefig(directory / f"{name}.svg", metadata=METADATA)
            plt.close(figure)


def throughput(axes: Axes, result: Result) -> None:
    """Medians of calls a second, by server and calls at once."""
    _by_server(axes, result.raw, "calls a second")


def worker_classes(axes: Axes, result: Result) -> None:
    """Medians of the CPU time of a call, by server and calls at once."""
    _by_server(axes, result.raw["calls"], "CPU ms a call")


def _by_server(axes: Axes, measured: Mapping[str, Mapping[str, Any]], what: str) -> None:
    servers = list(measured)
    for number, at_once in enumerate(AT_ONCE):
        lengths = [statistics.median(found[what] for found in measured[server][at_once]) for server in servers]
        axes.barh([place + 0.27 * (number - 1) for place in range(len(servers))], lengths, 0.25, label=at_once)
    axes.set_yticks(range(len(servers)), servers)
    axes.invert_yaxis()
    axes.set_xlabel(what)
    axes.legend(title="calls at once")


def latency(axes: Axes, result: Result) -> None:
    """The distribution of the latency under 16 calls at once, as the medians of the rounds' percentiles."""
    for server, of in result.raw.items():
        rounds = [found["percentiles ms"] for found in of[DRAWN_LATENCIES]]
        axes.plot(
            [max(SMALLEST_LATENCY, statistics.median(values)) for values in zip(*rounds, strict=True)],
            PERCENTILES,
            label=server,
        )
    axes.set_xscale("log")
    axes.set_xlabel(f"ms, {DRAWN_LATENCIES} calls at once")
    axes.set_ylabel("% of calls that took no longer")
    axes.legend(fontsize="small")


def start(axes: Axes, result: Result) -> None:
    """From exec to ready: every start, and the medians."""
    labels: list[str] = []
    for share, of in result.raw["starts"].items():
        for server, rounds in of.items():
            times = [taken["ready s"] for taken in rounds]
            axes.barh(len(labels), statistics.median(times), color="C1" if server.startswith("holdfast") else "C0")
            axes.plot(times, [len(labels)] * len(times), "k.", markersize=3)
            labels.append(f"{server}, {share} CPU")
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.set_xlabel("exec to ready, s")


def growth(axes: Axes, result: Result) -> None:
    """What an operation takes in trees of so many records."""
    sizes = [size for size in result.raw if size.isdigit()]
    for target in ("holdfast", "stock"):
        for operation in ("get", "put", "add"):
            medians = [_median(result.raw[size][f"{target} {operation}"]) for size in sizes]
            style = "-" if target == "holdfast" else "--"
            axes.plot([int(size) for size in sizes], medians, f"o{style}", label=f"{target} {operation}")
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("records")
    axes.set_ylabel("ms")
    axes.legend(fontsize="small")


def _median(seconds: Sequence[float]) -> float:
    return 1000 * statistics.median(seconds)
