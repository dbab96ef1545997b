"""Cosign, a real registry on loopback, and what is published there."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from harness.container import ROOT, docker, docker_path
from harness.server import ServerProcess

CONFIGURATION = """
version: 0.1
storage: {{filesystem: {{rootdirectory: {directory}/store}}}}
http: {{addr: "{address}"}}
"""


class Registry(ServerProcess):
    """Debian's docker-registry: what it stores ends with the test."""

    ready_path = "/v2/"

    def __init__(self, program: Path, directory: Path) -> None:
        super().__init__(directory / "registry.log", {"OTEL_TRACES_EXPORTER": "none"})
        self._program = program
        self._configuration = directory / "registry.yaml"
        address = f"127.0.0.1:{self.port}"
        self._configuration.write_text(CONFIGURATION.format(directory=directory, address=address))

    def command(self) -> Sequence[str]:
        return [str(self._program), "serve", str(self._configuration)]


class Publisher:
    """Somebody with a key pair, who runs the commands of docs/supply-chain.md against that registry."""

    def __init__(self, registry: Registry, tools: Path, directory: Path) -> None:
        self.repository = f"localhost:{registry.port}/holdfast"
        self.directory = directory
        self.registry = registry
        path = f"{tools}:{Path(docker_path()).parent}:{os.environ['PATH']}"
        self._environment = {**os.environ, "PATH": path, "COSIGN_PASSWORD": "a password", "HOME": str(directory)}

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        command = command.replace("registry.example.com/holdfast", self.repository)
        command = command.replace("scripts/", f"{ROOT}/scripts/")
        return subprocess.run(
            ["bash", "-euc", command],
            cwd=self.directory,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def succeed(self, command: str) -> str:
        done = self.run(command)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="package")
def tools() -> Path:
    """The directory of cosign and docker-registry."""
    found = subprocess.run([ROOT / "scripts/supply-chain-tools.sh"], check=True, capture_output=True, text=True).stdout
    return Path(found.strip())


@pytest.fixture(scope="package")
def registry(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    registry = Registry(tools / "docker-registry", tmp_path_factory.mktemp("registry")).start()
    yield registry
    registry.stop()


@pytest.fixture(scope="package")
def publisher(registry: Registry, tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Publisher]:
    publisher = Publisher(registry, tools, tmp_path_factory.mktemp("publisher"))
    yield publisher
    pushed = ("images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", f"reference={publisher.repository}")
    for name in docker(*pushed).splitlines():
        docker("rmi", "--force", name)
