"""What a user costs: CPU time and file operations of each request, the records that stay, and what a task serves.

Users sign in one after the other, each with a client of their own, and their clients refresh, at one worker on sealed
files. Of a call the CPU time is that of 16 at once whose token is remembered; to it comes the look-up of a token that
is not, told apart by calls one at a time at two servers, one of which remembers nothing. Records are those that are
there after a sign-in and those that come with a refresh, by the time that they stay.

What a task serves is computed, not measured: half of its processors, each as fast as one here; users whose
clients call once a minute, at random, and refresh once an hour; two workers in all. Reads and writes of open files are
taken as one of two opened and one of each written. Of EFS's throughput each operation is at least 4 KiB, on data 32.
"""

import json
import statistics
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import httpx

from bench.capacity import TASKS, Cost, Costs, User, capacity
from bench.processes import cpu_seconds
from bench.result import Progress, Result, Scale
from bench.servers import OURS, Started, load
from harness.file_counts import FileCounts
from harness.identity_provider import IdentityProvider
from harness.journeys import LocalJourney, ProxyJourney
from harness.proxy_login import proxy_environment
from harness.server import Server

LOGINS: Mapping[str, type[LocalJourney]] = {"built-in login": LocalJourney, "identity provider": ProxyJourney}
SIGN_IN = ("register", "authorize", "consent", "callback", "redeem")
USERS, REFRESHES = 10, 5
"""Of a round, and of each of its users."""

CALLS_AT_ONCE = 16
REMEMBERED, WORKERS = 10.0, 2
"""For how many seconds each of so many workers remembers a token."""

AT_WORK = User(calls=1 / 60, refreshes=1 / 3600)
OPENED, WRITTEN = ("open", "stat", "lstat"), ("create",)
SPANS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
NEARLY = 0.95
"""Of a span: what is written a little later than its end was fixed is of that span still."""

Kept = dict[tuple[str, str], list[int]]
"""The bytes of each record, by its collection and how long it stays."""


class Users:
    """Those of one login."""

    def __init__(self, login: str, provider: IdentityProvider, directory: Path) -> None:
        self.login = login
        self._journey = LOGINS[login]
        self._numbers = count(1)
        self._provider = provider
        self._directory = directory
        directory.mkdir()

    @contextmanager
    def server(self, name: str, **environment: str) -> Iterator[Server]:
        """Run one for them, in whose store nobody but requests removes anything."""
        home = self._directory / name
        server = Server(home, home.with_suffix(".log"), **{**environment, "HOLDFAST_SWEEP_INTERVAL": "0"})
        if self._journey is ProxyJourney:
            server.environment |= proxy_environment(self._provider, server.url)
        try:
            yield server.start()
        finally:
            server.stop()

    def new(self, server: Server, running: ExitStack) -> LocalJourney:
        """Whoever registers the same again would get the same client."""
        http = running.enter_context(httpx.Client(base_url=server.url, timeout=60))
        return self._journey(http, f"Client {next(self._numbers)}")

    def signed_in(self, server: Server, running: ExitStack) -> LocalJourney:
        user = self.new(server, running)
        for step in SIGN_IN:
            if step in user.steps:
                user.steps[step]()
        return user


def measure(scale: Scale, progress: Progress) -> Result:
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        provider = IdentityProvider(directory / "identity-provider", access_token_lifetime=24 * 3600).start()
        stack.callback(provider.stop)
        for login in LOGINS:
            users = Users(login, provider, directory / f"users of {login}")
            progress(f"{login}: file operations and records")
            operations = file_operations(users, directory / "operations.txt")
            records = records_left(users)
            found[login] = {"operations": operations, "records": records, "CPU ms": cpu_times(users, scale, progress)}
    return result(found)


def file_operations(users: Users, done: Path) -> dict[str, Counter[str]]:
    """Those of each request, when the collections are there already."""
    counts = FileCounts(done)
    with ExitStack() as running:
        server = running.enter_context(users.server("counted", **counts.environment))
        return [counts.of_steps(users.new(server, running)) for _ in range(2)][-1]


def records_left(users: Users) -> dict[str, list[list[Any]]]:
    """What a sign-in and a refresh leave: collection, how long it stays, records of one, and bytes of a record."""
    with ExitStack() as running:
        server = running.enter_context(users.server("records", **OURS))
        store = Path(server.environment["FASTMCP_HOME"]) / "oauth-proxy"
        users.signed_in(server, running)
        moments = [kept(store)]
        signed_in = [users.signed_in(server, running) for _ in range(USERS)]
        moments.append(kept(store))
        for user in signed_in:
            for _ in range(REFRESHES):
                user.refresh()
        moments.append(kept(store))
    before, between, after = moments
    return {
        "sign-in": difference(before, between, USERS),
        "refresh": difference(between, after, USERS * REFRESHES),
    }


def kept(store: Path) -> Kept:
    found: Kept = defaultdict(list)
    for file in store.glob("*/*.json"):
        record = json.loads(file.read_text())
        found[file.parent.name, span_of(record)].append(file.stat().st_size)
    return found


def span_of(record: Mapping[str, Any]) -> str:
    """How long a record stays from when it was written, in the largest unit that fits."""
    if not record.get("expires_at"):
        return "no end"
    moments = [datetime.fromisoformat(record[moment]) for moment in ("created_at", "expires_at")]
    seconds = (moments[1] - moments[0]).total_seconds()
    size, unit = next((span for span in SPANS if seconds > NEARLY * span[0]), SPANS[-1])
    return f"{seconds / size:.0f} {unit}"


def difference(before: Kept, after: Kept, times: int) -> list[list[Any]]:
    """What came more than went, of one time, with the mean of bytes."""
    rows = []
    for place in sorted(after):
        more = len(after[place]) - len(before.get(place, []))
        if more > 0:
            rows.append([*place, more / times, statistics.mean(after[place])])
    return rows


def cpu_times(users: Users, scale: Scale, progress: Progress) -> dict[str, list[float]]:
    """Milliseconds of the server's CPU time for each request, by round."""
    found: dict[str, list[float]] = defaultdict(list)
    with ExitStack() as running:
        remembering = running.enter_context(users.server("remembering", **OURS))
        forgetting = running.enter_context(users.server("forgetting", **OURS, HOLDFAST_TOKEN_CACHE="0"))
        callers = [caller(users, server, running) for server in (remembering, forgetting)]
        # The first round pays for what is loaded once.
        for number in scale.numbers:
            progress(f"{users.login}, round {number} of {scale.rounds}")
            taken = sign_ins_and_refreshes(users, remembering)
            calls = [load(callers[0], at_once=CALLS_AT_ONCE, seconds=scale.seconds)]
            calls += [load(one, at_once=1, seconds=scale.seconds) for one in callers]
            call, remembered, forgotten = (of["CPU ms a call"] for of in calls)
            if number:
                for name, milliseconds in {**taken, "call": call, "look-up": forgotten - remembered}.items():
                    found[name].append(milliseconds)
    return found


def caller(users: Users, server: Server, running: ExitStack) -> Started:
    return Started(server, str(users.signed_in(server, running).client.tokens["access_token"]))


def sign_ins_and_refreshes(users: Users, server: Server) -> dict[str, float]:
    """What one of each takes, in milliseconds of CPU time."""
    with ExitStack() as running:
        moments = [cpu_seconds(server.process_id)]
        signed_in = [users.signed_in(server, running) for _ in range(USERS)]
        moments.append(cpu_seconds(server.process_id))
        for user in signed_in:
            for _ in range(REFRESHES):
                user.refresh()
        moments.append(cpu_seconds(server.process_id))
    sign_ins, refreshes = (1000 * (end - begin) for begin, end in pairwise(moments))
    return {"sign-in": sign_ins / USERS, "refresh": refreshes / (USERS * REFRESHES)}


def result(found: dict[str, Any]) -> Result:
    tables = [request_table(found)]
    tables += [record_table(login, of["records"]) for login, of in found.items()]
    tables += [capacity_table(login, costs_of(of)) for login, of in found.items()]
    return Result("What a user costs", (__doc__ or "").partition("\n\n")[2], [], tables, found)


def costs_of(found: Mapping[str, Any]) -> Costs:
    def cost(request: str, step: str) -> Cost:
        counts = Counter(found["operations"][step])
        opened, written = (sum(counts.pop(name, 0) for name in names) for names in (OPENED, WRITTEN))
        return Cost(statistics.median(found["CPU ms"][request]), opened, written, counts.total())

    return Costs(call=cost("call", "call again"), lookup=cost("look-up", "call"), refresh=cost("refresh", "refresh"))


def request_table(found: Mapping[str, Any]) -> list[list[str]]:
    rows = [["login", "request", "CPU, ms", "least and most of a round", "operations on files", "of EFS's throughput"]]
    for login, of in found.items():
        costs = costs_of(of)
        cost_of = {"call": costs.call, "look-up": costs.lookup, "refresh": costs.refresh}
        for request, times in of["CPU ms"].items():
            cost = cost_of.get(request)
            files = [f"{cost.operations:.0f}", f"{cost.metered / 1024:.0f} KiB"] if cost else ["", ""]
            middle = f"{statistics.median(times):.2f}"
            rows.append([login, request, middle, f"{min(times):.2f} to {max(times):.2f}", *files])
    return rows


def record_table(login: str, records: Mapping[str, Sequence[Sequence[Any]]]) -> list[list[str]]:
    rows = [[f"{login}: left by one", "in", "for", "records", "bytes each"]]
    for request, left in records.items():
        for collection, span, number, size in left:
            rows.append([request, f"`{collection}`", span, f"{number:.2g}", f"{size:.0f}"])
    return rows


def capacity_table(login: str, costs: Costs) -> list[list[str]]:
    heads = ("vCPU", "GB", "calls a second", "users at work", "operations on files a second", "MiB/s of EFS")
    rows = [[f"{login}, on paper", *heads]]
    for task in TASKS:
        serves = capacity(task, costs, AT_WORK, remembered=REMEMBERED, workers=WORKERS)
        figures = (serves.calls, serves.users, serves.operations)
        cells = [f"{task.processors:g}", f"{task.memory:g}", *(f"{figure:,.0f}" for figure in figures)]
        rows.append(["", *cells, f"{serves.metered / 1024**2:.1f}"])
    return rows
