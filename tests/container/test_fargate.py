"""fargate/task-definition.json, as `docker run`: healthy by ECS's own check, and a task that follows another one."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import httpx
import pytest

from conftest import Say
from harness.container import Container, built_image, debian_image, docker, run_to_end
from harness.fargate import PLACEHOLDERS
from harness.load_balancer import LoadBalancer
from harness.oauth import OAuthClient
from harness.server import free_port
from harness.task_definition import VOLUME, Task, docker_flags, rehearsed_definition, task_of
from harness.waiting import HANGS_AFTER, eventually

AS_AN_ACCESS_POINT_MAKES_IT = "chown 10001:10001 /volume && chmod 0700 /volume"


@pytest.fixture
def task(say: Say) -> Task:
    """What is rendered with the networks of this engine as the load balancer's."""
    task = task_of(*rehearsed_definition({}, {}, PROXY_ADDRESSES="172.16.0.0/12"))
    limits = [f"--ulimit={name}={soft}:{hard}" for name, (soft, hard) in task.confinement.limits.items()]
    if "setting rlimit" in run_to_end(*limits, debian_image(), "true").stderr:
        say("the task definition in docker", "NOT TRIED: this machine lets nobody raise limits", " ".join(limits))
        return replace(task, confinement=replace(task.confinement, limits={}))
    return task


@pytest.fixture
def run_task(volume: str, task: Task) -> Iterator[Callable[[], Container]]:
    docker("run", "--rm", f"--volume={volume}:/volume", debian_image(), "sh", "-euc", AS_AN_ACCESS_POINT_MAKES_IT)
    containers: list[Container] = []

    def run() -> Container:
        port = free_port()
        flags = docker_flags(task, volumes={VOLUME: volume}, port=port)
        containers.append(Container(port=port, id=docker("run", "--detach", *flags, built_image())))
        return containers[-1].wait_until_ready()

    yield run
    for container in containers:
        container.remove()


def test_a_task_becomes_healthy_and_ends_in_order_and_the_next_one_goes_on(
    task: Task, run_task: Callable[[], Container]
) -> None:
    first = run_task()
    targets = [first.url]
    with httpx.Client(base_url=PLACEHOLDERS["BASE_URL"], transport=LoadBalancer(targets), timeout=HANGS_AFTER) as http:
        client = OAuthClient(http).sign_in()
        assert client.call().status_code == 200
        check = task.health_check
        eventually(lambda: first.state()["Health"]["Status"], lambda status: status == "healthy", check.start_period)
        targets[:] = [run_task().url]
        first.stop()
        assert first.state()["ExitCode"] == 0
        assert client.call().status_code == 200
        client.refresh().raise_for_status()
        assert client.call_tool("whoami").status_code == 200
