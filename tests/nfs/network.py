"""A network that nobody outside sees: the servers and machines of a test are in it, and so is the test itself."""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

CLONE_NEWNET = 0x40000000
BRIDGE = "bridge"
SUBNET = "198.18.0"
"""Addresses for testing network equipment (RFC 2544), which nobody else uses."""

HOST = f"{SUBNET}.1"
"""Where the machines of the network find what runs beside them: the NFS server and an identity provider."""


@contextmanager
def private_network() -> Iterator[None]:
    """Be in a network namespace of our own (network_namespaces(7)) inside the block, with all processes begun in it.

    Nothing has to be taken down: the namespace ends with the last process that is in it.
    """
    outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        _call("unshare", CLONE_NEWNET)
        try:
            _make_bridge()
            yield
        finally:
            _call("setns", outside, CLONE_NEWNET)
    finally:
        os.close(outside)


def _make_bridge() -> None:
    ip("link", "set", "lo", "up")
    # Without an address of its own a bridge takes that of one of its ports, and another one when that port goes.
    ip("link", "add", BRIDGE, "address", hardware_address(1), "type", "bridge")
    ip("address", "add", f"{HOST}/24", "dev", BRIDGE)
    ip("link", "set", BRIDGE, "up")


def hardware_address(number: int) -> str:
    """What belongs to a number of the network for good, so that nobody has to learn it anew."""
    return f"02:00:00:00:00:{number:02x}"


def make_port(name: str) -> None:
    """Make a port of the network for one machine."""
    ip("tuntap", "add", "dev", name, "mode", "tap")
    ip("link", "set", name, "up")
    connect_port(name)


def connect_port(name: str) -> None:
    ip("link", "set", name, "master", BRIDGE)


def disconnect_port(name: str) -> None:
    """Let everything that is sent through the port get lost, both ways."""
    ip("link", "set", name, "nomaster")


def remove_port(name: str) -> None:
    ip("link", "delete", name)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def _call(function: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, function)(*arguments):
        raise OSError(ctypes.get_errno(), f"{function}: {os.strerror(ctypes.get_errno())}")
