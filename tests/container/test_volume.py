"""A place that would not keep sign-ins stops the start with one message that names FASTMCP_HOME, and exit status 78."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from container.conftest import RunContainer, RunToEnd, SignIn
from harness.container import HARDENED, debian_image, docker


def assert_refused(result: subprocess.CompletedProcess[str], *words: str) -> None:
    assert result.returncode == 78, result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("  - ")]
    assert line.startswith("  - FASTMCP_HOME: ")
    assert all(word in line for word in words), line


@pytest.mark.parametrize("command", [(), ("holdfast", "check")], ids=["server", "check"])
def test_a_volume_of_someone_else(run_command: RunToEnd, tmp_path: Path, command: tuple[str, ...]) -> None:
    tmp_path.chmod(0o755)
    result = run_command(*command, flags=(*HARDENED, f"--volume={tmp_path}:/data"))
    assert_refused(result, "user 10001:10001 cannot write to /data", "Permission denied", "Make the volume writable")


def test_a_read_only_volume(run_command: RunToEnd, volume: str) -> None:
    result = run_command(flags=(*HARDENED, f"--volume={volume}:/data:ro"))
    assert_refused(result, "cannot write to /data", "Read-only file system")


def test_a_full_volume(run_command: RunToEnd) -> None:
    fill_then_start = "while printf %4096s >>/full/file; do :; done; exec entrypoint.sh"
    flags = (*HARDENED, "--tmpfs=/full:size=64k,mode=1777", "--env=FASTMCP_HOME=/full")
    result = run_command("sh", "-c", fill_then_start, flags=flags)
    assert_refused(result, "cannot write to /full", "No space left on device")


def test_the_containers_own_layer(run_command: RunToEnd) -> None:
    result = run_command(flags=("--env=FASTMCP_HOME=/tmp/home",))
    assert_refused(result, "/tmp/home is on the container's own layer", "docker run -v holdfast:/tmp/home")


def test_the_containers_own_layer_will_do_for_memory(run_container: RunContainer) -> None:
    container = run_container(FASTMCP_HOME="/tmp/home", EXA_MCP_STORAGE_BACKEND="memory")
    assert "loses every sign-in at a restart" in container.output()


def test_a_home_that_cannot_be_made(run_command: RunToEnd) -> None:
    result = run_command(flags=(*HARDENED, "--env=FASTMCP_HOME=/home/holdfast"))
    assert_refused(result, "cannot make /home/holdfast", "Mount a volume there")


def test_disk_keeps_sign_ins_on_a_local_volume_too(run_container: RunContainer, sign_in: SignIn) -> None:
    container = run_container(flags=HARDENED, EXA_MCP_STORAGE_BACKEND="disk")
    client = sign_in(container.url)
    container.kill()
    container.start().wait_until_ready()
    assert client.call().status_code == 200


def test_a_copy_of_the_volume_at_another_path_of_another_user_keeps_sign_ins(
    run_container: RunContainer, sign_in: SignIn, volume: str, make_volume: Callable[[], str]
) -> None:
    copy = make_volume()
    first = run_container(flags=HARDENED)
    client = sign_in(first.url)
    first.kill()
    script = "cp -R /data /copy/moved && chown -R 23456:23456 /copy/moved"
    mounts = (f"--volume={volume}:/data:ro", f"--volume={copy}:/copy")
    docker("run", "--rm", "--user=0", *mounts, debian_image(), "sh", "-euc", script)
    second = run_container(
        flags=(*HARDENED, "--user=23456:23456", f"--volume={copy}:/srv/elsewhere"), FASTMCP_HOME="/srv/elsewhere/moved"
    )
    client.http.base_url = httpx.URL(second.url)
    client.refresh().raise_for_status()
    assert client.call().status_code == 200
