"""What is measured of a server under load, again and again: its processes, its files, and how long answers take."""

import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from bench.processes import cpu_seconds, descriptors, proportional_bytes, threads
from bench.soak import machine
from bench.soak.load import Notes, start_clients, stop_clients
from bench.soak.servers import RESTARTED, Soaked, restart_again_and_again

TEMPORARY_SUFFIX = ".tmp"
"""Of a file that a killed process was writing; it is removed when it is an hour old."""

PLACES = "holdfast_registration_slots"
"""The directory with the places of registrations that nobody used, of which there will be 10,000 and no more."""

LATENCIES = {"call": "tool call", "refresh": "refresh", "sign in": "sign-in"}
"""The kinds of requests whose time is measured, and the names of their series."""

Point = tuple[float, float]
"""Minutes since the beginning, and what was measured then."""


@dataclass(frozen=True)
class Spent:
    """The CPU time, in seconds, of a server since it was started, and how many requests were answered before."""

    leader: int
    cpu: float
    answers: int


@dataclass
class Watched:
    """A server under load, and what was measured of it by the name of the series."""

    soaked: Soaked
    notes: Notes
    began: float
    series: dict[str, list[Point]] = field(default_factory=dict)
    _spent: Spent | None = None

    def sample(self, of_the_machine: Mapping[str, float]) -> None:
        """Measure everything once; of the processes nothing while they are restarted.

        All points of a sample have the same minute, those `of_the_machine` itself too.
        """
        minute = (time.monotonic() - self.began) / 60
        found = {**of_the_machine, **self._files(), **self._latencies(), **self._processes()}
        for name, value in found.items():
            self.series.setdefault(name, []).append((round(minute, 3), round(value, 2)))

    def _files(self) -> dict[str, float]:
        """Those that come and go: all but what stays for long by design."""
        files = [(Path(directory).name, name) for directory, _, names in os.walk(self.soaked.files) for name in names]
        temporary = sum(name.endswith(TEMPORARY_SUFFIX) for _, name in files)
        places = sum(directory == PLACES for directory, _ in files)
        return {"files": len(files) - temporary - places, "temporary files": temporary}

    def _latencies(self) -> dict[str, float]:
        taken = self.notes.taken()
        return {name: 1000 * statistics.median(taken[kind]) for kind, name in LATENCIES.items() if kind in taken}

    def _processes(self) -> dict[str, float]:
        restarts = len(self.soaked.restarts)
        found: dict[str, float] = {}
        # While it is restarted, there may be processes that are going or coming.
        with suppress(OSError, StopIteration):
            if not self.soaked.is_away:
                leader = self.soaked.server.process_id
                found = {
                    "memory": proportional_bytes(leader, "Pss_Anon") / 1e6,
                    "file descriptors": descriptors(leader),
                    "threads": threads(leader),
                    **self._cpu_time(leader),
                }
        return {} if self.soaked.is_away or len(self.soaked.restarts) != restarts else found

    def _cpu_time(self, leader: int) -> dict[str, float]:
        before, now = self._spent, Spent(leader, cpu_seconds(leader), sum(self.notes.answers.values()))
        self._spent = now
        if before is None or before.leader != leader or before.answers == now.answers:
            return {}
        return {"CPU time": 1000 * (now.cpu - before.cpu) / (now.answers - before.answers)}

    def as_json(self) -> dict[str, Any]:
        restarts = [round((moment - self.began) / 60, 2) for moment, _ in self.soaked.restarts]
        notes = self.notes
        answers = dict(sorted(notes.answers.items()))
        return {
            "restarts": restarts,
            "answers": answers,
            "later": notes.later,
            "wrong": notes.wrong,
            "series": self.series,
        }


def watch(
    servers: Sequence[Soaked],
    *,
    seconds: float,
    restarts: int,
    every: float,
    progress: Callable[[str], None],
    is_enough: Callable[[Watched], bool] = lambda _: True,
) -> list[Watched]:
    """Load all servers for so long, restart the one that is to be, and measure them every so many seconds.

    It goes on for longer until `is_enough` of each.

    Raises:
        TimeoutError: clients do not come to an end, or a server does not come back.

    """
    began = time.monotonic()
    watched = [Watched(soaked, Notes(soaked), began) for soaked in servers]
    clients = [start_clients(one.soaked, one.notes) for one in watched]
    # A process of its own, since those of clients would wait for each other.
    with (
        restarting(servers, times=restarts, seconds=seconds),
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as beside,
    ):
        while time.monotonic() < began + seconds or not all(is_enough(one) for one in watched):
            of_the_machine = beside.submit(machine.measure, every).result()
            for one in watched:
                one.sample(of_the_machine)
            progress(", ".join(f"{one.soaked.name}: {latest(one)}" for one in watched))
    for some in clients:
        stop_clients(some)
    return watched


def latest(watched: Watched) -> str:
    told = [f"{name} {points[-1][1]:g}" for name, points in watched.series.items() if name in ("memory", "files")]
    return " ".join([*told, f"{len(watched.notes.wrong)} wrong"])


@contextmanager
def restarting(servers: Sequence[Soaked], *, times: int, seconds: float) -> Iterator[None]:
    """Restart who is to be restarted, so often before the block is left; what fails in that is raised at its end."""
    stopping = threading.Event()
    with ThreadPoolExecutor() as pool:
        done = [
            pool.submit(restart_again_and_again, soaked, times=times, seconds=seconds, stopping=stopping)
            for soaked in servers
            if soaked.name == RESTARTED
        ]
        try:
            yield
        except BaseException:
            stopping.set()
            raise
        for one in done:
            one.result()
