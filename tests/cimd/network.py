"""A network in which a document host has an address that counts as public, and servers in it.

FastMCP's guard refuses documents from private and loopback addresses; no test is to ask a real host, nor to be asked.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.server import Server
from nfs.network import ip, private_network

ADDRESS = "93.184.215.14"
"""Globally routable, so the guard lets it pass; in the network it leads to this machine alone."""

CLIENT_HOST = "client.example"
WELL_KNOWN_HOSTS = ("claude.ai", "chatgpt.com", "vscode.dev")
HOSTS = (CLIENT_HOST, *WELL_KNOWN_HOSTS)


@contextmanager
def lonely_network() -> Iterator[None]:
    """Be in a network with this machine alone: no name server, and no way out."""
    if os.geteuid() != 0:
        pytest.skip("NO CLIENT'S DOCUMENT WAS FETCHED: only root can make a network for it")
    with private_network():
        ip("address", "add", f"{ADDRESS}/32", "dev", "lo")
        yield


class Names:
    """The hosts that servers can find, in place of /etc/hosts; with no others, since there is no name server."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.find(*HOSTS)

    def find(self, *hosts: str) -> None:
        """Let these be found and no others, from now on. The file stays the same one: servers have it mounted."""
        found = "".join(f"{ADDRESS} {host}\n" for host in hosts)
        self.file.write_text(f"127.0.0.1 localhost\n::1 localhost\n{found}")


class ServerInNetwork(Server):
    """Finds hosts by `names`."""

    def __init__(self, home: Path, log: Path, names: Names, authority: Path, **environment: str) -> None:
        super().__init__(home, log, **{"SSL_CERT_FILE": str(authority), **environment})
        self._names = names

    def command(self) -> Sequence[str]:
        mount = 'mount --bind "$0" /etc/hosts && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", mount, str(self._names.file), *super().command()]
