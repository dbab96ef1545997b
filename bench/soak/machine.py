"""How fast the machine itself is while servers are soaked: what always the same calculation takes."""

import hashlib
import json
import statistics
import time

CPU, WALL = "machine, CPU time", "machine, wall time"
"""The names of the series: what the calculation takes of a processor, and until it is done."""

PAUSE = 0.1
"""Seconds between two calculations, which take about a fiftieth of a processor then."""

ROUNDS = 20
DOCUMENT = {f"number {number}": [number, str(number), {"half": number / 2}] for number in range(20)}


def calculate() -> None:
    """Do a little of what a server does: what the interpreter, JSON and a hash take."""
    digest = b""
    for _ in range(ROUNDS):
        text = json.dumps(DOCUMENT | {"digest": digest.hex()})
        digest = hashlib.sha256(repr(json.loads(text)).encode()).digest()


def measure(seconds: float) -> dict[str, float]:
    """What the calculation takes in milliseconds, in the median of all that fit into so many seconds."""
    cpu: list[float] = []
    wall: list[float] = []
    end = time.monotonic() + seconds
    while not cpu or time.monotonic() < end:
        time.sleep(min(PAUSE, seconds))
        began, spent = time.perf_counter(), time.process_time()
        calculate()
        cpu.append(1000 * (time.process_time() - spent))
        wall.append(1000 * (time.perf_counter() - began))
    return {CPU: statistics.median(cpu), WALL: statistics.median(wall)}
