"""What the image declares and what is in it."""

import json
import os
import re
import stat
import subprocess
from collections.abc import Iterator
from email.message import Message
from email.parser import HeaderParser
from hashlib import md5
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import trustme

from container.conftest import RunToEnd
from harness.container import HARDENED, docker

PROGRAMS = {
    *("usr/bin/dash", "usr/bin/python3.13"),
    *(f"opt/holdfast/bin/{name}" for name in ("entrypoint.sh", "gunicorn", "holdfast")),
}
UNPACK = ("tar", "--extract", "--preserve-permissions", "--xattrs", "--xattrs-include=security.*")
PACKAGES = "opt/holdfast/lib/python3.13/site-packages"
RECORDS = "var/lib/dpkg/status.d"
UNRECORDED = ("opt/holdfast/", f"{RECORDS}/")
WRITTEN = {"etc/passwd", "etc/group", "etc/nsswitch.conf", "etc/ssl/certs/ca-certificates.crt"}
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|CREDENTIAL|_KEY|_PIN")
PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/]{40}")
OF_CREDENTIALS = {".netrc", ".npmrc", ".pypirc", ".docker", ".git", ".ssh", "pip.conf", "credentials", "shadow"}
OF_THE_ENGINE = {".dockerenv", "dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf"}
"""What it mounts in each container."""

IMPORT_EVERYTHING = """
import importlib, importlib.metadata, pkgutil, sys, warnings
import exasol.ai.mcp, mcp_holdfast
warnings.simplefilter("ignore")
not_here = {
    *("_overlapped", "_winapi", "_wmi", "msvcrt", "nt", "winreg", "winsound", "_scproxy", "_ios_support"),
    *("_dbm", "_gdbm", "_tkinter", "ensurepip", "idlelib", "tkinter", "turtle", "turtledemo"),
    *("antigravity", "this"),
}
own = [module.name for package in (mcp_holdfast, exasol.ai.mcp)
       for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
tops = [name for name in importlib.metadata.packages_distributions() if name.isidentifier()]
for name in sorted({*own, *tops, *sys.stdlib_module_names} - not_here):
    try:
        importlib.import_module(name)
    except Exception as error:
        print(name, repr(error))
"""


@pytest.fixture(scope="module")
def config(image: str) -> dict[str, Any]:
    (found,) = json.loads(docker("image", "inspect", image))
    config: dict[str, Any] = found["Config"]
    return config


@pytest.fixture(scope="module")
def root(image: str) -> Iterator[Path]:
    """The image's files."""
    container = docker("create", image)
    try:
        with TemporaryDirectory(prefix="holdfast-") as directory:
            archive, root = Path(directory, "archive"), Path(directory, "root")
            root.mkdir()
            docker("export", "--output", str(archive), container)
            subprocess.run([*UNPACK, f"--file={archive}", f"--directory={root}"], check=True)
            archive.unlink()
            yield root
    finally:
        docker("rm", "--volumes", container)


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]


def test_it_runs_as_an_unprivileged_user(config: dict[str, Any]) -> None:
    assert config["User"] == "10001:10001"


def test_it_declares_its_volume_and_port(config: dict[str, Any]) -> None:
    assert list(config["Volumes"]) == ["/data"]
    assert list(config["ExposedPorts"]) == ["8000/tcp"]
    assert "FASTMCP_HOME=/data" in config["Env"]


def test_sigterm_stops_it(config: dict[str, Any]) -> None:
    assert config["StopSignal"] == "SIGTERM"


def test_it_checks_its_own_health(config: dict[str, Any]) -> None:
    assert config["Healthcheck"]["Test"] == ["CMD", "python", "-m", "mcp_holdfast.healthcheck"]


def test_no_telemetry_unless_asked_for(config: dict[str, Any]) -> None:
    assert "EXASOL_TELEMETRY_DISABLE=1" in config["Env"]


def test_labels_say_what_it_is(config: dict[str, Any]) -> None:
    labels = config["Labels"]
    prefix = "org.opencontainers.image."
    assert labels[f"{prefix}title"] == "Holdfast"
    assert labels[f"{prefix}licenses"] == "MIT"
    assert labels["io.modelcontextprotocol.server.name"].endswith("/holdfast")
    assert all(labels[f"{prefix}{name}"] for name in ("description", "version", "revision", "created"))


def test_label_has_the_version_of_the_package(config: dict[str, Any], run_command: RunToEnd) -> None:
    assert run_command("holdfast", "--version").stdout.strip() == config["Labels"]["org.opencontainers.image.version"]


def test_nothing_of_the_build_shows_in_its_history(image: str) -> None:
    history = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", image)
    assert "ca-bundle" not in history
    assert "/src" not in history


def test_no_secret_is_among_what_it_declares(config: dict[str, Any]) -> None:
    names = {variable.partition("=")[0] for variable in config["Env"]} | config["Labels"].keys()
    assert [name for name in names if SECRET.search(name.upper())] == []


def test_no_private_key_or_credential_is_in_it(root: Path) -> None:
    names = {path.relative_to(root) for path in root.rglob("*") if path.name in OF_CREDENTIALS}
    assert names == set()
    assert [path.relative_to(root) for path in files(root) if PRIVATE_KEY.search(path.read_bytes())] == []


def test_a_private_key_would_be_noticed() -> None:
    key = trustme.CA().private_key_pem.bytes()
    assert PRIVATE_KEY.search(b"# here it is:\n" + key)


def test_no_file_changes_who_runs_it(root: Path) -> None:
    assert [path for path in files(root) if path.stat().st_mode & (stat.S_ISUID | stat.S_ISGID)] == []


def test_no_program_has_capabilities_of_its_own(root: Path) -> None:
    assert [path for path in files(root) if "security.capability" in os.listxattr(path)] == []


def test_the_only_programs_are_those_that_it_starts_with(root: Path) -> None:
    programs = [path for path in files(root) if path.parent.name in {"bin", "sbin", "games"}]
    assert {str(path.relative_to(root)) for path in programs} == PROGRAMS


def test_nothing_but_the_volume_is_writable_by_its_user(run_command: RunToEnd) -> None:
    script = """
import os
for directory, _, names in os.walk("/"):
    for path in (directory, *(os.path.join(directory, name) for name in names)):
        if not path.startswith(("/proc", "/sys", "/dev")) and not os.path.islink(path) and os.access(path, os.W_OK):
            print(path)
"""
    places = run_command("python", "-c", script, flags=("--tmpfs=/data",)).stdout.split()
    # For everyone's temporary files, and no longer writable under --read-only.
    assert sorted(places) == ["/tmp", "/var/tmp"]


def test_no_installer_as_a_module(run_command: RunToEnd) -> None:
    for module in ("pip", "ensurepip", "hatchling", "setuptools"):
        assert run_command("python", "-c", f"import {module}").returncode == 1


@pytest.fixture(scope="module")
def records(root: Path) -> dict[str, Message]:
    """What is where scanners look in an image without dpkg."""
    found = [path for path in (root / RECORDS).iterdir() if path.suffix != ".md5sums"]
    return {path.name: HeaderParser().parsestr(path.read_text()) for path in found}


@pytest.fixture(scope="module")
def recorded(root: Path, records: dict[str, Message]) -> dict[str, str]:
    """The sum of every file that a record tells of."""
    lines = [line for name in records for line in (root / RECORDS / f"{name}.md5sums").read_text().splitlines()]
    return {path: digest for digest, path in (line.split("  ", 1) for line in lines)}


def test_each_package_of_debian_is_recorded_by_its_name_and_version(records: dict[str, Message]) -> None:
    assert {"libc6", "libssl3t64", "libsqlite3-0", "python3.13-minimal", "dash", "tzdata"} <= set(records)
    for name, record in records.items():
        assert record["Package"] == name
        assert record["Version"]
        assert record["Status"] == "install ok installed"


def test_every_file_of_debian_is_what_a_record_says(root: Path, recorded: dict[str, str]) -> None:
    sums = {path: md5((root / path).read_bytes(), usedforsecurity=False).hexdigest() for path in recorded}
    assert sums == recorded


def test_no_file_is_without_a_record(root: Path, records: dict[str, Message], recorded: dict[str, str]) -> None:
    found = {str(path.relative_to(root)) for path in files(root) if "__pycache__" not in path.parts}
    configuration = {path for record in records.values() for path in re.findall(r" /(\S+) ", record["Conffiles"] or "")}
    unrecorded = {path for path in found - set(recorded) - configuration if not path.startswith(UNRECORDED)}
    assert unrecorded - OF_THE_ENGINE == WRITTEN


def test_each_package_of_debian_comes_with_its_licence(root: Path, records: dict[str, Message]) -> None:
    for name in records:
        assert (root / "usr/share/doc" / name / "copyright").is_file(), name


def test_every_module_of_ours_of_the_payload_and_of_python_imports(run_command: RunToEnd) -> None:
    result = run_command("python", "-c", IMPORT_EVERYTHING, flags=HARDENED)
    assert (result.returncode, result.stdout) == (0, ""), result.stderr


def test_python_finds_zones_users_services_types_and_authorities(run_command: RunToEnd) -> None:
    script = """
import locale, mimetypes, pwd, socket, ssl, sys, zoneinfo
print(zoneinfo.ZoneInfo("Europe/Berlin").key, pwd.getpwuid(10001).pw_name, socket.getservbyname("https"))
print(mimetypes.guess_type("a.webmanifest")[0], sys.stdout.encoding, sys.getfilesystemencoding())
print(socket.gethostbyname("a-name-of-compose.test"), len(ssl.create_default_context().get_ca_certs()) > 100)
"""
    told = run_command("python", "-c", script, flags=("--add-host=a-name-of-compose.test:192.0.2.1",)).stdout
    assert told.split() == [
        *("Europe/Berlin", "holdfast", "443"),
        *("application/manifest+json", "utf-8", "utf-8"),
        *("192.0.2.1", "True"),
    ]


def test_no_tests_headers_or_sources_of_extensions_are_left(root: Path) -> None:
    packages = root / PACKAGES
    left = [path for path in files(packages) if path.suffix in {".c", ".h", ".pyi", ".pyx", ".pxd", ".a", ".mo"}]
    assert left == []
    assert list(packages.rglob("tests")) == []


def test_the_record_of_each_python_package_is_true(run_command: RunToEnd) -> None:
    script = """
import base64, hashlib, importlib.metadata as metadata
for package in metadata.distributions():
    for file in package.files:
        if file.hash:
            digest = hashlib.sha256(file.locate().read_bytes()).digest()
            if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != file.hash.value:
                print(file)
"""
    result = run_command("python", "-c", script)
    assert (result.returncode, result.stdout) == (0, "")


def test_every_module_has_bytecode_that_is_never_compared_with_its_source(run_command: RunToEnd) -> None:
    script = """
import importlib.util, pathlib
for source in [*pathlib.Path("/opt/holdfast/lib").rglob("*.py"), *pathlib.Path("/usr/lib/python3.13").rglob("*.py")]:
    compiled = pathlib.Path(importlib.util.cache_from_source(str(source)))
    # PEP 552: bit 0 of the flags is set for a hash instead of a date, bit 1 for a hash that is checked.
    flags = int.from_bytes(compiled.read_bytes()[4:8], "little") if compiled.exists() else None
    if flags != 1:
        print(source, flags)
"""
    result = run_command("python", "-c", script)
    assert (result.returncode, result.stdout) == (0, "")


def test_locked_versions_are_the_installed_ones(run_command: RunToEnd) -> None:
    script = """
import importlib.metadata as metadata
for name in ("fastmcp", "py-key-value-aio", "exasol-mcp-server"):
    print(name, metadata.version(name))
"""
    installed = run_command("python", "-c", script).stdout.splitlines()
    assert installed == ["fastmcp 3.4.10", "py-key-value-aio 0.4.6", "exasol-mcp-server 2.2.0"]
