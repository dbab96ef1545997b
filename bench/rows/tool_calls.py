"""Calls of a small tool over streamable HTTP (stateless, JSON answers), signed in and not.

A load generator in a process of its own checks each answer. Beside calls a second stands the CPU time, user and
system, that the server's processes spend on a call. A ratio is the median of those of single rounds, above 1 where
Holdfast is the faster one. With *2 ms* each file operation takes so much longer, as on a network volume.
"""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bench.result import Progress, Result, Scale, Verdict
from bench.servers import ANONYMOUS, CALLS_AT_ONCE, SLOW, Kind, Rounds, load_in_rounds, running

STOCK, STOCK_FILES, STOCK_MEMORY, STOCK_SLOW = (
    "stock, no login",
    "stock, filetree",
    "stock, memory",
    "stock, filetree, 2 ms",
)
STOCK_UVLOOP = "stock, no login, with uvloop and httptools"
OURS, OURS_ANONYMOUS, OURS_SLOW = "holdfast, filetree", "holdfast, no login", "holdfast, filetree, 2 ms"
KINDS: Mapping[str, Kind] = {
    STOCK: Kind(True, ANONYMOUS),
    STOCK_UVLOOP: Kind(True, {"STOCK_LOOP": "uvloop httptools", **ANONYMOUS}),
    OURS: Kind(False, {}),
    OURS_ANONYMOUS: Kind(False, {"HOLDFAST_ALLOW_ANONYMOUS": "true", **ANONYMOUS}),
    OURS_SLOW: Kind(False, SLOW),
    STOCK_MEMORY: Kind(True, {"STOCK_STORE": "memory"}),
    STOCK_FILES: Kind(True, {}),
    STOCK_SLOW: Kind(True, SLOW),
}


@dataclass(frozen=True)
class Goal:
    """How many times as fast as another server one shall be."""

    what: str
    server: str
    other: str
    ratio: float


GOALS = (
    Goal("calls a second, signed in, against stock without a login", OURS, STOCK, 1.0),
    Goal("the same, 2 ms more a file operation", OURS_SLOW, STOCK, 1.0),
    Goal("calls a second, signed in, against stock signed in", OURS, STOCK_FILES, 5.0),
    Goal("the same, 2 ms more a file operation", OURS_SLOW, STOCK_SLOW, 5.0),
    Goal("calls a second without a login, against stock", OURS_ANONYMOUS, STOCK, 2.0),
)


def measure(scale: Scale, progress: Progress) -> Result:
    with running(KINDS, progress) as started:
        measured = load_in_rounds(started, scale, progress)
    verdicts = [
        Verdict(goal.what, "at least", goal.ratio, [ratio(measured, goal, calls)["time"] for calls in CALLS_AT_ONCE])
        for goal in GOALS
    ]
    how = f"{(__doc__ or '').partition(chr(10) * 2)[2]} Found are {' / '.join(map(str, CALLS_AT_ONCE))} calls at once."
    return Result("Tool calls", how, verdicts, [cpu_table(measured), server_table(measured)], measured)


def ratio(measured: Rounds, goal: Goal, at_once: int) -> dict[str, float]:
    """Medians of the ratios of single rounds; above 1 means faster than the other."""
    pairs = list(zip(measured[goal.server][at_once], measured[goal.other][at_once], strict=True))

    def median(ratio: Callable[[dict[str, Any], dict[str, Any]], float]) -> float:
        return statistics.median(ratio(ours, other) for ours, other in pairs)

    return {
        "time": median(lambda ours, other: ours["calls a second"] / other["calls a second"]),
        "CPU": median(lambda ours, other: other["CPU ms a call"] / ours["CPU ms a call"]),
    }


def cpu_table(measured: Rounds) -> list[list[str]]:
    rows = [["how many times less CPU time a call", *(f"{calls} at once" for calls in CALLS_AT_ONCE)]]
    for goal in GOALS:
        rows.append([goal.what, *(f"{ratio(measured, goal, calls)['CPU']:.2f}" for calls in CALLS_AT_ONCE)])
    return rows


def server_table(measured: Rounds) -> list[list[str]]:
    """Medians of all rounds, with the errors of all."""
    rows = [["server", "at once", "calls/s", "CPU ms a call", "median ms", "99th percentile ms", "errors"]]
    for name, of in measured.items():
        for calls in CALLS_AT_ONCE:
            columns = ("calls a second", "CPU ms a call", "median ms", "99th percentile ms")
            medians = [statistics.median(found[column] for found in of[calls]) for column in columns]
            errors = sum(sum(found["errors"].values()) for found in of[calls])
            digits = (0, 3, 2, 2)
            figures = [f"{figure:.{places}f}" for figure, places in zip(medians, digits, strict=True)]
            rows.append([name, str(calls), *figures, str(errors)])
    return rows
