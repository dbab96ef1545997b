"""The image runs hardened and as any user, and a sign-in survives what containers die of."""

import re
from pathlib import Path

import httpx
import pytest

from container.conftest import RunContainer, RunToEnd, SignIn
from harness.container import HARDENED
from harness.waiting import eventually

DEMO_SERVER = "from fastmcp import FastMCP\n\nmcp = FastMCP('Mine')\n"
USERS = {
    "its own user": (),
    "an arbitrary user of group 0, as OpenShift": ("--user=12345:0",),
    "root without capabilities": ("--user=0:0",),
}


def test_plain_run_with_a_port_and_a_volume_does_the_main_job(run_container: RunContainer) -> None:
    container = run_container(HOLDFAST_PIN="")
    log = container.output()
    assert "Sign-in PIN: " in log
    assert "shown once" in log
    assert "server=demo login=local" in log
    assert "storage=filetree home=/data" in log


def test_a_person_signs_in_and_calls(run_container: RunContainer, sign_in: SignIn) -> None:
    assert sign_in(run_container().url).call().status_code == 200


@pytest.mark.parametrize("user", USERS.values(), ids=USERS.keys())
def test_hardened_as_any_user_a_sign_in_survives_kill_9(
    run_container: RunContainer, user: tuple[str, ...], sign_in: SignIn
) -> None:
    container = run_container(flags=(*HARDENED, *user))
    client = sign_in(container.url)
    container.kill()
    container.start().wait_until_ready()
    assert client.call().status_code == 200
    client.refresh().raise_for_status()
    assert client.call().status_code == 200


def test_a_sign_in_survives_a_new_container_on_its_volume(run_container: RunContainer, sign_in: SignIn) -> None:
    first = run_container(flags=HARDENED)
    client = sign_in(first.url)
    first.remove()
    second = run_container(flags=HARDENED)
    client.http.base_url = httpx.URL(second.url)
    client.refresh().raise_for_status()
    assert client.call().status_code == 200


def test_without_its_volume_nobody_is_signed_in(run_container: RunContainer, sign_in: SignIn) -> None:
    client = sign_in(run_container().url)
    client.http.base_url = httpx.URL(
        run_container(flags=("--tmpfs=/elsewhere:mode=1777",), FASTMCP_HOME="/elsewhere").url
    )
    assert client.call().status_code == 401


def test_hardening_is_real(run_container: RunContainer) -> None:
    container = run_container(flags=HARDENED)
    status = container.execute("python", "-c", "print(open('/proc/1/status').read())")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split() == ["10001"] * 4
    assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0
    assert fields["NoNewPrivs"] == "1"
    assert fields["Umask"] == "0077"
    with pytest.raises(RuntimeError, match="Read-only file system"):
        container.execute("sh", "-c", ">/var/tmp/file")


def test_state_is_for_its_user_alone(run_container: RunContainer, sign_in: SignIn) -> None:
    container = run_container(flags=HARDENED)
    sign_in(container.url)
    script = """
import pathlib
for path in pathlib.Path("/data").rglob("*"):
    print(oct(path.stat().st_mode & 0o077), path.is_file())
"""
    assert set(container.execute("python", "-c", script).splitlines()) == {"0o0 True", "0o0 False"}


def test_health_check_turns_healthy(run_container: RunContainer) -> None:
    container = run_container(flags=HARDENED)
    eventually(lambda: container.state()["Health"]["Status"], lambda status: status == "healthy")


def test_health_check_fails_while_the_server_is_away(run_container: RunContainer) -> None:
    container = run_container()
    container.execute("python", "-m", "mcp_holdfast.healthcheck")
    with pytest.raises(RuntimeError, match="no answer"):
        container.execute("sh", "-c", "PORT=9 python -m mcp_holdfast.healthcheck")


def test_docker_stop_ends_it_in_order_and_soon(run_container: RunContainer) -> None:
    container = run_container()
    container.stop()
    # After 10 s it would have been killed: 137.
    assert container.state()["ExitCode"] == 0
    assert "Shutting down" in container.output()


def test_it_starts_with_no_network_at_all(launch_container: RunContainer) -> None:
    container = launch_container(flags=(*HARDENED, "--network=none"))
    eventually(lambda: container.state()["Health"]["Status"], lambda status: status == "healthy")


def test_exasol_starts_without_its_database(run_container: RunContainer, sign_in: SignIn) -> None:
    container = run_container(flags=HARDENED, EXA_DSN="127.0.0.1:1", EXA_USER="someone", EXA_PASSWORD="something")
    assert "server=exasol" in container.output()
    assert sign_in(container.url).call().status_code == 200


def test_a_server_of_ones_own_is_mounted_and_named(
    run_container: RunContainer, tmp_path: Path, sign_in: SignIn
) -> None:
    server = tmp_path / "server.py"
    server.write_text(DEMO_SERVER)
    server.chmod(0o644)
    container = run_container(
        flags=(*HARDENED, f"--volume={server}:/srv/server.py:ro"), HOLDFAST_SERVER="/srv/server.py"
    )
    answer = sign_in(container.url).call()
    assert '"Mine"' in answer.text


def test_bytecode_is_used_not_made(run_command: RunToEnd) -> None:
    result = run_command("python", "-v", "-c", "import fastmcp.server.server", flags=HARDENED)
    assert result.returncode == 0
    assert "/opt/holdfast/lib/python3.13/site-packages/fastmcp/server/__pycache__/" in result.stderr
    assert not re.search(r"code object from '/opt/holdfast\S+\.py'", result.stderr)
