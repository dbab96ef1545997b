"""A private network with an NFS server, machines that mount its export, and replicas in them."""

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import Say
from harness.container import built_image
from harness.identity_provider import IdentityProvider
from harness.load_balancer import CUT, REFUSED
from harness.proxy_login import proxy_environment
from harness.server import PIN
from nfs.lab import BootMachine, ReachableProvider, machines, nfs_server, shared_directory, unusable
from nfs.load import Load
from nfs.network import private_network
from nfs.replica import PUBLIC_URL, HoldfastReplica, Replica, StockReplica, compiled_stock_python, image_root
from nfs.server import NFSServer
from nfs.site import Site

CHOSEN = ["holdfast", "stock"] if os.environ.get("TARGET") == "stock" else ["holdfast"]

MakeHoldfast = Callable[..., HoldfastReplica]
Tell = Callable[[str, Load, list[str], list[Path]], None]

HEADING = f"""begun anew: sessions and sign-ins that a client could not bring to an end or go on with
lost: acknowledged, and afterwards not good at one of the replicas; damaged: records set aside
refused: no connection could be made; cut: a server had got the request, and the connection ended without the answer
{"":72} {"sign-ins":>8} {"refreshes":>9} {"calls":>6} {"requests":>9} {"refused":>8} {"cut":>5} {"begun anew":>10} \
{"lost":>8} {"damaged":>8}"""


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


@pytest.fixture
def boot_machine(server: NFSServer, tmp_path: Path) -> Iterator[BootMachine]:
    with machines(tmp_path) as boot:
        yield boot


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

    def replica() -> Replica:
        machine = boot_machine()
        return StockReplica(machine, environment) if target == "stock" else HoldfastReplica(machine, environment, image)

    site = Site(server, [replica() for _ in range(2)], random.Random(0))
    site.start()
    return site


@pytest.fixture
def holdfast(image: Path, boot_machine: BootMachine, server: NFSServer) -> MakeHoldfast:
    """Put Holdfast with its own login on a machine."""
    shared_directory(server)

    def make(**environment: str) -> HoldfastReplica:
        return HoldfastReplica(boot_machine(), {"HOLDFAST_PIN": PIN, "HOLDFAST_SERVER": "demo", **environment}, image)

    return make


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
