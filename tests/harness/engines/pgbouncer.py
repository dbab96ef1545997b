"""PgBouncer from Debian before a PostgreSQL: each transaction gets one of two connections that all clients share."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from harness.engines.postgresql import DATABASE, OWNER, PASSWORD, SUPERUSER, PostgreSQLServer, as_its_user
from harness.engines.process import HOST, EngineProcess
from harness.server import free_port

SETTINGS = """\
[databases]
{database} = host={host} port={behind}

[pgbouncer]
listen_addr = {host}
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {home}/users
client_tls_sslmode = require
client_tls_cert_file = {home}/server.pem
client_tls_key_file = {home}/server.key
server_tls_sslmode = verify-full
server_tls_ca_file = {authority}
pool_mode = transaction
default_pool_size = 2
max_client_conn = 200
"""


class PgBouncer(EngineProcess):
    """Takes the place of a server, for those who can do with what it passes on."""

    backend = "postgresql"

    def __init__(self, server: PostgreSQLServer) -> None:
        super().__init__(server.directory / "pgbouncer", port=free_port())
        self._server = server

    @property
    def url(self) -> str:
        through = self._server.url_of(OWNER, statement_cache_size="0")
        return through.replace(f":{self._server.port}/", f":{self.port}/")

    def prepare(self) -> None:
        super().prepare()
        home = self._server.home
        places = {"host": HOST, "port": self.port, "behind": self._server.port, "database": DATABASE, "home": home}
        self._write(home / "pgbouncer.ini", SETTINGS.format(**places, authority=self._server.authority))
        self._write(home / "users", f'"{OWNER}" "{PASSWORD}"\n')

    def _write(self, file: Path, text: str) -> None:
        file.write_text(text)
        if os.geteuid() == 0:
            shutil.chown(file, SUPERUSER, SUPERUSER)

    def command(self) -> Sequence[str]:
        return [*as_its_user(), "pgbouncer", str(self._server.home / "pgbouncer.ini")]

    def dump(self) -> bytes:
        return self._server.dump()

    def empty(self) -> None:
        self._server.empty()
