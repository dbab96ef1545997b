"""What the image declares and what is in it."""

import json
from typing import Any

import pytest

from container.conftest import RunToEnd
from harness.container import docker

# Every directory that a program may be in.
PROGRAMS = "/bin /sbin /usr/bin /usr/sbin /usr/local/bin /usr/local/sbin /opt/holdfast/bin"


@pytest.fixture(scope="module")
def config(image: str) -> dict[str, Any]:
    (found,) = json.loads(docker("image", "inspect", image))
    config: dict[str, Any] = found["Config"]
    return config


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


def as_root(run_command: RunToEnd, script: str) -> list[str]:
    """The lines that a shell script prints when it may look everywhere."""
    result = run_command("sh", "-euc", script, flags=("--user=0",))
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_no_program_changes_its_user_or_group(run_command: RunToEnd) -> None:
    assert as_root(run_command, "find / -xdev -type f -perm /6000") == []


def test_no_program_has_capabilities_of_its_own(run_command: RunToEnd) -> None:
    script = """
import os, stat
for directory, _, files in os.walk("/usr"):
    for path in (os.path.join(directory, name) for name in files):
        if not os.path.islink(path) and "security.capability" in os.listxattr(path):
            print(path)
"""
    assert run_command("python", "-c", script, flags=("--user=0",)).stdout == ""


def test_nothing_but_the_volume_is_writable_by_its_user(run_command: RunToEnd) -> None:
    script = "find / -xdev ! -type l -writable 2>/dev/null || true"
    places = run_command("sh", "-c", script, flags=("--tmpfs=/data",)).stdout.split()
    # For everyone's temporary files, and no longer writable under --read-only.
    assert sorted(places) == ["/run/lock", "/tmp", "/var/tmp"]


@pytest.mark.parametrize("name", ["pip*", "easy_install*", "gcc*", "cc", "c++", "g++*", "ld", "as", "make", "patch"])
def test_no_installer_and_no_compiler(run_command: RunToEnd, name: str) -> None:
    assert as_root(run_command, f"find {PROGRAMS} -name '{name}'") == []


def test_no_installer_as_a_module(run_command: RunToEnd) -> None:
    for module in ("pip", "ensurepip", "hatchling", "setuptools"):
        assert run_command("python", "-c", f"import {module}").returncode == 1


def test_every_module_has_bytecode_that_is_never_compared_with_its_source(run_command: RunToEnd) -> None:
    script = """
import importlib.util, pathlib
for source in pathlib.Path("/opt/holdfast/lib").rglob("*.py"):
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
