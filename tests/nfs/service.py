"""A service of ECS on Fargate Spot: tasks in a machine each, and a load balancer that sends them requests."""

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from fargate.test_task_definition import NOTICED_WITHIN
from harness.waiting import eventually
from nfs.replica import Replica

LONGEST_WAIT = 1.5
LEAVES_AFTER = float(NOTICED_WITHIN)
"""Seconds from SIGTERM until the load balancer sends a task nothing more."""


@dataclass(frozen=True)
class Stop:
    """How a task that was told to stop ended. Without a `status` it did not and had to be killed."""

    status: int | None
    seconds: float


@dataclass
class Service:
    """`place` puts another task in a new machine and starts it. `targets` are the URLs that requests may go to.

    A target is there from when its task is healthy until LEAVES_AFTER: a task that Spot takes leaves its target group
    before SIGTERM, as AWS says, or after it, as users say.
    """

    place: Callable[[], Replica]
    stop_timeout: float
    moments: random.Random
    tasks: list[Replica] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)

    def start(self, count: int) -> None:
        for task in [self.place() for _ in range(count)]:
            self._wait_until_healthy(task)

    def interrupt(self) -> None:
        """Take one of the tasks as Spot does: SIGTERM, SIGKILL after the stop timeout, and another one meanwhile."""
        time.sleep(self.moments.uniform(0, LONGEST_WAIT))
        task = self.moments.choice(self.tasks)
        with ThreadPoolExecutor() as beside:
            ending = beside.submit(stopped, task, self.stop_timeout)
            leaving = beside.submit(self._leave_target_group, task)
            self._wait_until_healthy(self.place())
            leaving.result()
            self.stops.append(ending.result())
        self.tasks.remove(task)
        task.machine.cut_power()

    def _wait_until_healthy(self, task: Replica) -> None:
        task.wait_until_ready()
        self.tasks.append(task)
        self.targets.append(task.url)

    def _leave_target_group(self, task: Replica) -> None:
        time.sleep(LEAVES_AFTER)
        self.targets.remove(task.url)


def stopped(task: Replica, timeout: float) -> Stop:
    """Tell a task to stop as ECS does, and kill it after the stop timeout."""
    began = time.monotonic()
    task.terminate()
    try:
        status = eventually(lambda: task.exit_status, lambda found: found is not None, within=timeout)
    except TimeoutError:
        status = None
        task.kill()
    return Stop(status, time.monotonic() - began)
