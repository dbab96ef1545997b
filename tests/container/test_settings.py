"""Settings as containers get them: secret files, and a port that someone else has."""

import socket
from pathlib import Path

import httpx

from container.conftest import RunContainer, RunToEnd
from harness.container import HARDENED
from harness.oauth import OAuthClient, Person, answer_parameters
from harness.waiting import HANGS_AFTER


def test_a_secret_file_is_read(run_container: RunContainer, tmp_path: Path) -> None:
    secret = tmp_path / "pin"
    secret.write_text("a,b %'\"c\n")
    secret.chmod(0o644)
    flags = (*HARDENED, f"--volume={secret}:/run/secrets/pin:ro")
    container = run_container(flags=flags, HOLDFAST_PIN="", HOLDFAST_PIN_FILE="/run/secrets/pin")
    with httpx.Client(base_url=container.url, timeout=HANGS_AFTER) as http:
        client = OAuthClient(http)
        client.register().raise_for_status()
        page = client.authorize().headers["location"]
        assert "code" in answer_parameters(Person(http).approve(page, pin="a,b %'\"c"))


def test_a_secret_file_of_someone_else_is_named(run_command: RunToEnd, tmp_path: Path) -> None:
    secret = tmp_path / "pin"
    secret.write_text("correct-horse")
    secret.chmod(0o600)
    flags = (*HARDENED, f"--volume={secret}:/run/secrets/pin:ro", "--env=HOLDFAST_PIN_FILE=/run/secrets/pin")
    result = run_command(flags=flags)
    assert result.returncode == 78
    assert "HOLDFAST_PIN_FILE: cannot read /run/secrets/pin: Permission denied" in result.stderr


def test_a_value_and_its_file_at_once_are_refused(run_command: RunToEnd) -> None:
    flags = (*HARDENED, "--env=HOLDFAST_PIN=correct-horse", "--env=HOLDFAST_PIN_FILE=/run/secrets/pin")
    result = run_command(flags=flags)
    assert result.returncode == 78
    assert "both HOLDFAST_PIN and HOLDFAST_PIN_FILE are set" in result.stderr


def test_all_problems_are_told_at_once(run_command: RunToEnd) -> None:
    flags = (*HARDENED, "--env=PORT=eighty", "--env=HOLDFAST_PINN=123456", "--env=EXA_MCP_STORAGE_BACKEND=floppy")
    result = run_command(flags=flags)
    assert result.returncode == 78
    for name in ("PORT", "HOLDFAST_PINN", "EXA_MCP_STORAGE_BACKEND"):
        assert f"  - {name}: " in result.stderr


def test_a_port_in_use_is_named(run_command: RunToEnd) -> None:
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))
        other.listen()
        port = other.getsockname()[1]
        result = run_command(flags=(*HARDENED, "--network=host", f"--env=PORT={port}"))
    assert result.returncode == 78
    assert f"PORT: {port} is in use" in result.stderr
