"""HAProxy and nginx of Debian, with the very configurations that compose/ has."""

import os
import shutil
import socket
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from harness.container import ROOT
from harness.server import ServerProcess, free_port

HAPROXY_CFG = ROOT / "compose/haproxy.cfg"
NGINX_CONF = ROOT / "compose/nginx.conf"
PLACES = f"{os.environ.get('PATH', '')}:/usr/sbin"
STATUS = 5
"""Which word of HAProxy's log line is the answer's status."""


def program(name: str) -> str:
    """Where a program is. Debian keeps those for administrators out of other users' PATH."""
    found = shutil.which(name, path=PLACES)
    assert found, f"{name} is not installed"
    return found


def address(server: ServerProcess) -> str:
    return f"127.0.0.1:{server.port}"


class HAProxy(ServerProcess):
    """Spreads requests over three servers."""

    ready_path = "/readyz"

    def __init__(self, log: Path, servers: Sequence[ServerProcess]) -> None:
        self._admin = free_port()
        replicas = {f"REPLICA_{number}": address(server) for number, server in enumerate(servers, 1)}
        super().__init__(log, {"ADMIN": f"127.0.0.1:{self._admin}", **replicas})
        self.environment["LISTEN"] = address(self)

    def command(self) -> Sequence[str]:
        return [program("haproxy"), "-W", "-db", "-f", str(HAPROXY_CFG)]

    def administer(self, command: str) -> str:
        """Say something at its admin socket; returns the answer."""
        with socket.create_connection(("127.0.0.1", self._admin), timeout=10) as connection:
            connection.sendall(f"{command}\n".encode())
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode().strip()

    def states(self) -> dict[str, str]:
        """What it thinks of each server: UP, DOWN, DRAIN or MAINT, maybe with more."""
        head, *rows = self.administer("show stat").removeprefix("# ").splitlines()
        columns = head.split(",")
        named = [dict(zip(columns, row.split(","), strict=False)) for row in rows]
        return {row["svname"]: row["status"] for row in named if row["svname"].startswith("holdfast-")}

    def statuses(self) -> Counter[str]:
        """How many answers had which status; -1 is for none."""
        lines = [line.split() for line in self.output().splitlines()]
        return Counter(words[STATUS] for words in lines if len(words) > STATUS and words[2] == "mcp")


class Nginx(ServerProcess):
    """Stands before one server."""

    ready_path = "/readyz"

    def __init__(self, directory: Path, server: ServerProcess) -> None:
        directory.mkdir()
        super().__init__(directory / "output.log", {})
        self.configuration = directory / "nginx.conf"
        self.server = server
        self.logs = directory / "holdfast.log", directory / "error.log"
        replaced = {"127.0.0.1:8000": address(server), "listen 8080": f"listen {address(self)}"}
        site = NGINX_CONF.read_text()
        for shipped, here in replaced.items():
            assert site.count(shipped) == 1
            site = site.replace(shipped, here)
        (directory / "site.conf").write_text(site.replace("/var/log/nginx/", f"{directory}/"))
        temporary = "".join(
            f"{kind}_temp_path {directory}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        self.configuration.write_text(
            f"{'user root;' if os.geteuid() == 0 else ''}\n"
            f"daemon off;\npid {directory}/nginx.pid;\nerror_log stderr;\nevents {{}}\n"
            f"http {{\naccess_log off;\n{temporary}include {directory}/site.conf;\n}}\n"
        )

    def command(self) -> Sequence[str]:
        return [program("nginx"), "-c", str(self.configuration), "-e", "stderr"]
