"""Whether something grows: from samples alone, so that a leak can be planted in them."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from bench.result import Verdict
from bench.soak.machine import CPU, STOLEN, WALL

JUDGED_FROM = 1 / 3
"""The share of the time after which memory is warm, and as much expires as is added."""

FEWEST_POINTS = 5

TEMPORARY_FILES_OF_A_KILL = 4


@dataclass(frozen=True)
class Tolerance:
    """How much a series may grow in the time that is judged: so much, or such a share of its median if that is more."""

    unit: str
    absolute: float
    relative: float

    def of(self, values: Sequence[float]) -> float:
        return max(self.absolute, self.relative * statistics.median(values))


PROCESSES = 2
"""One that waits for the other, which answers; each has a thread of its own."""

IN_POOLS = 40 + 32 + 4
"""The most threads that there may be in the pools of anyio (`default_thread_limiter`, which ends who has been idle for
ten seconds), asyncio (the executor of `to_thread`: four more than processors, and 32 at most) and libuv."""

MOST: Mapping[str, float] = {"threads": PROCESSES + IN_POOLS}
"""What comes and goes with the load, up to a bound."""

TOLERANCES: Mapping[str, Tolerance] = {
    "memory": Tolerance("MB", 2, 0.02),
    "file descriptors": Tolerance("", 2, 0),
    "files": Tolerance("", 20, 0.2),
    "CPU time": Tolerance("ms a request", 0.5, 0.15),
    "tool call": Tolerance("ms", 1, 0.3),
    "refresh": Tolerance("ms", 1, 0.3),
    "sign-in": Tolerance("ms", 5, 0.3),
}

SLOWED_BY: Mapping[str, str] = {"CPU time": CPU, "tool call": WALL, "refresh": WALL, "sign-in": WALL}
"""The series of the machine that tells how much of what was measured is due to other work, or to a slower clock."""

DISTURBED = 1.4
"""How many times as long as in the median the calculation takes where the machine does other things."""

MOST_DISTURBED = 50
"""Of a hundred samples; with more, times tell nothing of the servers."""

UNITS: Mapping[str, str] = {
    **{name: tolerance.unit for name, tolerance in TOLERANCES.items()},
    "threads": "",
    CPU: "ms a calculation",
    WALL: "ms a calculation",
    STOLEN: "%",
}
"""What every series counts that is judged, or that others are judged by."""


def verdicts(name: str, found: Mapping[str, Any]) -> list[Verdict]:
    """Judge what was found of a server, in the form of `Watched.as_json`."""
    judged = [
        growth_verdict(f"{name}, {series}", on_an_even_machine(found["series"], series), tolerance)
        for series, tolerance in TOLERANCES.items()
    ]
    judged += [
        most_verdict(f"{name}, {series}", found["series"].get(series, []), most) for series, most in MOST.items()
    ]
    kills = len(found["restarts"]) / 2
    left = found["series"]["temporary files"][-1][1]
    samples = [minute for minute, _ in points_judged(found["series"].get(CPU, []))]
    disturbed = len(set(samples) - undisturbed(found["series"]))
    return [
        *judged,
        Verdict(f"{name}, disturbed samples", "at most", MOST_DISTURBED, [100 * disturbed / max(len(samples), 1)], "%"),
        Verdict(
            f"{name}, temporary files that kills left", "at most", math.ceil(kills) * TEMPORARY_FILES_OF_A_KILL, [left]
        ),
        Verdict(f"{name}, wrong answers", "at most", 0, [len(found["wrong"])]),
    ]


def undisturbed(found: Mapping[str, Sequence[tuple[float, float]]]) -> set[float]:
    """The minutes of those samples in which the machine was about as fast as in the median."""
    minutes: list[set[float]] = []
    for series in (CPU, WALL):
        points = found.get(series, [])
        slow = DISTURBED * statistics.median(value for _, value in points) if points else 0
        minutes.append({minute for minute, value in points if value < slow})
    return set.intersection(*minutes)


def on_an_even_machine(found: Mapping[str, Sequence[tuple[float, float]]], series: str) -> list[tuple[float, float]]:
    """The points of a series as they were, had the machine always been as fast as in the median.

    What the machine does not change is left as it was measured. What was measured without a measure of the machine, or
    while other work slowed it down, is not taken: that slows a server down more than it does a calculation.
    """
    points = list(found.get(series, []))
    if series not in SLOWED_BY:
        return points
    slowness = dict(found.get(SLOWED_BY[series], []))
    usual = statistics.median(slowness.values()) if slowness else 1.0
    taken = undisturbed(found)
    return [(minute, value * usual / slowness[minute]) for minute, value in points if minute in taken]


def most_verdict(what: str, points: Sequence[tuple[float, float]], most: float) -> Verdict:
    """One that is missed where nothing was measured."""
    if not points:
        return Verdict(f"{what}: measurements", "at least", 1, [0])
    return Verdict(f"{what}: highest", "at most", most, [max(value for _, value in points)])


def growth_verdict(what: str, points: Sequence[tuple[float, float]], tolerance: Tolerance) -> Verdict:
    """One that is missed where too little was measured."""
    judged = points_judged(points)
    if len(judged) < FEWEST_POINTS:
        return Verdict(f"{what}: measurements", "at least", FEWEST_POINTS, [len(judged)])
    bound = tolerance.of([value for _, value in judged])
    return Verdict(f"{what}: growth", "at most", round(bound, 2), [growth(judged)], tolerance.unit)


def points_judged(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those after the time in which it may grow."""
    if not points:
        return []
    begin = JUDGED_FROM * points[-1][0]
    return [(minute, value) for minute, value in points if minute >= begin]


def growth(points: Sequence[tuple[float, float]]) -> float:
    """By how much the values grow from the first to the last of these points: the Theil-Sen slope, times their span.

    That is the median of the slopes between all pairs of points, which single points far off do not change.
    """
    slopes = [(later - earlier) / (end - begin) for (begin, earlier), (end, later) in combinations(points, 2)]
    return statistics.median(slopes) * (points[-1][0] - points[0][0])
