"""Servers inside machines, on the directory that the machines share: the real image, and stock FastMCP beside it."""

import json
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Self

import httpx

from harness.confinement import Confinement, Mount
from harness.container import IMAGE, docker
from harness.fargate import PLACEHOLDERS
from harness.stock import PROGRAM, stock_python
from harness.task_definition import Task, Untranslated
from harness.waiting import eventually
from nfs.machine import LOGS, MOUNT_POINT, Failed, Machine

PORT = 8000
PUBLIC_URL = PLACEHOLDERS["BASE_URL"]
SHARED = f"{MOUNT_POINT}/data"
CONTAINER = "holdfast"
CONTAINERS = ("runc", "--root", "/run/containers")
HARDENED = Confinement(mounts=(Mount(SHARED, "/data"),))
INIT = "/dev/init"

IN_THE_BACKGROUND = """
rm -f "$1"
setsid sh -c '
    trap : TERM; echo "$$"; exec </dev/null >>"$0" 2>&1
    status=$1; shift
    "$@"; echo "$?" >"$status"
' "$0" "$@" &
"""
"""Of a shell that is given a log, a file for the exit status, and the command. A signal for the group ends the command
only, and what it ended with is still written."""

UNTIL_ONE_IS_THERE = 'until [ -s "$0" ] || [ -s "$1" ]; do sleep 0.1; done'

FORBIDDEN = (
    *("acct", "add_key", "bpf", "clock_settime", "delete_module", "finit_module", "init_module", "kexec_load"),
    *("keyctl", "mount", "move_mount", "name_to_handle_at", "open_by_handle_at", "perf_event_open", "pivot_root"),
    *("process_vm_readv", "process_vm_writev", "ptrace", "quotactl", "reboot", "request_key", "setns"),
    *("settimeofday", "swapoff", "swapon", "umount2", "unshare", "userfaultfd"),
)
"""System calls that Docker's own profile allows nobody without capabilities."""

CHANGES_OF_OWNER = ("chown", "fchown", "fchownat", "lchown")
"""What an EFS access point refuses (aws/amazon-ecs-agent#4702); Ganesha takes its one user for the new owner."""


class Replica(ABC):
    """One of several servers that share a directory and a public URL."""

    ready_path: str

    def __init__(self, machine: Machine, environment: Mapping[str, str]) -> None:
        self.machine = machine
        self.url = f"http://{machine.address}:{PORT}"
        self.environment = environment
        self.log = machine.directory / "replica.log"
        self._status = machine.directory / "status"

    @abstractmethod
    def launch(self) -> None:
        """Start it, without waiting."""

    @abstractmethod
    def kill(self) -> None:
        """End all its processes, as SIGKILL does."""

    @abstractmethod
    def terminate(self) -> None:
        """Ask it to end, as a deploy does."""

    @property
    def exit_status(self) -> int | None:
        """What it has ended with, None as long as it runs."""
        text = self._status.read_text() if self._status.exists() else ""
        return int(text) if text else None

    def start(self) -> Self:
        self.launch()
        self.wait_until_ready()
        return self

    def wait_until_ready(self) -> None:
        try:
            eventually(self._is_ready, bool)
        except TimeoutError as error:
            raise TimeoutError(f"{self.url} is not ready:\n{self.output()}") from error

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def _run_in_the_background(self, *command: str) -> str:
        """Let its exit status be written when it ends; returns its process group, which is there then."""
        log, status = (f"{LOGS}/{file.name}" for file in (self.log, self._status))
        return self.machine.run("sh", "-c", IN_THE_BACKGROUND, log, status, *command).strip()

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}{self.ready_path}", timeout=5).status_code == 200
        except httpx.TransportError:
            if self.exit_status is not None:
                raise RuntimeError(f"{self.url} ended by itself:\n{self.output()}") from None
            return False


class HoldfastReplica(Replica):
    """The image in a container, by default hardened as the documentation says: runc, as Docker does it."""

    ready_path = "/readyz"

    def __init__(
        self,
        machine: Machine,
        environment: Mapping[str, str],
        root: Path,
        confinement: Confinement = HARDENED,
        command: Sequence[str] = (),
    ) -> None:
        """`command` is what the image runs instead of the server."""
        super().__init__(machine, environment)
        self._bundle = machine.directory / "bundle"
        self._bundle.mkdir(exist_ok=True)
        configuration = container_configuration(root, machine.name, self.environment, confinement, command)
        (self._bundle / "config.json").write_text(json.dumps(configuration))

    def launch(self) -> None:
        begun = f"{LOGS}/begun"
        self.machine.run("rm", "-f", begun)
        self._run_in_the_background(*self._run(), "--pid-file", begun, CONTAINER)
        self.machine.run("sh", "-c", UNTIL_ONE_IS_THERE, begun, f"{LOGS}/{self._status.name}")

    def run_to_end(self, timeout: float = 60) -> str:
        """Run it in the foreground; returns its output, or raises Failed with its exit status."""
        return self.machine.run(*self._run(), CONTAINER, timeout=timeout)

    def kill(self) -> None:
        self.machine.run(*CONTAINERS, "delete", "--force", CONTAINER)
        eventually(lambda: self.exit_status, lambda status: status is not None)

    def terminate(self) -> None:
        self.machine.run(*CONTAINERS, "kill", CONTAINER, "TERM")

    def execute(self, *command: str, timeout: float) -> str:
        """Run something in the container; returns its output, or raises Failed."""
        return self.machine.run(*CONTAINERS, "exec", CONTAINER, *command, timeout=timeout)

    def _run(self) -> Sequence[str]:
        return (*CONTAINERS, "run", "--bundle", f"{LOGS}/{self._bundle.name}")


class TaskReplica(HoldfastReplica):
    """The container of a task definition, in a machine of its own as on Fargate; ready when ECS calls it healthy.

    The machine has the task's memory (whoever boots it sees to that) and one CPU, slower than half a one of Fargate's.
    """

    def __init__(
        self, machine: Machine, task: Task, root: Path, volumes: Mapping[str, str], command: Sequence[str] = ()
    ) -> None:
        """`volumes` are the machine's directories by the names of the task's."""
        mounts = [replace(mount, source=volumes[mount.source]) for mount in task.confinement.mounts]
        if task.port != PORT:
            raise Untranslated(f"port {task.port} is not {PORT}, which load balancers here ask")
        confinement = replace(task.confinement, mounts=mounts, refused=CHANGES_OF_OWNER)
        super().__init__(machine, task.environment, root, confinement, command)
        self._check = task.health_check

    def _is_ready(self) -> bool:
        return super()._is_ready() and self.is_healthy()

    def is_healthy(self) -> bool:
        try:
            self.execute(*self._check.command, timeout=self._check.timeout)
        except Failed:
            return False
        return True


class ProcessReplica(Replica):
    """A program of this file system as a process of the machine."""

    def __init__(self, machine: Machine, environment: Mapping[str, str], command: Sequence[str]) -> None:
        super().__init__(machine, {"PORT": str(PORT), **environment})
        self._command = command
        self._process_group = ""

    def launch(self) -> None:
        variables = [f"{name}={value}" for name, value in self.environment.items()]
        self._process_group = self._run_in_the_background("env", *variables, *self._command)

    def kill(self) -> None:
        self.machine.run("kill", "-KILL", "--", f"-{self._process_group}")

    def terminate(self) -> None:
        self.machine.run("kill", "-TERM", "--", f"-{self._process_group}")


class StockReplica(ProcessReplica):
    """Stock FastMCP, with its state at `home`."""

    ready_path = "/.well-known/oauth-authorization-server"

    def __init__(self, machine: Machine, environment: Mapping[str, str], home: str = SHARED) -> None:
        command = [str(compiled_stock_python()), str(PROGRAM)]
        super().__init__(machine, {**environment, "FASTMCP_HOME": home}, command)


@cache
def compiled_stock_python() -> Path:
    """Its interpreter, after it imported once what the server does: a machine cannot write bytecode, and is slow."""
    python = stock_python()
    subprocess.run([python, "-c", "import runpy, sys; runpy.run_path(sys.argv[1])", PROGRAM], check=True)
    return python


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


def container_configuration(
    root: Path, host_name: str, environment: Mapping[str, str], confinement: Confinement, command: Sequence[str]
) -> dict[str, Any]:
    """What runc is told (OCI runtime specification): what the image says, and nothing that the container may do."""
    image = json.loads(docker("image", "inspect", "--format", "{{json .Config}}", IMAGE))
    user, group = (int(number) for number in (confinement.user or image["User"]).split(":"))
    init, mounts_of_init = _init() if confinement.init else ([], [])
    for mount in confinement.mounts:
        # The root is read-only, so runc cannot make what it mounts upon.
        (root / mount.path.removeprefix("/")).mkdir(exist_ok=True)
    variables = [*image["Env"], *(f"{name}={value}" for name, value in environment.items())]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "args": [*init, *image["Entrypoint"], *(command or image["Cmd"] or [])],
            "cwd": image["WorkingDir"] or "/",
            "env": variables,
            "user": {"uid": user, "gid": group},
            "capabilities": {kind: [] for kind in ("bounding", "effective", "permitted", "inheritable", "ambient")},
            "noNewPrivileges": confinement.no_new_privileges,
            "rlimits": [
                {"type": f"RLIMIT_{name.upper()}", "soft": soft, "hard": hard}
                for name, (soft, hard) in confinement.limits.items()
            ],
        },
        "root": {"path": str(root), "readonly": True},
        "hostname": host_name,
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            *(_memory_file_system(directory, ("nosuid", "mode=1777")) for directory in ("/dev", "/dev/shm")),
            *(_memory_file_system(directory, options) for directory, options in confinement.tmpfs.items()),
            *(_bound(mount) for mount in confinement.mounts),
            *mounts_of_init,
        ],
        "linux": {
            # The machine's network is the container's.
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")],
            "seccomp": {
                "defaultAction": "SCMP_ACT_ALLOW",
                "architectures": ["SCMP_ARCH_X86_64"],
                "syscalls": [{"names": [*FORBIDDEN, *confinement.refused], "action": "SCMP_ACT_ERRNO"}],
            },
        },
    }


def _init() -> tuple[Sequence[str], Sequence[dict[str, Any]]]:
    """The program that `docker run --init` begins with, which ECS has as well; and how the container gets it."""
    program = shutil.which("docker-init")
    if program is None:
        raise FileNotFoundError("docker-init is missing; it comes with Docker")
    mount = {"destination": INIT, "type": "bind", "source": program, "options": ["bind", "ro"]}
    return (INIT, "--"), (mount,)


def _bound(mount: Mount) -> dict[str, Any]:
    options = ["rbind", "ro" if mount.read_only else "rw"]
    return {"destination": mount.path, "type": "bind", "source": mount.source, "options": options}


def _memory_file_system(directory: str, options: Sequence[str]) -> dict[str, Any]:
    return {"destination": directory, "type": "tmpfs", "source": "tmpfs", "options": list(options)}
