"""What a private network is made of: an NFS server, machines that mount its export, and an identity provider."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.container import ROOT
from harness.identity_provider import IdentityProvider
from nfs.machine import Machine
from nfs.network import HOST
from nfs.server import AccessPoint, NFSServer

USER = 10001
FIRST_MACHINE = 11

BootMachine = Callable[..., Machine]


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


class ReachableProvider(IdentityProvider):
    """An identity provider that the machines reach too.

    Its refresh tokens stay good, as Google's and Cognito's do: what a server that dies between a rotation and the first
    write of it loses says nothing about the storage (docs/promises.md).
    """

    host = HOST

    def __init__(self, directory: Path, **options: Any) -> None:
        super().__init__(directory, **options)
        self.environment["ROTATE_REFRESH_TOKENS"] = "no"


@contextmanager
def nfs_server(directory: Path, access_point: AccessPoint | None = None) -> Iterator[NFSServer]:
    server = NFSServer(directory / "server", access_point=access_point)
    try:
        yield server.start()
    finally:
        server.remove()


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


def shared_directory(server: NFSServer) -> None:
    """Make the directory that replicas share, owned by the image's user."""
    directory = server.export / "data"
    directory.mkdir(mode=0o700)
    os.chown(directory, USER, USER)
