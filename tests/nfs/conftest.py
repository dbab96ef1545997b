"""A private network with an NFS server, machines that mount its export, and replicas in them."""

import os
import random
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from conftest import Say
from harness.container import ROOT, built_image
from harness.identity_provider import IdentityProvider
from harness.load_balancer import CUT, REFUSED
from harness.proxy_login import proxy_environment
from harness.server import PIN
from nfs.load import Load
from nfs.machine import Machine
from nfs.network import HOST, private_network
from nfs.replica import PUBLIC_URL, HoldfastReplica, Replica, StockReplica, compiled_stock_python, image_root
from nfs.server import AccessPoint, NFSServer
from nfs.site import Site

USER = 10001
FIRST_MACHINE = 11
CHOSEN = ["holdfast", "stock"] if os.environ.get("TARGET") == "stock" else ["holdfast"]

BootMachine = Callable[..., Machine]
MakeHoldfast = Callable[..., HoldfastReplica]
Tell = Callable[[str, Load, list[str], list[Path]], None]

HEADING = f"""begun anew: sessions and sign-ins that a client could not bring to an end or go on with
lost: acknowledged, and afterwards not good at one of the replicas; damaged: records set aside
refused: no connection could be made; cut: a server had got the request, and the connection ended without the answer
{"":72} {"sign-ins":>8} {"refreshes":>9} {"calls":>6} {"requests":>9} {"refused":>8} {"cut":>5} {"begun anew":>10} \
{"lost":>8} {"damaged":>8}"""


class ReachableProvider(IdentityProvider):
    """An identity provider that the machines reach too.

    Its refresh tokens stay good, as Google's and Cognito's do: what a server that dies between a rotation and the first
    write of it loses says nothing about the storage (docs/promises.md).
    """

    host = HOST

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.environment["ROTATE_REFRESH_TOKENS"] = "no"


@pytest.fixture(scope="session")
def lab() -> None:
    """Install what the lab is made of. Where it cannot be used this is said, and on CI it is an error."""
    if (reason := unusable()) is None:
        # Now, as tests have a network of their own, where no registry is.
        compiled_stock_python()
        return
    if os.environ.get("CI") == "true" and os.geteuid() == 0:
        pytest.fail(f"NOTHING WAS TRIED ON NFS: {reason}")
    pytest.skip(f"NOTHING WAS TRIED ON NFS: {reason}")


def unusable() -> str | None:
    """Why there can be no lab on this machine."""
    if os.geteuid() != 0:
        return "only root can make a network namespace and mount; run sudo make test"
    if os.uname().machine != "x86_64":
        return f"Debian has User-Mode Linux for x86_64 only, and this machine is {os.uname().machine}"
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "/dev/net/tun is missing; run modprobe tun, or give the container that device"
    installed = subprocess.run([ROOT / "scripts/nfs-packages.sh"], capture_output=True, text=True, check=False)
    return installed.stderr.strip() if installed.returncode else None


@pytest.fixture(scope="session")
def image(lab: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root directory of the unpacked image."""
    built_image()
    return image_root(tmp_path_factory.mktemp("image"))


@pytest.fixture
def network(lab: None) -> Iterator[None]:
    with private_network():
        yield


@pytest.fixture
def server(network: None, tmp_path: Path) -> Iterator[NFSServer]:
    with nfs_server(tmp_path) as server:
        yield server


@contextmanager
def nfs_server(directory: Path, access_point: AccessPoint | None = None) -> Iterator[NFSServer]:
    server = NFSServer(directory / "server", access_point=access_point)
    try:
        yield server.start()
    finally:
        server.remove()


@pytest.fixture
def boot_machine(server: NFSServer, tmp_path: Path) -> Iterator[BootMachine]:
    with machines(tmp_path) as boot:
        yield boot


@contextmanager
def machines(directory: Path) -> Iterator[BootMachine]:
    """Boot machines, which lose their power at the end."""
    booted: list[Machine] = []

    def boot(**options: Any) -> Machine:
        machine = Machine(FIRST_MACHINE + len(booted), directory / "machines", **options)
        booted.append(machine)
        return machine.boot()

    try:
        yield boot
    finally:
        for machine in booted:
            machine.cut_power()


@pytest.fixture
def provider(network: None, tmp_path: Path) -> Iterator[IdentityProvider]:
    provider = ReachableProvider(tmp_path / "identity-provider")
    try:
        yield provider.start()
    finally:
        provider.stop()


@pytest.fixture(params=CHOSEN)
def target(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def environment(provider: IdentityProvider) -> dict[str, str]:
    """What servers need to sign people in at the identity provider, as many as come."""
    return {
        **proxy_environment(provider, PUBLIC_URL),
        "HOLDFAST_SERVER": "demo",
        "HOLDFAST_REGISTRATIONS_PER_MINUTE": "100000",
    }


@pytest.fixture
def site(target: str, image: Path, boot_machine: BootMachine, environment: dict[str, str], server: NFSServer) -> Site:
    """Two replicas that sign in at the identity provider."""
    shared_directory(server)
    kinds: dict[str, Callable[[Machine], Replica]] = {
        "holdfast": lambda machine: HoldfastReplica(machine, environment, image),
        "stock": lambda machine: StockReplica(machine, environment),
    }
    site = Site(server, [kinds[target](boot_machine()) for _ in range(2)], random.Random(0))
    site.start()
    return site


@pytest.fixture
def holdfast(image: Path, boot_machine: BootMachine, server: NFSServer) -> MakeHoldfast:
    """Put Holdfast with its own login on a machine."""
    shared_directory(server)

    def make(**environment: str) -> HoldfastReplica:
        return HoldfastReplica(boot_machine(), {"HOLDFAST_PIN": PIN, "HOLDFAST_SERVER": "demo", **environment}, image)

    return make


def shared_directory(server: NFSServer) -> None:
    """Make the directory that replicas share, owned by the image's user."""
    directory = server.export / "data"
    directory.mkdir(mode=0o700)
    os.chown(directory, USER, USER)


@pytest.fixture
def tell(target: str, say: Say) -> Tell:
    """Write a row of the table; in that of Holdfast nothing may be lost."""

    def tell(what: str, load: Load, lost_later: list[str], damaged: list[Path]) -> None:
        done, outcomes = load.done, load.outcomes
        row = (
            f"{target:9} {what:62} {done['redeem']:8} {done['refresh']:9} {done['call']:6} {done['requests']:9} "
            f"{outcomes[REFUSED]:8} {outcomes[CUT]:5} {len(load.lost):10} {len(lost_later):8} {len(damaged):8}"
        )
        say("two replicas on NFSv4.1", HEADING, row)
        for reason in [*load.lost, *lost_later, *map(str, damaged)]:
            print(reason)
        if target == "holdfast":
            assert (load.lost, lost_later, damaged) == ([], [], [])

    return tell
