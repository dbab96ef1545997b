"""An engine as a process of its own, with its data in a directory."""

import os
import signal
import socket
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

from harness.server import free_port
from harness.waiting import eventually

ROOT = Path(__file__).parents[3]
HOST = "127.0.0.1"


class EngineProcess(ABC):
    """Listens on a fixed port, so that its clients find it again after a restart."""

    backend: ClassVar[str]
    """What HOLDFAST_STORAGE calls it."""

    keeps_what_it_holds: ClassVar[bool] = True
    """Whether it knows after a crash what it knew before."""

    def __init__(self, directory: Path, *, port: int | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.port = port or free_port()
        self.log = directory / "engine.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """What HOLDFAST_STORAGE_URL is to be."""

    @abstractmethod
    def command(self) -> Sequence[str]:
        """The program to run."""

    @abstractmethod
    def dump(self) -> bytes:
        """Everything that it holds, names and values, as text to search in."""

    @abstractmethod
    def empty(self) -> None:
        """Have it forget everything."""

    def files(self) -> bytes:
        """Everything that it wrote to its directory."""
        written = (file for file in sorted(self.directory.rglob("*")) if file.is_file() and file != self.log)
        return b"\0".join(file.read_bytes() for file in written)

    def environment(self) -> Mapping[str, str]:
        """What the program needs beside PATH."""
        return {}

    def prepare(self) -> None:
        """Do what must be done before a start."""
        subprocess.run([ROOT / "scripts/engine-packages.sh"], check=True)

    def start(self) -> Self:
        """Start it and return when it answers."""
        self.prepare()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self.command()],
                env={"PATH": os.environ["PATH"], **self.environment()},
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            eventually(self.answers, bool)
        except BaseException:
            self.kill()
            raise
        return self

    def answers(self) -> bool:
        """Whether it takes connections."""
        if self._running().poll() is not None:
            raise RuntimeError(f"the engine ended with {self._running().returncode}:\n{self.log.read_text()}")
        try:
            socket.create_connection((HOST, self.port), 1).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """End it as a crash does."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def restart(self) -> None:
        self.kill()
        self.start()

    def hang(self) -> None:
        os.killpg(self._running().pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.killpg(self._running().pid, signal.SIGCONT)

    def settings(self) -> dict[str, str]:
        """What a server needs to use it."""
        return {"HOLDFAST_STORAGE": self.backend, "HOLDFAST_STORAGE_URL": self.url, **KEYS}

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the engine was not started")
        return self._process


KEYS = {
    "HOLDFAST_STORAGE_KEY": "the-storage-key-of-all-the-replicas",
    "HOLDFAST_SIGNING_KEY": "the-signing-key-of-all-the-replicas",
}
