"""Containers of the real image on the real engine, by the docker command as a person uses it."""

import json
import os
import subprocess
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import httpx

from harness.server import PIN, free_port
from harness.waiting import HANGS_AFTER, eventually

ROOT = Path(__file__).parents[2]
IMAGE = os.environ.get("IMAGE", "holdfast")
RELEASED = ("holdfast", "base", "fastmcp4")
"""The targets of the Dockerfile that a release publishes."""

HARDENED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--tmpfs=/tmp")


@cache
def docker_path() -> str:
    return _output([str(ROOT / "scripts/find-or-install-engine.sh")])


@cache
def built_image(target: str = "holdfast") -> str:
    """Build a target of the Dockerfile (nothing to do where it is up to date) and return the image's name."""
    name = IMAGE if target == "holdfast" else f"{IMAGE.partition(':')[0]}:{target}"
    _output([str(ROOT / "scripts/build-image.sh"), name, target])
    return name


@cache
def debian_image() -> str:
    """The name of an image with Debian's shell and programs, of which ours has none."""
    return _output([str(ROOT / "scripts/base-image.sh")])


@cache
def service_image(service: str) -> str:
    """Pull, or make from Debian's package, the image of a service that a file in compose/ starts: return its name."""
    return _output([str(ROOT / "tests/container/service-image.sh"), service])


def docker(*arguments: str, timeout: float = HANGS_AFTER) -> str:
    return _output([docker_path(), *arguments], timeout)


def _output(command: list[str], timeout: float = 2 * HANGS_AFTER) -> str:
    result = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    if result.returncode:
        raise RuntimeError(f"{command} ended with {result.returncode}:\n{result.stdout}{result.stderr}")
    return result.stdout.strip()


def run_to_end(*arguments: str, timeout: float = HANGS_AFTER) -> subprocess.CompletedProcess[str]:
    """Run something that ends by itself; `arguments` are those of `docker run`, image and command included."""
    command = [docker_path(), "run", "--rm", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


@dataclass
class Container:
    """A running Holdfast on a fixed port, so that clients find it again after a restart."""

    flags: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    id: str = ""
    target: str = "holdfast"

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    def run(self) -> "Container":
        """Create and start it, without waiting."""
        environment = {"PORT": str(self.port), "HOLDFAST_PIN": PIN, **self.environment}
        variables = [f"--env={name}={value}" for name, value in environment.items()]
        published = f"--publish=127.0.0.1:{self.port}:{self.port}"
        image = built_image(self.target)
        self.id = docker("run", "--detach", published, *variables, *self.flags, image, *self.arguments)
        return self

    def wait_until_ready(self) -> "Container":
        eventually(self._is_ready, bool)
        return self

    def _is_ready(self) -> bool:
        if not self.state()["Running"]:
            raise RuntimeError(f"the container ended with {self.state()['ExitCode']}:\n{self.output()}")
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def start(self) -> "Container":
        docker("start", self.id)
        return self

    def kill(self) -> None:
        """End it as `docker kill` and a lost Spot machine do."""
        docker("kill", self.id)

    def stop(self) -> None:
        docker("stop", self.id)

    def remove(self) -> None:
        if self.id:
            docker("rm", "--force", "--volumes", self.id)

    def execute(self, *command: str) -> str:
        return docker("exec", self.id, *command)

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = self.inspect()["State"]
        return state

    def inspect(self) -> dict[str, Any]:
        (found,) = json.loads(docker("inspect", self.id))
        assert isinstance(found, dict)
        return found

    def output(self) -> str:
        result = subprocess.run([docker_path(), "logs", self.id], capture_output=True, text=True, check=True)
        return result.stdout + result.stderr
