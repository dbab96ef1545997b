"""PostgreSQL from Debian: one server, or a standby that follows it."""

import os
import shutil
import signal
import subprocess
import tempfile
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, urlencode

from harness.certificates import certify
from harness.engines.process import HOST, ROOT, EngineProcess
from harness.waiting import eventually

SUPERUSER, OWNER, DATABASE = "postgres", "holdfast", "holdfast"
PASSWORD = "p@ss/word:100%?#"
"""Characters that a URL must encode."""

BEGIN = f"""\
CREATE ROLE {OWNER} LOGIN PASSWORD '{PASSWORD}';
CREATE DATABASE {DATABASE} OWNER {OWNER};
"""
WHO_MAY_CONNECT = f"""\
local   all         {SUPERUSER} trust
hostssl all         all 127.0.0.1/32 scram-sha-256
hostssl replication all 127.0.0.1/32 scram-sha-256
"""


class PostgreSQLServer(EngineProcess):
    """Takes connections with TLS and a password only; HOLDFAST_STORAGE_URL is for the owner of the database."""

    backend = "postgresql"

    def __init__(self, directory: Path, *, port: int | None = None) -> None:
        super().__init__(directory, port=port)
        # PostgreSQL refuses to run as root, and no other user may enter the directory of a test that root runs.
        self.home = Path(tempfile.mkdtemp(prefix="holdfast-postgresql-"))
        self.data = self.home / "data"
        self.authority = self.home / "authority.pem"
        weakref.finalize(self, shutil.rmtree, self.home, ignore_errors=True)

    @property
    def url(self) -> str:
        return self.url_of(OWNER)

    def url_of(self, user: str, **parameters: str) -> str:
        trusted = {"sslmode": "verify-full", "sslrootcert": str(self.authority), **parameters}
        return f"postgresql://{user}:{quote(PASSWORD, safe='')}@{HOST}:{self.port}/{DATABASE}?{urlencode(trusted)}"

    def prepare(self) -> None:
        if self.data.exists():
            return
        subprocess.run([ROOT / "scripts/engine-packages.sh"], check=True)
        certificate, key = certify(HOST, self.home / "server", self.authority)
        password = self.home / "password"
        password.write_text(PASSWORD)
        if os.geteuid() == 0:
            for path in (self.home, certificate, key, self.authority, password):
                shutil.chown(path, SUPERUSER, SUPERUSER)
        self.fill()
        (self.data / "pg_hba.conf").write_text(WHO_MAY_CONNECT)

    def fill(self) -> None:
        """Make the directory of the data."""
        initdb = ["--username", SUPERUSER, "--pwfile", str(self.home / "password"), "--auth", "scram-sha-256"]
        self._run("initdb", "--pgdata", str(self.data), *initdb, "--locale", "C.UTF-8", "--no-sync")
        self._run("postgres", "--single", "-D", str(self.data), "postgres", text=BEGIN)

    def command(self) -> Sequence[str]:
        settings = {
            "listen_addresses": HOST,
            "port": self.port,
            "unix_socket_directories": self.home,
            "ssl": "on",
            "ssl_cert_file": self.home / "server.pem",
            "ssl_key_file": self.home / "server.key",
            "max_connections": 200,
            "shared_buffers": "32MB",
            **self.more_settings(),
        }
        options = [option for name, value in settings.items() for option in ("-c", f"{name}={value}")]
        return [*as_its_user(), program("postgres"), "-D", str(self.data), *options]

    def more_settings(self) -> dict[str, str]:
        return {}

    def answers(self) -> bool:
        asked = [program("pg_isready"), "--quiet", "--host", str(self.home), "--port", str(self.port)]
        return super().answers() and subprocess.run(asked, check=False).returncode == 0

    def execute(self, statements: str) -> str:
        """What the superuser is answered."""
        return self._run("psql", *self._superuser(DATABASE), "-qAt", "-v", "ON_ERROR_STOP=1", text=statements).strip()

    def dump(self) -> bytes:
        lines = self._run("pg_dump", *self._superuser(DATABASE)).splitlines()
        # Each dump has another random word in its first and last line, for psql.
        return "\n".join(line for line in lines if not line.startswith(("\\restrict", "\\unrestrict"))).encode()

    def empty(self) -> None:
        self.execute(f"SET client_min_messages = warning; DROP OWNED BY {OWNER}; GRANT ALL ON SCHEMA public TO {OWNER}")

    def files(self) -> bytes:
        written = (file for file in sorted(self.home.rglob("*")) if file.is_file())
        return b"\0".join(file.read_bytes() for file in written)

    def kill(self) -> None:
        processes = self._processes()
        self._signal(signal.SIGKILL)
        super().kill()
        # One that has ended keeps its place in /proc until it was waited for, but not its program.
        eventually(lambda: [pid for pid in processes if Path(f"/proc/{pid}/exe").exists()], lambda left: not left)

    def hang(self) -> None:
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        # Each process of PostgreSQL has a process group of its own; that of a connection may just have ended.
        for pid in self._processes():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _processes(self) -> list[int]:
        """The server's process and those that it started, one for each connection."""
        if self._process is None or self._process.poll() is not None:
            return []
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]

    def _superuser(self, database: str) -> list[str]:
        return ["--host", str(self.home), "--port", str(self.port), "--username", SUPERUSER, "--dbname", database]

    def _run(self, name: str, *arguments: str, text: str = "") -> str:
        command = [*as_its_user(), program(name), *arguments]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.home)}
        ran = subprocess.run(
            command, input=text, capture_output=True, text=True, cwd=self.home, env=environment, check=False
        )
        if ran.returncode:
            raise RuntimeError(f"{name} ended with {ran.returncode}: {ran.stderr}")
        return ran.stdout


class PostgreSQLStandby(PostgreSQLServer):
    """Follows another server until it is promoted."""

    def __init__(self, directory: Path, primary: PostgreSQLServer) -> None:
        super().__init__(directory)
        self.authority = primary.authority
        self._primary = primary

    def fill(self) -> None:
        primary = ["--host", HOST, "--port", str(self._primary.port), "--username", SUPERUSER]
        source = f"sslmode=require password='{PASSWORD}'"
        copy = ["--pgdata", str(self.data), "--write-recovery-conf", "--checkpoint", "fast", "--no-sync"]
        self._run("pg_basebackup", *primary, "--dbname", source, *copy)

    def promote(self) -> None:
        self.execute("SELECT pg_promote()")


def program(name: str) -> str:
    """One of PostgreSQL's programs, of the newest version that is installed."""
    return str(max(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4])))


def as_its_user() -> list[str]:
    if os.geteuid():
        return []
    user = [f"--reuid={SUPERUSER}", f"--regid={SUPERUSER}", "--clear-groups"]
    return ["setpriv", *user, "--pdeathsig", "KILL"]
