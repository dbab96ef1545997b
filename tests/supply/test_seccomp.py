"""Under deploy/seccomp.json the image does all that it does, and what Docker's own profile lets through is refused.

`make supply-chain` tries every engine too, and sees that nothing was refused in silence.
"""

import errno
import json
import platform
import re
import uuid
from collections.abc import Iterator

import httpx
import pytest

from harness.container import HARDENED, ROOT, Container, built_image, docker, run_to_end
from harness.oauth import OAuthClient
from harness.waiting import HANGS_AFTER, eventually

PROFILE = ROOT / "deploy" / "seccomp.json"
PAGE = ROOT / "docs" / "supply-chain.md"
CONFINED = f"--security-opt=seccomp={PROFILE}"

CLONE_NEWUSER = 0x10000000
AF_VSOCK = 40
CALLS: dict[str, tuple[dict[str, int], list[int | str]]] = {
    "add_key": ({"x86_64": 248, "aarch64": 217}, ["user", "name", "content", 7, -3]),
    "bpf": ({"x86_64": 321, "aarch64": 280}, [0, 0, 0]),
    "io_uring_setup": ({"x86_64": 425, "aarch64": 425}, [1, 0]),
    "keyctl": ({"x86_64": 250, "aarch64": 219}, [0, -3, 1]),
    "mount": ({"x86_64": 165, "aarch64": 40}, ["none", "/tmp", "tmpfs", 0, 0]),
    "personality": ({"x86_64": 135, "aarch64": 92}, [0xFFFFFFFF]),
    "process_vm_readv": ({"x86_64": 310, "aarch64": 270}, [1, 0, 0, 0, 0, 0]),
    "ptrace": ({"x86_64": 101, "aarch64": 117}, [0, 0, 0, 0]),
    "setns": ({"x86_64": 308, "aarch64": 268}, [-1, 0]),
    "shmget": ({"x86_64": 29, "aarch64": 194}, [0, 4096, 0o1600]),
    "socket of another family": ({"x86_64": 41, "aarch64": 198}, [AF_VSOCK, 1, 0]),
    "unshare": ({"x86_64": 272, "aarch64": 97}, [CLONE_NEWUSER]),
    "userfaultfd": ({"x86_64": 323, "aarch64": 282}, [0]),
}
"""What to try: the number of the call on each platform, and arguments that do no harm."""

LET_THROUGH_BY_DOCKER = {"personality", "ptrace", "shmget"}
"""By every release of Docker's profile; by some of them others, too."""

TRY = """
import ctypes, json, sys
libc = ctypes.CDLL(None, use_errno=True)
def attempt(number, arguments):
    given = [argument.encode() if isinstance(argument, str) else ctypes.c_long(argument) for argument in arguments]
    return 0 if libc.syscall(ctypes.c_long(number), *given) >= 0 else ctypes.get_errno()
print(json.dumps({name: attempt(*call) for name, call in json.loads(sys.argv[1]).items()}))
"""


def refused(*flags: str) -> set[str]:
    """Which of CALLS fail, in a container with these flags, as if it were forbidden or unknown to the kernel."""
    calls = {name: (numbers[platform.machine()], arguments) for name, (numbers, arguments) in CALLS.items()}
    done = run_to_end(*HARDENED, *flags, built_image(), "python", "-c", TRY, json.dumps(calls))
    assert done.returncode == 0, done.stderr
    return {name for name, error in json.loads(done.stdout).items() if error in {errno.EPERM, errno.ENOSYS}}


def allowed() -> list[str]:
    rules = json.loads(PROFILE.read_text())["syscalls"]
    return [name for rule in rules if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]]


@pytest.fixture(scope="module")
def server() -> Iterator[Container]:
    volume = docker("volume", "create", f"holdfast-test-{uuid.uuid4().hex[:12]}")
    container = Container((f"--volume={volume}:/data", *HARDENED, CONFINED, "--health-interval=1s"))
    try:
        yield container.run().wait_until_ready()
    finally:
        container.remove()
        docker("volume", "rm", "--force", volume)


@pytest.fixture(scope="module")
def client(server: Container) -> Iterator[OAuthClient]:
    with httpx.Client(base_url=server.url, timeout=HANGS_AFTER) as http:
        yield OAuthClient(http).sign_in()


def test_what_only_an_attacker_calls_is_refused() -> None:
    assert refused(CONFINED) == set(CALLS)


def test_dockers_own_profile_lets_some_of_it_through() -> None:
    assert refused().isdisjoint(LET_THROUGH_BY_DOCKER)


def test_a_person_signs_in_and_calls(client: OAuthClient) -> None:
    client.refresh().raise_for_status()
    assert client.call().status_code == 200


def test_the_health_check_works(server: Container) -> None:
    eventually(lambda: server.state()["Health"]["Status"], lambda status: status == "healthy")


@pytest.mark.parametrize(
    "command",
    ["check", "clients", "doctor", "sessions", "sweep", "backup -", "backup /tmp/backup"],
)
def test_every_command_works(server: Container, client: OAuthClient, command: str) -> None:
    server.execute("holdfast", *command.split())


def test_a_payload_may_start_programs(server: Container) -> None:
    program = "import asyncio; asyncio.run(asyncio.create_subprocess_exec('sh', '-c', ':'))"
    server.execute("python", "-c", program)
    server.execute("sh", "-c", "echo a | while read -r line; do :; done")


def test_it_stops_in_order_and_starts_again(server: Container, client: OAuthClient) -> None:
    server.stop()
    assert server.state()["ExitCode"] == 0
    assert "Shutting down" in server.output()
    server.start().wait_until_ready()
    assert client.call().status_code == 200


def test_without_no_new_privileges_and_as_root_it_starts_too() -> None:
    done = run_to_end(CONFINED, "--user=0:0", built_image(), "holdfast", "check")
    assert done.returncode == 0, done.stderr


def test_every_engine_of_containers_can_read_the_profile() -> None:
    """Kubernetes hands it to the runtime as it is, which knows neither Docker's archMap nor its conditions."""
    profile = json.loads(PROFILE.read_text())
    assert set(profile) == {"defaultAction", "defaultErrnoRet", "syscalls"}
    assert {key for rule in profile["syscalls"] for key in rule} <= {"comment", "names", "action", "args", "errnoRet"}


def test_the_page_tells_how_many_calls_are_allowed() -> None:
    (told,) = re.findall(r"allows (\d+) system calls", PAGE.read_text())
    assert int(told) == len(set(allowed()))
