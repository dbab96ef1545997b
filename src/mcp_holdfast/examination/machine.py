"""The user, and the limits that the container was given (cgroups(7), getrlimit(2))."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

from mcp_holdfast.examination.finding import Finding, judged

MEGABYTE = 1 << 20
EACH_WORKER_NEEDS = 40
"""In megabytes, apart from what all workers share."""

FEWEST_OPEN_FILES = 1024

CGROUPS = Path("/sys/fs/cgroup")
MEMORY_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")
CPU_QUOTA, CPU_PERIOD = "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"
UNLIMITED = 1 << 60
"""In bytes: version 1 of cgroups writes a number near 2**63 for no limit."""


def examine_machine(workers: int, cgroups: Path = CGROUPS) -> Iterator[Finding]:
    """Yield what was found of the user, memory, CPUs and open files, for so many worker processes."""
    yield _user()
    yield _memory(workers, memory_limit(cgroups))
    yield _cpus(workers, cpu_limit(cgroups))
    yield _open_files()


def _user() -> Finding:
    what = f"{os.geteuid()}:{os.getegid()}"
    is_root = os.geteuid() == 0
    return judged("user", what, "this is root" if is_root else None, "Run it as another, as in --user 10001:10001")


def _memory(workers: int, limit: int | None) -> Finding:
    loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    needed = loaded // MEGABYTE + EACH_WORKER_NEEDS * workers
    what = f"{f'{limit // MEGABYTE} MB' if limit else 'no limit'}; {_workers(workers)} about {needed} MB"
    is_short = limit is not None and limit < needed * MEGABYTE
    return judged("memory", what, "that is too little" if is_short else None, "Give it more, or lower WEB_CONCURRENCY")


def _cpus(workers: int, cpus: float) -> Finding:
    what = f"{cpus:g} CPUs for {workers} worker{'s' if workers > 1 else ''}"
    too_many = workers > max(1, 2 * cpus)
    return judged("cpu", what, "they would wait for each other" if too_many else None, "Lower WEB_CONCURRENCY")


def _open_files() -> Finding:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = 0 <= soft < FEWEST_OPEN_FILES
    what = f"{soft} at most" if soft >= 0 else "no limit"
    remedy = f"Raise the limit, as in --ulimit nofile={4 * FEWEST_OPEN_FILES}"
    return judged("open files", what, "each connection takes one" if few else None, remedy)


def _workers(workers: int) -> str:
    return "one worker takes" if workers == 1 else f"{workers} workers take"


def memory_limit(cgroups: Path) -> int | None:
    """In bytes; None where there is no limit."""
    for name in MEMORY_LIMITS:
        if (text := _read(cgroups / name)) is not None and text != "max" and int(text) < UNLIMITED:
            return int(text)
    return None


def cpu_limit(cgroups: Path) -> float:
    """How many CPUs this process may use at once."""
    quota, period = _quota(cgroups)
    available = len(os.sched_getaffinity(0))
    return min(available, quota / period) if quota > 0 and period > 0 else available


def _quota(cgroups: Path) -> tuple[int, int]:
    """Microseconds of CPU time in each period of so many microseconds; 0 or less for no limit."""
    if (text := _read(cgroups / "cpu.max")) is not None:
        quota, period = text.split()
        return (0 if quota == "max" else int(quota)), int(period)
    return int(_read(cgroups / CPU_QUOTA) or 0), int(_read(cgroups / CPU_PERIOD) or 0)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None
