"""compose/replicas.yaml with the commands of docs/scaling.md: three replicas, restarted one after another."""

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from container.conftest import SignIn
from harness.container import ROOT, built_image, docker, docker_path, service_image
from harness.server import free_port
from harness.waiting import eventually
from test_docs import blocks

SETUP, RESTART, DRAIN = [block for block in blocks(ROOT / "docs/scaling.md", "sh") if "compose/replicas.yaml" in block]
REPLICAS = ("holdfast-1", "holdfast-2", "holdfast-3")
ANOTHER_NETWORK = {"SUBNET": "172.30.81.0/24", "HAPROXY_ADDRESS": "172.30.81.250"}


@dataclass
class Deployment:
    """What the commands start, under another name, on another port, volume and network than a person's."""

    secrets: Path
    name: str = field(default_factory=lambda: f"holdfast-test-{uuid.uuid4().hex[:12]}")
    port: int = field(default_factory=free_port)

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def pin(self) -> str:
        return (self.secrets / "pin").read_text().strip()

    def run(self, commands: str) -> str:
        commands = commands.replace("compose/secrets", str(self.secrets))
        commands = commands.replace("docker compose", str(ROOT / "scripts/compose.sh"))
        environment = {
            **os.environ,
            **ANOTHER_NETWORK,
            "PATH": f"{Path(docker_path()).parent}:{os.environ['PATH']}",
            "COMPOSE_PROJECT_NAME": self.name,
            "VOLUME": self.name,
            "PORT": str(self.port),
            "SECRETS": str(self.secrets),
            "IMAGE": built_image(),
            "HAPROXY_IMAGE": service_image("haproxy"),
        }
        done = subprocess.run(
            ["bash", "-euc", commands], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def inspect(self, service: str) -> dict[str, Any]:
        (found,) = json.loads(docker("inspect", f"{self.name}-{service}-1"))
        assert isinstance(found, dict)
        return found

    def remove(self) -> None:
        self.run("docker compose --file compose/replicas.yaml down --volumes --timeout 2")


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    deployment = Deployment(tmp_path_factory.mktemp("replicas") / "secrets")
    try:
        deployment.run(SETUP)
        yield deployment
    finally:
        deployment.remove()


def test_everything_is_as_hardened_as_it_can_be(deployment: Deployment) -> None:
    for service in (*REPLICAS, "haproxy"):
        host = deployment.inspect(service)["HostConfig"]
        assert (host["ReadonlyRootfs"], host["Privileged"], host["CapAdd"]) == (True, False, None)
        assert host["CapDrop"] == ["ALL"]
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
        assert host["RestartPolicy"]["Name"] == "unless-stopped"


def test_only_the_load_balancer_can_be_reached_and_from_this_machine_only(deployment: Deployment) -> None:
    assert [deployment.inspect(service)["HostConfig"]["PortBindings"] for service in REPLICAS] == [{}, {}, {}]
    bindings = deployment.inspect("haproxy")["HostConfig"]["PortBindings"]
    assert bindings == {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(deployment.port)}]}


def test_no_secret_is_in_the_environment(deployment: Deployment) -> None:
    for service in REPLICAS:
        environment = "\n".join(deployment.inspect(service)["Config"]["Env"])
        for secret in deployment.secrets.iterdir():
            assert secret.read_text().strip() not in environment


def test_replicas_believe_the_load_balancer_alone(deployment: Deployment) -> None:
    (network,) = deployment.inspect("haproxy")["NetworkSettings"]["Networks"].values()
    for service in REPLICAS:
        assert f"FORWARDED_ALLOW_IPS={network['IPAddress']}" in deployment.inspect(service)["Config"]["Env"]


def test_a_rolling_restart_keeps_clients_signed_in(deployment: Deployment, sign_in: SignIn) -> None:
    client = sign_in(deployment.url, deployment.pin)
    before = {service: deployment.inspect(service)["Id"] for service in REPLICAS}
    deployment.run(RESTART)
    assert all(deployment.inspect(service)["Id"] != before[service] for service in REPLICAS)
    eventually(lambda: states(deployment), lambda found: set(found.values()) == {"UP"})
    client.refresh().raise_for_status()
    for _ in REPLICAS:
        assert client.call_tool("whoami").status_code == httpx.codes.OK


def test_a_replica_can_be_drained(deployment: Deployment) -> None:
    assert deployment.run(DRAIN).strip() == ""
    eventually(lambda: states(deployment)["holdfast-1"], lambda state: state.startswith("DRAIN"))
    deployment.run(DRAIN.replace("drain", "ready"))
    eventually(lambda: states(deployment)["holdfast-1"], lambda state: state == "UP")


def states(deployment: Deployment) -> dict[str, str]:
    """What HAProxy thinks of each replica."""
    told = deployment.run(DRAIN.replace("set server holdfast/holdfast-1 state drain", "show stat"))
    rows = [line.split(",") for line in told.splitlines() if line.startswith("holdfast,holdfast-")]
    return {row[1]: row[17] for row in rows}
