"""What a task serves on paper: computed from what single requests cost, and not measured at that size."""

from dataclasses import dataclass

SHARE = 0.5
"""Of the processors that is used: the rest is for peaks, and for a replica whose users come here when it ends."""

METADATA, DATA = 4 * 1024, 32 * 1024
"""The least bytes that EFS meters of an operation on names and of one on data, with elastic throughput."""


@dataclass(frozen=True)
class Task:
    """A size that Fargate has, in vCPUs and GB."""

    processors: float
    memory: float


TASKS = (Task(0.25, 0.5), Task(0.5, 1), Task(1, 2), Task(2, 4))


@dataclass(frozen=True)
class Cost:
    """Of one request: CPU time in milliseconds, and operations on files as docs/storage.md counts them."""

    cpu: float
    opened: int = 0
    written: int = 0
    others: int = 0

    @property
    def operations(self) -> float:
        """With the reads and writes of what was opened; of two that are opened, one is a directory."""
        return 1.5 * self.opened + 2 * self.written + self.others

    @property
    def metered(self) -> float:
        """Bytes of EFS's throughput."""
        names, data = self.opened + self.written + self.others, self.opened / 2 + self.written
        return METADATA * names + DATA * data


@dataclass(frozen=True)
class Costs:
    """Of a call whose token is remembered, of looking up a token that is not, and of a refresh."""

    call: Cost
    lookup: Cost
    refresh: Cost


@dataclass(frozen=True)
class User:
    """Who is signed in, and how often the client of theirs asks, in requests a second."""

    calls: float
    refreshes: float

    def lookups(self, remembered: float, workers: int = 1) -> float:
        """How often a second the token has to be looked up, where calls come at random and go to any worker.

        Each worker remembers it for so many seconds.
        """
        return self.calls / (1 + self.calls * remembered / workers)


@dataclass(frozen=True)
class Capacity:
    """What a task serves: calls a second alone, or so many users, who need so much of a file system a second."""

    calls: float
    users: float
    operations: float
    metered: float


def capacity(task: Task, costs: Costs, user: User, *, remembered: float, workers: int = 1) -> Capacity:
    """What SHARE of a task's processors are enough for, with so many workers in all tasks together."""
    budget = 1000 * SHARE * task.processors
    often = (
        (costs.call, user.calls),
        (costs.lookup, user.lookups(remembered, workers)),
        (costs.refresh, user.refreshes),
    )
    users = budget / sum(rate * cost.cpu for cost, rate in often)
    return Capacity(
        calls=budget / costs.call.cpu,
        users=users,
        operations=users * sum(rate * cost.operations for cost, rate in often),
        metered=users * sum(rate * cost.metered for cost, rate in often),
    )
