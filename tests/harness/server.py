"""A Holdfast server as a process of its own, started as the image starts it."""

import os
import signal
import socket
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

import httpx

from harness.environments import LINE, programs_of
from harness.waiting import eventually

FARGATE_STOPS_WITHIN = 120.0
"""In seconds, from SIGTERM to SIGKILL: the most that a task definition may ask for."""

PIN = "correct-horse"
ENTRYPOINT = Path(__file__).parents[2] / "entrypoint.sh"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ServerProcess(ABC):
    """Runs on a fixed port, so that clients find it again after a restart."""

    host: ClassVar[str] = "localhost"
    ready_path: ClassVar[str]
    """Answers with 200 as soon as the server can be used."""

    line: ClassVar[str] = LINE

    def __init__(self, log: Path, environment: Mapping[str, str]) -> None:
        self.port = free_port()
        self.url = f"http://{self.host}:{self.port}"
        self.log = log
        self.environment = {"PORT": str(self.port), **environment}
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> Sequence[str]:
        """The program to run, which becomes the leader of a process group."""

    def start(self) -> Self:
        """Start it and return when it is ready."""
        self.launch()
        self.wait_until_ready()
        return self

    def launch(self) -> None:
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        programs = f"{programs_of(self.line)}:{Path(sys.executable).parent}"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                env={**inherited, "PATH": f"{programs}:{inherited.get('PATH', '')}", **self.environment},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_until_ready(self) -> None:
        eventually(self._is_ready, bool)

    def _is_ready(self) -> bool:
        if self._running().poll() is not None:
            raise RuntimeError(f"the server ended with {self._running().returncode}:\n{self.output()}")
        return self.answers()

    def answers(self) -> bool:
        """Whether it can be used."""
        try:
            return httpx.get(f"{self.url}{self.ready_path}", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def wait_for_exit(self, timeout: float = FARGATE_STOPS_WITHIN) -> int:
        return self._running().wait(timeout)

    def has_ended(self) -> bool:
        return self._running().poll() is not None

    def kill(self) -> None:
        """End it with all its processes, as `kill -9` and a lost Spot machine do."""
        os.killpg(self._running().pid, signal.SIGKILL)
        self._running().wait()

    def terminate(self) -> None:
        """Ask it to end, as a deploy does; `wait_for_exit` tells when it has."""
        self._running().terminate()

    def stop(self) -> None:
        if self.is_running:
            self.kill()

    def restart(self) -> None:
        self.kill()
        self.start()

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def process_id(self) -> int:
        return self._running().pid

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the server was not started")
        return self._process


class Server(ServerProcess):
    """Holdfast, with the demo and the local login unless the environment says otherwise."""

    ready_path = "/readyz"

    def __init__(self, home: Path, log: Path, **environment: str) -> None:
        defaults = {"FASTMCP_HOME": str(home), "HOLDFAST_PIN": PIN, "HOLDFAST_SERVER": "demo"}
        # All clients of a test have one address.
        defaults |= {"HOLDFAST_REGISTRATIONS_PER_MINUTE": "100000"}
        # No test asks hosts of others for anything.
        defaults |= {"HOLDFAST_CIMD": "off"}
        super().__init__(log, {**defaults, **environment})

    def command(self) -> Sequence[str]:
        return [str(ENTRYPOINT)]

    def kill_workers(self) -> None:
        """End the processes that answer, and not the one that starts them anew."""
        master = self._running().pid
        for worker in Path(f"/proc/{master}/task/{master}/children").read_text().split():
            os.kill(int(worker), signal.SIGKILL)
