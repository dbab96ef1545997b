"""What a container does with its arguments."""

import json
from pathlib import Path

import httpx

from container.conftest import RunContainer, RunToEnd, SignIn
from harness.container import HARDENED, Container, debian_image, docker
from harness.waiting import eventually


def test_flags_go_to_gunicorn(run_command: RunToEnd) -> None:
    result = run_command("--version")
    assert result.returncode == 0
    assert result.stdout.startswith("gunicorn (version 27.")


def assert_two_workers(container: Container) -> None:
    eventually(lambda: container.output().count("Booting worker"), lambda workers: workers == 2)


def test_gunicorns_flags_take_effect(run_container: RunContainer) -> None:
    assert_two_workers(run_container("--workers", "2"))


def test_gunicorns_own_variable_takes_effect(run_container: RunContainer) -> None:
    assert_two_workers(run_container(GUNICORN_CMD_ARGS="--workers 2"))


def test_holdfast_check_tells_what_would_run_and_ends(run_command: RunToEnd) -> None:
    result = run_command("holdfast", "check")
    assert result.returncode == 0, result.stderr
    assert "demo" in result.stdout
    assert "filetree in /data" in result.stdout


def test_holdfast_check_ends_with_the_status_of_a_wrong_configuration(run_command: RunToEnd) -> None:
    result = run_command("holdfast", "check", flags=("--env=PORT=eighty",))
    assert result.returncode == 78
    assert "PORT" in result.stderr


def test_another_program_runs_as_given(run_command: RunToEnd) -> None:
    assert run_command("python", "-c", "import sys; print(sys.argv[1:])", "a b", "").stdout == "['a b', '']\n"


def test_exit_status_is_the_programs_own(run_command: RunToEnd) -> None:
    assert run_command("sh", "-c", "exit 37").returncode == 37


def test_a_program_that_is_not_there_is_said_so(run_command: RunToEnd) -> None:
    result = run_command("no-such-program")
    assert result.returncode == 127
    assert "no-such-program" in result.stderr


def test_sessions_can_be_seen_and_ended_from_inside_and_from_beside(
    run_container: RunContainer, run_command: RunToEnd, sign_in: SignIn, volume: str
) -> None:
    container = run_container(flags=HARDENED, HOLDFAST_TOKEN_CACHE="1")
    client = sign_in(container.url)
    beside = (*HARDENED, f"--volume={volume}:/data")
    (session,) = json.loads(container.execute("holdfast", "sessions", "--json"))
    assert json.loads(run_command("holdfast", "sessions", "--json", flags=beside).stdout) == [session]
    assert client.client_id in container.execute("holdfast", "clients")
    assert "expired records" in run_command("holdfast", "sweep", flags=beside).stdout
    assert client.call().status_code == 200
    revoked = run_command("holdfast", "revoke", session["session"][:12], flags=beside)
    assert revoked.returncode == 0, revoked.stderr
    eventually(lambda: client.call().status_code, lambda status: status == 401)
    assert client.refresh().json()["error"] == "invalid_grant"
    assert json.loads(container.execute("holdfast", "sessions", "--json")) == []


def test_commands_on_an_empty_volume_make_nothing(run_command: RunToEnd, volume: str) -> None:
    beside = f"--volume={volume}:/data"
    result = run_command("holdfast", "sessions", flags=(beside,))
    assert result.returncode == 78
    assert "FASTMCP_HOME: there is no filetree store" in result.stderr
    assert run_command("python", "-c", "import os; print(os.listdir('/data'))", flags=(beside,)).stdout == "[]\n"


def test_a_backup_is_restored_on_an_empty_volume_and_its_key_rotated(
    run_container: RunContainer, run_command: RunToEnd, sign_in: SignIn, volume: str, tmp_path: Path
) -> None:
    keys = {"HOLDFAST_STORAGE_KEY": "a-storage-key-of-enough-characters", "HOLDFAST_SIGNING_KEY": "s" * 40}
    first = run_container(flags=HARDENED, **keys)
    client = sign_in(first.url)
    backup = tmp_path / "backup"
    backup.write_text(first.execute("holdfast", "backup", "-"))
    tmp_path.chmod(0o755)
    first.kill()
    new = {**keys, "HOLDFAST_STORAGE_KEY": "the-next-storage-key-of-enough-characters"}
    both = {**new, "HOLDFAST_STORAGE_KEY_PREVIOUS": keys["HOLDFAST_STORAGE_KEY"]}
    mounts = (f"--volume={volume}:/data", f"--volume={tmp_path}:/backup:ro")
    beside = (*HARDENED, *mounts, *(f"--env={name}={both[name]}" for name in both))
    docker("run", "--rm", "--user=10001", *mounts, debian_image(), "sh", "-c", "rm -r /data/*")
    restored = run_command("holdfast", "restore", "/backup/backup", flags=beside)
    assert restored.returncode == 0, restored.stderr
    rotated = run_command("holdfast", "rotate", flags=beside)
    assert rotated.returncode == 0, rotated.stderr
    second = run_container(flags=HARDENED, **new)
    client.http.base_url = httpx.URL(second.url)
    client.refresh().raise_for_status()
    assert client.call().status_code == 200
