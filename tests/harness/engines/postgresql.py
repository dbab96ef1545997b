"""PostgreSQL from Debian: one server, or a standby that follows it."""

import ipaddress
import os
import shutil
import signal
import subprocess
import tempfile
import weakref
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote, urlencode

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

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
        certificate, key = certify(self.home / "server", self.authority)
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
        # Each process of PostgreSQL has a process group of its own.
        for pid in self._processes():
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


def certify(server: Path, authority: Path) -> tuple[Path, Path]:
    """Write a certificate for HOST (.pem), its key (.key), and who signed it (`authority`), unless that is there."""
    signer, signer_key = _authority(authority)
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))])
    signed = _certificate("PostgreSQL", signer.subject, key.public_key()).add_extension(names, critical=False)
    certificate, key_file = server.with_suffix(".pem"), server.with_suffix(".key")
    certificate.write_bytes(signed.sign(signer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    key_file.touch(mode=0o600)
    key_file.write_bytes(_pem_of(key))
    return certificate, key_file


def _authority(file: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key_file = file.with_suffix(".key")
    if not file.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "An authority of the tests")])
        signs = x509.BasicConstraints(ca=True, path_length=0)
        signed = _certificate("An authority of the tests", name, key.public_key()).add_extension(signs, critical=True)
        file.write_bytes(signed.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        key_file.write_bytes(_pem_of(key))
    loaded = serialization.load_pem_private_key(key_file.read_bytes(), None)
    assert isinstance(loaded, ec.EllipticCurvePrivateKey)
    return x509.load_pem_x509_certificate(file.read_bytes()), loaded


def _certificate(name: str, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    begins = datetime.now(UTC) - timedelta(days=1)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    built = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    numbered = built.serial_number(x509.random_serial_number())
    return numbered.not_valid_before(begins).not_valid_after(begins + timedelta(days=365))


def _pem_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
