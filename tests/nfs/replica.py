"""Servers inside machines, on the directory that the machines share: the real image, and stock FastMCP beside it."""

import json
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Self

import httpx

from harness.container import IMAGE, docker
from harness.stock import PROGRAM, stock_python
from harness.waiting import eventually
from nfs.machine import LOGS, MOUNT_POINT, Failed, Machine

PORT = 8000
PUBLIC_URL = f"http://localhost:{PORT}"
READY_WITHIN = 120.0
SHARED = f"{MOUNT_POINT}/data"
CONTAINER = "holdfast"
CONTAINERS = ("runc", "--root", "/run/containers")

FORBIDDEN = (
    *("acct", "add_key", "bpf", "clock_settime", "delete_module", "finit_module", "init_module", "kexec_load"),
    *("keyctl", "mount", "move_mount", "name_to_handle_at", "open_by_handle_at", "perf_event_open", "pivot_root"),
    *("process_vm_readv", "process_vm_writev", "ptrace", "quotactl", "reboot", "request_key", "setns"),
    *("settimeofday", "swapoff", "swapon", "umount2", "unshare", "userfaultfd"),
)
"""System calls that Docker's own profile allows nobody without capabilities."""


class Replica(ABC):
    """One of several servers that share a directory and a public URL."""

    ready_path: str

    def __init__(self, machine: Machine, environment: Mapping[str, str]) -> None:
        self.machine = machine
        self.url = f"http://{machine.address}:{PORT}"
        self.environment = {"PORT": str(PORT), **environment}
        self.log = machine.directory / "replica.log"

    @abstractmethod
    def launch(self) -> None:
        """Start it, without waiting."""

    @abstractmethod
    def kill(self) -> None:
        """End all its processes, as SIGKILL does."""

    @abstractmethod
    def is_running(self) -> bool:
        """Whether it has not ended by itself."""

    def start(self) -> Self:
        self.launch()
        self.wait_until_ready()
        return self

    def wait_until_ready(self) -> None:
        try:
            eventually(self._is_ready, bool, within=READY_WITHIN)
        except TimeoutError as error:
            raise TimeoutError(f"{self.url} is not ready:\n{self.output()}") from error

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}{self.ready_path}", timeout=5).status_code == 200
        except httpx.TransportError:
            if not self.is_running():
                raise RuntimeError(f"{self.url} ended by itself:\n{self.output()}") from None
            return False


class HoldfastReplica(Replica):
    """The image in a container, hardened as the documentation says: runc, as Docker does it."""

    ready_path = "/readyz"

    def __init__(self, machine: Machine, environment: Mapping[str, str], root: Path) -> None:
        super().__init__(machine, environment)
        self._bundle = machine.directory / "bundle"
        self._bundle.mkdir(exist_ok=True)
        configuration = container_configuration(root, machine.name, self.environment)
        (self._bundle / "config.json").write_text(json.dumps(configuration))

    def launch(self) -> None:
        detached = 'exec "$@" >>"$0" 2>&1 </dev/null'
        command = (*CONTAINERS, "run", "--detach", "--bundle", f"{LOGS}/{self._bundle.name}", CONTAINER)
        self.machine.run("sh", "-c", detached, f"{LOGS}/{self.log.name}", *command)

    def run_to_end(self, timeout: float = 60) -> str:
        """Run it in the foreground; returns its output, or raises Failed with its exit status."""
        return self.machine.run(
            *CONTAINERS, "run", "--bundle", f"{LOGS}/{self._bundle.name}", CONTAINER, timeout=timeout
        )

    def kill(self) -> None:
        self.machine.run(*CONTAINERS, "delete", "--force", CONTAINER)

    def terminate(self) -> None:
        """Ask it to end, as a deploy does."""
        self.machine.run(*CONTAINERS, "kill", CONTAINER, "TERM")

    def is_running(self) -> bool:
        state: dict[str, Any] = json.loads(self.machine.run(*CONTAINERS, "state", CONTAINER))
        return bool(state["status"] == "running")


class StockReplica(Replica):
    """Stock FastMCP as a process of the machine."""

    ready_path = "/.well-known/oauth-authorization-server"
    _process_group = ""

    def launch(self) -> None:
        variables = [f"{name}={value}" for name, value in {**self.environment, "FASTMCP_HOME": SHARED}.items()]
        detached = 'setsid "$@" >>"$0" 2>&1 </dev/null & echo $!'
        command = ("env", *variables, str(stock_python()), str(PROGRAM))
        self._process_group = self.machine.run("sh", "-c", detached, f"{LOGS}/{self.log.name}", *command).strip()

    def kill(self) -> None:
        self.machine.run("kill", "-KILL", "--", f"-{self._process_group}")

    def is_running(self) -> bool:
        try:
            self.machine.run("kill", "-0", "--", f"-{self._process_group}")
        except Failed:
            return False
        return True


@cache
def image_root(directory: Path) -> Path:
    """Unpack the image and return its root directory."""
    root, archive = directory / "root", directory / "image.tar"
    container = docker("create", IMAGE)
    try:
        docker("export", "--output", str(archive), container)
    finally:
        docker("rm", container)
    root.mkdir()
    subprocess.run(["tar", "--extract", "--file", archive, "--directory", root, "--same-owner"], check=True)
    archive.unlink()
    return root


def container_configuration(root: Path, host_name: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """What runc is told (OCI runtime specification): what the image says, and nothing that the container may do."""
    image = json.loads(docker("image", "inspect", "--format", "{{json .Config}}", IMAGE))
    user, group = (int(number) for number in image["User"].split(":"))
    variables = [*image["Env"], *(f"{name}={value}" for name, value in environment.items())]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "args": [*image["Entrypoint"], *(image["Cmd"] or [])],
            "cwd": image["WorkingDir"] or "/",
            "env": variables,
            "user": {"uid": user, "gid": group},
            "capabilities": {kind: [] for kind in ("bounding", "effective", "permitted", "inheritable", "ambient")},
            "noNewPrivileges": True,
        },
        "root": {"path": str(root), "readonly": True},
        "hostname": host_name,
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            *(_memory_file_system(directory) for directory in ("/dev", "/dev/shm", "/tmp")),
            {"destination": "/data", "type": "bind", "source": SHARED, "options": ["rbind", "rw"]},
        ],
        "linux": {
            # The machine's network is the container's.
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")],
            "seccomp": {
                "defaultAction": "SCMP_ACT_ALLOW",
                "architectures": ["SCMP_ARCH_X86_64"],
                "syscalls": [{"names": FORBIDDEN, "action": "SCMP_ACT_ERRNO"}],
            },
        },
    }


def _memory_file_system(directory: str) -> dict[str, Any]:
    return {"destination": directory, "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=1777"]}
