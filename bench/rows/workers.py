"""Several workers: how evenly connections spread over two, what a call costs them, and what four take in memory.

64 connections that stay open call a small tool without a pause. Memory is proportional (PSS): a page that processes
share counts once. A further worker is a third of what four workers have more than one, after calls to each; it is
compared with a server of one worker, whose process and arbiter share their pages, too.

Two that work at once slow each other down in the processor, whatever they are. How much is told by two servers of one
worker, which share nothing and are loaded side by side with half of the connections each.
"""

import json
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from bench.processes import connections_of, cpu_seconds, proportional_bytes
from bench.result import Progress, Result, Scale, Verdict
from bench.servers import Kind, Started, load, loading, running, told

CONNECTIONS = 64
COUNTED_EVERY, SHORTEST_LOAD = 0.05, 2.0
CALLS_BEFORE_WEIGHING = 2.0
"""In seconds: a page that was shared after the fork is not any more once something in it was counted."""

ONE, TWO, FOUR = "one worker", "two workers", "four workers"
KINDS: Mapping[str, Kind] = {
    name: Kind(False, {"WEB_CONCURRENCY": str(workers)}) for name, workers in ((ONE, 1), (TWO, 2), (FOUR, 4))
}
ANOTHER, SIDE_BY_SIDE = "another of one worker", "two servers of one worker"


def measure(scale: Scale, progress: Progress) -> Result:
    calls: dict[str, list[dict[str, Any]]] = defaultdict(list)
    spread: list[list[int]] = []
    with running(KINDS, progress) as started:
        memory = {name: weigh(one) for name, one in started.items()}
        seconds = max(SHORTEST_LOAD, scale.seconds)
        with running({ANOTHER: KINDS[ONE]}, progress) as more:
            for number in range(scale.rounds):
                progress(f"round {number + 1} of {scale.rounds}")
                for name in (ONE, TWO):
                    found, connections = load_and_count(started[name], seconds=seconds)
                    calls[name].append(found)
                    if name == TWO:
                        spread.append(connections)
                calls[SIDE_BY_SIDE].append(load_side_by_side(started[ONE], more[ANOTHER], seconds=seconds))
    return result(calls, spread, memory)


def weigh(started: Started) -> float:
    load(started, at_once=CONNECTIONS, seconds=CALLS_BEFORE_WEIGHING)
    return proportional_bytes(started.server.process_id)


def load_and_count(started: Started, *, seconds: float) -> tuple[dict[str, Any], list[int]]:
    """What became of the calls, and how many connections each worker had when most were seen."""
    leader = started.server.process_id
    before, connections = cpu_seconds(leader), list[int]()
    with loading(started, at_once=CONNECTIONS, seconds=seconds) as generator:
        while sum(connections) < CONNECTIONS and generator.poll() is None:
            time.sleep(COUNTED_EVERY)
            # The kernel's list misses some that change while it is read.
            connections = max(connections, connections_of(leader, started.server.port), key=sum)
        answer = generator.communicate()[0]
    if sum(connections) < CONNECTIONS / 2:
        raise RuntimeError(f"of {CONNECTIONS} connections only {connections} were seen")
    return told(json.loads(answer), cpu_seconds(leader) - before, started.server), connections


def load_side_by_side(*servers: Started, seconds: float) -> dict[str, Any]:
    """What calls took that these servers answered at the same time."""
    before = sum(cpu_seconds(one.server.process_id) for one in servers)
    with ExitStack() as stack:
        at_once = CONNECTIONS // len(servers)
        generators = [stack.enter_context(loading(one, at_once=at_once, seconds=seconds)) for one in servers]
        found = [json.loads(generator.communicate()[0]) for generator in generators]
    cpu = sum(cpu_seconds(one.server.process_id) for one in servers) - before
    answered = sum(one["calls"] for one in found)
    return {
        "calls a second": sum(one["calls"] / one["seconds"] for one in found),
        "CPU ms a call": 1000 * cpu / answered,
        "errors": sum((Counter(one["errors"]) for one in found), Counter()),
    }


def result(calls: dict[str, list[dict[str, Any]]], spread: list[list[int]], memory: dict[str, float]) -> Result:
    fullest = statistics.median(max(connections) / sum(connections) for connections in spread)
    cpu, cpu_side_by_side = (
        statistics.median(
            two["CPU ms a call"] / other["CPU ms a call"] for two, other in zip(calls[TWO], calls[name], strict=True)
        )
        for name in (ONE, SIDE_BY_SIDE)
    )
    further = (memory[FOUR] - memory[ONE]) / 3
    verdicts = [
        Verdict("of two workers, share of connections of the fuller one", "at most", 0.6, [fullest]),
        Verdict("CPU time a call, two workers against one", "at most", 1.05, [cpu]),
        Verdict("the same against two servers of one worker, side by side", "at most", 1.05, [cpu_side_by_side]),
        Verdict(
            "memory of each further worker of four, against a server of one", "at most", 0.3, [further / memory[ONE]]
        ),
    ]
    speeds = [["", "calls/s", "CPU ms a call", "connections of each worker, by round"]]
    for name, of in calls.items():
        medians = [statistics.median(found[column] for found in of) for column in ("calls a second", "CPU ms a call")]
        told_spread = ", ".join("+".join(map(str, sorted(one))) for one in spread) if name == TWO else ""
        speeds.append([name, f"{medians[0]:.0f}", f"{medians[1]:.3f}", told_spread])
    sizes = [["", "PSS, MB"], *([name, f"{1e-6 * size:.0f}"] for name, size in memory.items())]
    raw = {"calls": dict(calls), "connections": spread, "PSS": memory}
    return Result("Workers", (__doc__ or "").partition("\n\n")[2], verdicts, [speeds, sizes], raw)
