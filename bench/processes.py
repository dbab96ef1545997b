"""What a server's processes cost: their CPU time, memory and connections; and how to give them less of a processor."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from harness.server import ServerProcess

TICKS = os.sysconf("SC_CLK_TCK")
PERIOD = 100_000
"""In microseconds, as in the kernel's default."""

ESTABLISHED = "01"
"""The state in /proc/net/tcp (proc_net(5))."""

CGROUPS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/cpu"))


def processes_of(leader: int) -> Iterator[int]:
    """All processes of a session."""
    for process in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = process.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader:
            yield int(process.parent.name)


def cpu_seconds(leader: int) -> float:
    """User and system time of all processes of a session (proc_pid_stat(5))."""
    ticks = 0
    for process in processes_of(leader):
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS


def proportional_bytes(leader: int, kind: Literal["Pss", "Pss_Anon"] = "Pss") -> float:
    """The memory of all processes of a session; a page that several share counts once in all (proc_pid_smaps(5)).

    `Pss_Anon` leaves out what belongs to files, such as libraries, which other sessions may share.
    """
    total = 0
    for process in processes_of(leader):
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:"))
    return 1024.0 * total


def descriptors(leader: int) -> int:
    """How many files and sockets all processes of a session have open."""
    return sum(_entries(f"/proc/{process}/fd") for process in processes_of(leader))


def threads(leader: int) -> int:
    """How many threads all processes of a session have."""
    return sum(_entries(f"/proc/{process}/task") for process in processes_of(leader))


def _entries(directory: str) -> int:
    return sum(1 for _ in Path(directory).iterdir())


def connections_of(leader: int, port: int) -> list[int]:
    """How many connections to a port each process of a session has, of those that have any."""
    sockets = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == ESTABLISHED and int(fields[1].rpartition(":")[2], 16) == port:
                sockets.add(f"socket:[{fields[9]}]")
    found = []
    for process in processes_of(leader):
        held = [link for file in Path(f"/proc/{process}/fd").iterdir() if (link := _target(file)) in sockets]
        if held:
            found.append(len(held))
    return found


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""


@contextmanager
def processors(share: float) -> Iterator[Path]:
    """Make a control group whose processes get so many processors together; yields the file that takes them in.

    Raises:
        OSError: this machine allows no control group.

    """
    root = next((place for place in CGROUPS if (place / "cgroup.procs").exists()), CGROUPS[0])
    group = root / f"holdfast-bench-{os.getpid()}-{share:g}"
    group.mkdir()
    quota = int(share * PERIOD)
    try:
        if (group / "cpu.cfs_quota_us").exists():
            (group / "cpu.cfs_quota_us").write_text(str(quota))
        else:
            (group / "cpu.max").write_text(f"{quota} {PERIOD}")
        yield group / "cgroup.procs"
    finally:
        group.rmdir()


def confine(server: ServerProcess, processes: Path) -> None:
    """Have a server started in a control group."""
    command = server.command
    enter = f'echo $$ >{processes} && exec "$@"'
    server.command = lambda: ["/bin/sh", "-c", enter, "sh", *command()]  # type: ignore[method-assign]
