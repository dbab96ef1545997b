"""Where the store is: how fast a volume or an engine answers, what room there is, whose clock it has, which keys."""

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mcp_holdfast.examination.finding import Finding, judged, of_problem
from mcp_holdfast.settings import ConfigurationError, Settings
from mcp_holdfast.storage.backends import Backend
from mcp_holdfast.storage.locations import Location
from mcp_holdfast.storage.volume import mount_of, volume_problems, warnings_of

ROUNDS = 9
SLOW = 0.05
"""In seconds, for one operation: a refresh takes about ten of them."""

RECORD = b"x" * 1024
LEAST_SPACE = 100 << 20
FEWEST_INODES = 10_000
CLOCKS_MAY_DIFFER_BY = 5.0
"""In seconds. Leases and tokens are judged by each replica's own clock."""

PROBE, PROBE_LIFETIME = "doctor", 60.0


@dataclass
class Timings:
    """Seconds that each kind of operation took."""

    taken: dict[str, list[float]] = field(default_factory=dict)

    @contextmanager
    def of(self, kind: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.taken.setdefault(kind, []).append(time.monotonic() - began)

    def finding(self, subject: str, remedy: str) -> Finding:
        medians = {kind: statistics.median(taken) for kind, taken in self.taken.items()}
        what = ", ".join(f"{kind} {median * 1000:.1f} ms" for kind, median in medians.items())
        return judged(subject, what, "sign-ins will be slow" if max(medians.values()) > SLOW else None, remedy)


def examine_volume(home: Path, backend: str) -> list[Finding]:
    """Look at a volume as the `filetree` and `disk` backends use it. May hang where its server does."""
    problems = volume_problems(home, backend)
    if problems:
        return [of_problem(problem) for problem in problems]
    mount = mount_of(home)
    what = f"{home} is {mount.type}, mounted at {mount.point} with {mount.options}"
    concerns = [
        judged("volume", what, concern, "Mount it otherwise, see docs/storage.md") for concern in warnings_of(mount)
    ]
    with tempfile.TemporaryDirectory(prefix=".doctor-", dir=home) as directory:
        examined = _in_directory(Path(directory))
    return [*(concerns or [judged("volume", what)]), _room(home), *examined]


def _in_directory(directory: Path) -> list[Finding]:
    timings, record, temporary = Timings(), directory / "record", directory / "temporary"
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for _ in range(ROUNDS):
            with timings.of("write and fsync"), temporary.open("wb") as file:
                file.write(RECORD)
                file.flush()
                os.fsync(file.fileno())
            with timings.of("rename and fsync"):
                temporary.replace(record)
                os.fsync(descriptor)
            with timings.of("read"):
                record.read_bytes()
        # NFS gives the time of its server: rename(2) and close(2) do not change it.
        os.utime(record)
        skew = time.time() - record.stat().st_mtime
    finally:
        os.close(descriptor)
    remedy = "Use a faster volume, or an engine (docs/engines.md)"
    return [timings.finding("volume speed", remedy), clock_finding("the volume's server", skew)]


def clock_finding(whose: str, skew: float) -> Finding:
    """Compare clocks; `skew` is in seconds, positive where ours is ahead."""
    direction = "ahead of" if skew > 0 else "behind"
    is_wrong = abs(skew) > CLOCKS_MAY_DIFFER_BY
    what = f"{abs(skew):.1f} s {direction} that of {whose}" if is_wrong else f"agrees with that of {whose}"
    return judged("clock", what, "tokens and leases expire too early or too late" if is_wrong else None, "Use NTP")


def _room(home: Path) -> Finding:
    status = os.statvfs(home)
    free = status.f_bavail * status.f_frsize
    # Some file systems do not count files.
    is_short = free < LEAST_SPACE or (status.f_files > 0 and status.f_favail < FEWEST_INODES)
    what = f"{free // (1 << 20)} MB free" + (f", {status.f_favail} files" if status.f_files else "")
    return judged("volume space", what, "it is nearly full" if is_short else None, "Enlarge it")


async def examine_engine(location: Location) -> list[Finding]:
    """Write, read and delete a record of no meaning where the store is. Makes no table where there is none yet."""
    try:
        with location.problems_named():
            backend = location.open(may_create=False)
            try:
                if not await location.has_store():
                    return [judged("engine", f"{location}, which has no store yet: the first start makes it")]
                return [judged("engine", str(location)), await _engine_speed(backend)]
            finally:
                await backend.close()
    except ConfigurationError as error:
        return [of_problem(problem) for problem in error.problems]


async def _engine_speed(backend: Backend) -> Finding:
    timings = Timings()
    for _ in range(ROUNDS):
        with timings.of("put"):
            await backend.put(PROBE, {}, collection=PROBE, ttl=PROBE_LIFETIME)
        with timings.of("get"):
            await backend.get(PROBE, collection=PROBE)
        with timings.of("delete"):
            await backend.delete(PROBE, collection=PROBE)
    return timings.finding("engine speed", "Put it nearer to the server")


def examine_keys(settings: Settings) -> Finding:
    """Tell where what seals the store comes from."""
    if settings.backend == "memory":
        return judged("keys", "of each run alone", "every restart signs everybody out", "Use filetree, or an engine")
    given = {"HOLDFAST_STORAGE_KEY": settings.storage_key, "HOLDFAST_SIGNING_KEY": settings.signing_key}
    on_volume = [variable for variable, key in given.items() if key is None]
    if not on_volume:
        return judged("keys", "given by " + " and ".join(given))
    concern = "who can read the volume or a backup of it can read the store"
    remedy = f"Keep them apart: set {' and '.join(on_volume)} to what is in {settings.home / 'keys'}"
    return judged("keys", f"on the volume, beside what they seal ({', '.join(on_volume)} not set)", concern, remedy)
