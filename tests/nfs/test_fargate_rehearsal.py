"""The task definition's container on what an EFS access point is for a client, through what Fargate does to tasks.

NFS_INTERRUPTIONS says how often Spot takes a task; `make nfs` asks for more than `make test`. TARGET=stock puts stock
FastMCP through the same interruptions.
"""

import json
import os
import random
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from conftest import Say
from fargate.test_page import blocks
from harness.fargate import PARAMETERS, STACK
from harness.load_balancer import CROSSED, CUT, LATER, LoadBalancer
from harness.oauth import OAuthClient
from harness.patience import patiently
from harness.proxy_login import ProxyPerson
from harness.task_definition import VOLUME, Task, rehearsed_definition, task_of
from harness.waiting import HANGS_AFTER
from nfs.conftest import Tell
from nfs.lab import BootMachine, nfs_server
from nfs.load import lost_afterwards, under_load
from nfs.machine import MOUNT_POINT, Failed, Machine
from nfs.network import HOST
from nfs.replica import PUBLIC_URL, Replica, StockReplica, TaskReplica
from nfs.server import AccessPoint, NFSServer
from nfs.service import Service, stopped

CALLERS = 4
TASKS = 2
INTERRUPTIONS = int(os.environ.get("NFS_INTERRUPTIONS", "1"))
SECONDS_EACH = 120
FILE_SYSTEM = "/mnt/file-system"
OLD_VOLUME = f"{FILE_SYSTEM}/stock"
CLIENT_SECRET = "FASTMCP_SERVER_AUTH_OAUTHPROXY_UPSTREAM_CLIENT_SECRET"

TITLE = "tasks on what an EFS access point is for a client, taken as Spot does"
HEADING = "crossed: the server had closed a connection that was kept from before, and has begun on nothing"

Definition = tuple[dict[str, Any], dict[str, str]]

pytestmark = pytest.mark.timeout(3600 + SECONDS_EACH * INTERRUPTIONS)


@pytest.fixture
def access_point() -> AccessPoint:
    """The one that fargate/stack.yaml makes."""
    properties = STACK.resources(**PARAMETERS)["AccessPoint"]["Properties"]
    user, root = properties["PosixUser"], properties["RootDirectory"]
    return AccessPoint(
        root["Path"], int(user["Uid"]), int(user["Gid"]), int(root["CreationInfo"]["Permissions"], base=8)
    )


@pytest.fixture
def server(network: None, tmp_path: Path, access_point: AccessPoint) -> Iterator[NFSServer]:
    with nfs_server(tmp_path, access_point) as server:
        yield server


@pytest.fixture
def definition(environment: dict[str, str]) -> Definition:
    """What is rendered for the lab's load balancer and identity provider, and the values of its secrets."""
    settings = {name: value for name, value in environment.items() if name not in {"HOLDFAST_BASE_URL", CLIENT_SECRET}}
    return rehearsed_definition(settings, {CLIENT_SECRET: environment[CLIENT_SECRET]}, PROXY_ADDRESSES=f"{HOST}/32")


@pytest.fixture
def task(definition: Definition) -> Task:
    return task_of(*definition)


@pytest.fixture
def boot_for(boot_machine: BootMachine, access_point: AccessPoint) -> Callable[[Task], Machine]:
    """Boot what Fargate gives a task: a machine of its own with its memory, which mounts the access point."""
    return lambda task: boot_machine(exported=access_point.path, memory=task.memory)


@pytest.fixture
def service(
    target: str, task: Task, image: Path, boot_for: Callable[[Task], Machine], environment: dict[str, str]
) -> Service:
    def place() -> Replica:
        machine = boot_for(task)
        replica = (
            TaskReplica(machine, task, image, {VOLUME: MOUNT_POINT})
            if target == "holdfast"
            else StockReplica(machine, environment, MOUNT_POINT)
        )
        replica.launch()
        return replica

    service = Service(place, task.stop_timeout, random.Random(0))
    service.start(TASKS)
    return service


def test_nobody_notices_that_spot_takes_tasks(
    service: Service, target: str, tell: Tell, say: Say, server: NFSServer, task: Task
) -> None:
    with under_load(service.targets, CALLERS) as load:
        load.goes_on()
        for _ in range(INTERRUPTIONS):
            service.interrupt()
        load.goes_on()
    lost_later = lost_afterwards(load.sessions(), service.targets)
    statuses, outcomes = {stop.status for stop in service.stops}, load.outcomes
    longest = max(stop.seconds for stop in service.stops)
    row = (
        f"{target:9} {INTERRUPTIONS} tasks ended with {statuses} after {longest:.0f} s at most; "
        f"{outcomes[LATER]} answers were 503, {outcomes[CROSSED]} requests crossed the end of a connection"
    )
    say(TITLE, HEADING, row)
    tell(f"{INTERRUPTIONS} times: Spot takes a task", load, lost_later, list(server.export.rglob("*.corrupt")))
    if target == "holdfast":
        assert outcomes[CUT] == 0
        assert statuses == {0}


def test_whoever_a_task_runs_as_it_is_the_access_point_s_user_and_can_give_nothing_away(
    boot_for: Callable[[Task], Machine], task: Task, image: Path
) -> None:
    as_root = replace(task, confinement=replace(task.confinement, user="0:0"))
    script = """
import os, sys
with open("/data/file", "w") as file:
    made = os.stat(file.fileno())
try:
    os.chown("/data/file", 0, 0)
except OSError as error:
    sys.exit(f"{made.st_uid}:{made.st_gid} {error.strerror}")
"""
    command = ("python", "-c", script)
    with pytest.raises(Failed, match=r"10001:10001 Operation not permitted"):
        TaskReplica(boot_for(task), as_root, image, {VOLUME: MOUNT_POINT}, command).run_to_end()


def test_a_task_ends_in_time_on_a_mount_that_hangs_and_what_it_acknowledged_is_there(
    boot_for: Callable[[Task], Machine], task: Task, image: Path, server: NFSServer, say: Say
) -> None:
    replica = TaskReplica(boot_for(task), task, image, {VOLUME: MOUNT_POINT}).start()
    with client_of([replica.url]) as http:
        client = OAuthClient(http, person=ProxyPerson(quick=True, http=http)).sign_in()
        server.hang()
        try:
            # What it has to wait for now it does not get.
            assert client.refresh().status_code == 503
            stop = stopped(replica, task.stop_timeout)
        finally:
            server.go_on()
        say(
            TITLE,
            HEADING,
            f"holdfast  on a mount that hangs a task ended with {stop.status} after {stop.seconds:.0f} s",
        )
        assert stop.status == 0
        replica.start()
        assert patiently(client.refresh).status_code == 200
        assert client.call_tool("whoami").status_code == 200


def test_sessions_of_a_stock_server_that_ran_as_root_live_on_as_the_access_point_s_user(
    boot_for: Callable[[Task], Machine],
    definition: Definition,
    environment: dict[str, str],
    image: Path,
    server: NFSServer,
    access_point: AccessPoint,
) -> None:
    """As docs/fargate.md has it ("Coming from the stock Exasol image"); here both volumes are of one file system."""
    task, importing = task_of(*definition), task_of(*for_the_import(definition))
    machine = boot_for(importing)
    machine.mount("/", FILE_SYSTEM)
    old = StockReplica(machine, environment, OLD_VOLUME).start()
    new = TaskReplica(boot_for(task), task, image, {VOLUME: MOUNT_POINT}).start()
    urls = [old.url]
    with client_of(urls) as http:
        client = OAuthClient(http, person=ProxyPerson(quick=True, http=http)).sign_in()
        old.kill()
        machine.run("chmod", "-R", "go=", OLD_VOLUME)
        assert owners(server.export / "stock") == {0}
        urls[:] = [new.url]
        assert client.call().status_code == 401
        volumes = {VOLUME: MOUNT_POINT, "old": OLD_VOLUME}
        TaskReplica(machine, importing, image, volumes, ("holdfast", "import", "/old")).run_to_end()
        new.kill()
        new.start()
        assert client.call().status_code == 200
        client.refresh().raise_for_status()
        assert client.call_tool("whoami").status_code == 200
    assert owners(Path(f"{server.export}{access_point.path}")) == {access_point.uid}


def client_of(urls: Sequence[str]) -> httpx.Client:
    """Asks these servers under the public URL, and the identity provider under its own."""
    return httpx.Client(base_url=PUBLIC_URL, mounts={PUBLIC_URL: LoadBalancer(urls)}, timeout=HANGS_AFTER)


def for_the_import(definition: Definition) -> Definition:
    """The task definition with the three changes that the page tells."""
    registered, secrets = deepcopy(definition)
    (example,) = [json.loads(block) for block in blocks("json") if block.startswith("{")]
    (container,) = registered["containerDefinitions"]
    container["user"] = "0:0"
    container["mountPoints"] += example["mountPoints"]
    registered["volumes"] += example["volumes"]
    return registered, secrets


def owners(directory: Path) -> set[int]:
    return {path.stat().st_uid for path in directory.rglob("*")}
