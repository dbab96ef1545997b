"""The servers that are soaked: containers of the image, or processes as the image starts them; and their restarts."""

import random
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from harness.container import HARDENED, Container, docker
from harness.server import Server

SETTINGS = {
    "HOLDFAST_SERVER": "demo",
    "HOLDFAST_CIMD": "off",
    # All clients have one address.
    "HOLDFAST_REGISTRATIONS_PER_MINUTE": "100000",
    # In half an hour all of these have to expire many times over, and to be removed.
    "HOLDFAST_ACCESS_TOKEN_LIFETIME": "5m",
    "HOLDFAST_REGISTRATION_LIFETIME": "2m",
    "HOLDFAST_SIGNIN_PAGE_LIFETIME": "2m",
    "HOLDFAST_CODE_LIFETIME": "1m",
    "HOLDFAST_SWEEP_INTERVAL": "5s",
}
STEADY, RESTARTED = "never restarted", "restarted"

ANSWERED_AGAIN_WITHIN = 11.0
"""Seconds for which a server that is ready may say "later": until it no longer waits for who died in an exchange."""


class Runnable(Protocol):
    """A server that runs already. `url` stays the same whatever becomes of it."""

    @property
    def url(self) -> str: ...

    @property
    def process_id(self) -> int:
        """The leader of the session that all of its processes are in, as this machine numbers them."""

    def start(self) -> None:
        """Start it anew, and return when it is ready."""

    def end(self) -> None:
        """Have it finish what it is answering."""

    def kill(self) -> None:
        """End it at once, with all its processes."""


class InContainer:
    """The image, as docs/operations.md has it run."""

    def __init__(self, volume: str) -> None:
        flags = (*HARDENED, f"--volume={volume}:/data")
        self._container = Container(flags=flags, environment=SETTINGS)
        self.url = self._container.url

    def launch(self) -> None:
        self._container.run().wait_until_ready()

    @property
    def process_id(self) -> int:
        return int(self._container.state()["Pid"])

    def start(self) -> None:
        self._container.start().wait_until_ready()

    def end(self) -> None:
        self._container.stop()

    def kill(self) -> None:
        self._container.kill()

    def remove(self) -> None:
        self._container.remove()

    def output(self) -> str:
        return self._container.output()


class AsProcess:
    """What the image starts, without a container."""

    def __init__(self, directory: Path) -> None:
        self._server = Server(directory / "data", directory / "server.log", **SETTINGS)
        self.url = self._server.url

    @property
    def process_id(self) -> int:
        return self._server.process_id

    def start(self) -> None:
        self._server.start()

    def end(self) -> None:
        self._server.terminate()
        self._server.wait_for_exit()

    def kill(self) -> None:
        self._server.kill()

    def remove(self) -> None:
        self._server.stop()

    def output(self) -> str:
        return self._server.output()


@dataclass
class Soaked:
    """A server under load, and what is known of its restarts. Times are those of time.monotonic()."""

    name: str
    server: Runnable
    files: Path
    restarts: list[tuple[float, float]] = field(default_factory=list)
    began: float | None = None

    def restart(self, *, by_kill: bool) -> None:
        self.began = time.monotonic()
        if by_kill:
            self.server.kill()
        else:
            self.server.end()
        self.server.start()
        self.restarts.append((self.began, time.monotonic()))
        self.began = None

    @property
    def is_away(self) -> bool:
        return self.began is not None

    def was_away(self, moment: float) -> bool:
        """Whether a restart explains that there was no answer."""
        if (began := self.began) is not None and began <= moment:
            return True
        return any(began <= moment <= ended + ANSWERED_AGAIN_WITHIN for began, ended in self.restarts)


def restart_again_and_again(soaked: Soaked, *, times: int, seconds: float, stopping: threading.Event) -> None:
    """So many restarts in so many seconds, at moments that nobody can foresee, every second one by kill -9."""
    moments = random.Random(0)
    end = time.monotonic() + seconds
    for left in range(times, 0, -1):
        pause = (end - time.monotonic()) / left * moments.uniform(0.5, 0.9)
        if stopping.wait(max(0.0, pause)):
            return
        soaked.restart(by_kill=left % 2 == 1)


@contextmanager
def in_containers() -> Iterator[list[Soaked]]:
    """Both servers, each on a volume of its own. It needs an engine on this machine, and root to look inside."""
    with ExitStack() as stack:
        soaked = []
        for name in (STEADY, RESTARTED):
            volume = docker("volume", "create", f"holdfast-soak-{uuid.uuid4().hex[:8]}")
            stack.callback(docker, "volume", "rm", "--force", volume)
            server = InContainer(volume)
            stack.callback(server.remove)
            server.launch()
            files = Path(docker("volume", "inspect", "--format", "{{.Mountpoint}}", volume))
            soaked.append(Soaked(name, server, files))
        yield soaked


@contextmanager
def as_processes(directory: Path) -> Iterator[list[Soaked]]:
    """Both servers without containers, for a short cut of the same."""
    with ExitStack() as stack:
        soaked = []
        for name in (STEADY, RESTARTED):
            home = directory / name.replace(" ", "-")
            home.mkdir()
            server = AsProcess(home)
            stack.callback(server.remove)
            server.start()
            soaked.append(Soaked(name, server, home / "data"))
        yield soaked
