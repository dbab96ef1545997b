"""How fast the machine itself is while servers are soaked: what always the same calculation takes, and what is stolen.

The latter is the time for which somebody here wanted a processor and a machine beside this one had it.
"""

import hashlib
import itertools
import json
import random
import statistics
import time
from functools import cache
from pathlib import Path

CPU, WALL, STOLEN = "machine, CPU time", "machine, wall time", "machine, stolen"
"""The names of the series: what the calculation takes of a processor, how long until it is done, and the share that is
stolen of the time in which a processor was wanted."""

PAUSE = 0.1
"""Seconds between two calculations, which take about a thirtieth of a processor then."""

ROUNDS = 20
DOCUMENT = {f"number {number}": [number, str(number), {"half": number / 2}] for number in range(20)}

FAR_APART = 10_000
"""How many objects a calculation looks at of those that no cache of a processor has room for."""


IDLE, WAITING, STEAL, KINDS = 3, 4, 7, 8
"""Where /proc/stat tells how long processors had nothing to do, waited for disks and were stolen, and how many kinds of
time it tells apart; what follows are parts of these (proc(5))."""


class Calculation:
    """A little of what a server does: what the interpreter, JSON, a hash and memory take."""

    def __init__(self) -> None:
        texts = [str(number) for number in range(30 * FAR_APART)]
        random.Random(0).shuffle(texts)
        self._texts = itertools.cycle(texts)

    def run(self) -> None:
        digest = b""
        for _ in range(ROUNDS):
            text = json.dumps(DOCUMENT | {"digest": digest.hex()})
            digest = hashlib.sha256(repr(json.loads(text)).encode()).digest()
        sum(map(len, itertools.islice(self._texts, FAR_APART)))


calculation = cache(Calculation)
"""The one of this process, whose objects take a while to make."""


def measure(seconds: float) -> dict[str, float]:
    """Each series over so many seconds: the median of all calculations in milliseconds, and per cent."""
    calculate = calculation().run
    cpu: list[float] = []
    wall: list[float] = []
    before = processor_times()
    end = time.monotonic() + seconds
    while not cpu or time.monotonic() < end:
        time.sleep(min(PAUSE, seconds))
        began, spent = time.perf_counter(), time.process_time()
        calculate()
        cpu.append(1000 * (time.process_time() - spent))
        wall.append(1000 * (time.perf_counter() - began))
    passed = [now - earlier for earlier, now in zip(before, processor_times(), strict=True)]
    wanted = sum(passed) - passed[IDLE] - passed[WAITING]
    return {CPU: statistics.median(cpu), WALL: statistics.median(wall), STOLEN: 100 * passed[STEAL] / max(wanted, 1)}


def processor_times() -> list[int]:
    """In ticks, of all processors together."""
    return [int(ticks) for ticks in Path("/proc/stat").read_text().splitlines()[0].split()[1 : KINDS + 1]]
