"""A machine with a Linux kernel of its own, User-Mode Linux, and with it a real NFS client.

Its root is the root of this machine, read-only, so that every program that is installed here runs there too.
"""

import itertools
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from harness.waiting import HANGS_AFTER, eventually
from nfs.network import HOST, SUBNET, connect_port, disconnect_port, hardware_address, make_port, remove_port
from nfs.server import PORT

KERNEL = "/usr/bin/linux.uml"
MODULES = Path("/usr/lib/uml/modules")
INIT = Path(__file__).with_name("machine_init.py")
WHOLE_STATE = Path(__file__).with_name("whole_state.c")
MEMORY = 512
"""In MiB."""

MOUNT_POINT = "/mnt/efs"
LOGS = "/run/logs"
EFS_OPTIONS = "vers=4.1,rsize=1048576,wsize=1048576,hard,timeo=600,retrans=2,noresvport"
"""As the EFS mount helper mounts (AWS, "Recommended NFS mount options"; amazon-efs-utils, mount_options.py)."""

CLOCKS_DIFFER_BY = 0.05
"""In seconds, at the most, from this machine's clock and from each other."""

ANSWERS_LATER_BY = 30.0

Answer = dict[str, Any]


@cache
def whole_state_library(directory: Path) -> Path:
    """Compile whole_state.c, which says what it is for."""
    library = directory / "whole_state.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, WHOLE_STATE], check=True)
    return library


class Failed(Exception):
    """A command ended with another status than 0, or not in time: then the status is None."""

    def __init__(self, machine: str, command: Sequence[str], status: int | None, output: str) -> None:
        super().__init__(f"{machine}: {shlex.join(command)} ended with {status}: {output}")
        self.status = status
        self.output = output


class Unreachable(Exception):
    """The machine has no power."""


class SerialLine:
    """Carries commands to the first process of a machine (machine_init.py) and answers back, from power on to off."""

    def __init__(self, name: str, end: socket.socket) -> None:
        self._name = name
        self._end = end
        self._numbers = itertools.count(1)
        self._answers: dict[int, SimpleQueue[Answer | None]] = {0: SimpleQueue()}
        threading.Thread(target=self._receive, daemon=True).start()

    def wait_for_boot(self) -> None:
        self._answer_to(0, HANGS_AFTER)

    def run(self, command: Sequence[str], timeout: float) -> Answer:
        return self._answer_to(self._ask(command=command, timeout=timeout), timeout + ANSWERS_LATER_BY)

    def set_clock(self) -> float:
        """As NTP would, since a new kernel knows the time to the second; by how much it is behind at the most."""
        now = time.time()
        self._answer_to(self._ask(clock=now), HANGS_AFTER)
        return time.time() - now

    def _ask(self, **request: Any) -> int:
        number = next(self._numbers)
        self._answers[number] = SimpleQueue()
        try:
            self._end.sendall(json.dumps({"id": number, **request}).encode() + b"\n")
        except OSError as error:
            raise Unreachable(self._name) from error
        return number

    def _receive(self) -> None:
        with self._end, suppress(OSError), self._end.makefile("rb") as answers:
            for text in answers:
                with suppress(ValueError):
                    answer = json.loads(text)
                    self._answers[answer["id"]].put(answer)
        for waiting in list(self._answers.values()):
            waiting.put(None)

    def _answer_to(self, number: int, timeout: float) -> Answer:
        try:
            answer = self._answers[number].get(timeout=timeout)
        except Empty:
            raise TimeoutError(f"{self._name} did not answer within {timeout} s") from None
        finally:
            del self._answers[number]
        if answer is None:
            raise Unreachable(self._name)
        return answer


class Machine:
    """Number `number` of the network (2 to 254), which is in its address and its host name.

    `directory` holds what the kernel writes, and is where the machine can write to our file system, at LOGS. It mounts
    what the NFS server has at `exported`; `memory` is in MiB.
    """

    def __init__(
        self, number: int, directory: Path, *, server_port: int = PORT, exported: str = "/", memory: int = MEMORY
    ) -> None:
        self.name = f"machine-{number}"
        self.address = f"{SUBNET}.{number}"
        self._hardware_address = hardware_address(number)
        self.directory = directory / self.name
        self.directory.mkdir(parents=True)
        self._server_port = server_port
        self._exported = exported
        self._memory = memory
        self._kernel: subprocess.Popen[bytes] | None = None
        self._line: SerialLine | None = None

    def boot(self) -> "Machine":
        """Start it and mount the export as EFS is mounted."""
        make_port(self.name)
        near_end, far_end = socket.socketpair()
        with (self.directory / "console.log").open("ab") as console, far_end:
            self._kernel = subprocess.Popen(
                self._command(far_end.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                pass_fds=[far_end.fileno()],
                start_new_session=True,
                env={**os.environ, "LD_PRELOAD": str(whole_state_library(self.directory.parent))},
            )
        self._line = SerialLine(self.name, near_end)
        self._line.wait_for_boot()
        eventually(self._line.set_clock, lambda behind: behind < CLOCKS_DIFFER_BY)
        self._set_up()
        return self

    def run(self, *command: str, timeout: float = HANGS_AFTER) -> str:
        """Run a command there as root and return what it printed.

        Raises:
            Failed: it could not be run, ended with another status than 0, or not in time.
            Unreachable: the machine has no power, or lost it meanwhile.

        """
        if self._line is None:
            raise Unreachable(self.name)
        answer = self._line.run(command, timeout)
        if answer["status"] != 0:
            raise Failed(self.name, command, answer["status"], answer["output"])
        return str(answer["output"])

    def mount(self, exported: str, directory: str) -> None:
        """Mount what the NFS server has at `exported` as EFS is mounted."""
        self.run("mkdir", "-p", directory)
        options = f"{EFS_OPTIONS},addr={HOST},clientaddr={self.address},port={self._server_port}"
        self.run("mount", "-i", "-t", "nfs4", "-o", options, f"{HOST}:{exported}", directory)

    def cut_power(self) -> None:
        if self._kernel is not None and self._kernel.poll() is None:
            os.killpg(self._kernel.pid, signal.SIGKILL)
            self._kernel.wait()
            remove_port(self.name)

    def cut_network(self) -> None:
        disconnect_port(self.name)

    def connect_network(self) -> None:
        connect_port(self.name)

    def _command(self, line: int) -> list[str]:
        return [
            *("setpriv", "--pdeathsig", "KILL", KERNEL),
            *("root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "quiet"),
            *(f"mem={self._memory}M", f"uml_dir={self.directory}", f"umid={self.name}"),
            *(f"vec0:transport=tap,ifname={self.name},depth=128,gro=1", "con=null", "con0=null,fd:1"),
            *(f"ssl0=fd:{line},fd:{line}", f"init={sys.executable}", "--", str(INIT)),
        ]

    def _set_up(self) -> None:
        # To an NFS server two clients of one name are one client.
        self.run("hostname", self.name)
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "address", "add", f"{self.address}/24", "dev", "vec0")
        self.run("ip", "link", "set", "vec0", "address", self._hardware_address, "up")
        self.run("mkdir", "-p", LOGS, "/run/kernel/lib/modules")
        self.run("mount", "--bind", str(MODULES), "/run/kernel/lib/modules")
        self.run("modprobe", "--dirname", "/run/kernel", "nfsv4")
        self.run("mount", "-t", "hostfs", "-o", str(self.directory), "none", LOGS)
        self.mount(self._exported, MOUNT_POINT)
