"""The image's health check, by which ECS ends tasks: it fails where a new task would do better, and nowhere else."""

import errno
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from harness.server import Server, free_port
from harness.waiting import eventually
from mcp_holdfast.healthcheck import ANSWERS_WITHIN, TOUCHED

ROOT = Path(__file__).parents[2]
NO_DEVICE = os.makedev(240, 77)
FULL = os.makedev(1, 7)


@contextmanager
def mounted(directory: Path) -> Iterator[Path]:
    """A real file system that can be made read-only."""
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(directory)], check=True)
    yield directory
    subprocess.run(["umount", "--lazy", str(directory)], check=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on a volume of its own; what the check asks about is another one."""
    directory = tmp_path_factory.mktemp("server")
    with mounted(directory / "data") as home:
        server = Server(home, directory / "server.log").start()
        yield server
        server.stop()


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "volume") as directory:
        yield directory


def check(port: int, home: Path, **environment: str) -> tuple[int, str]:
    """The exit status of the health check, and what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "mcp_holdfast.healthcheck"],
        env={"PORT": str(port), "FASTMCP_HOME": str(home), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout.strip()


def test_a_server_that_answers_on_a_volume_that_answers_is_healthy(server: Server, volume: Path) -> None:
    assert check(server.port, volume) == (0, "alive, and the volume answers")
    assert check(server.port, volume) == (0, "alive, and the volume answers")
    (touched,) = volume.iterdir()
    assert stat.S_IMODE(touched.stat().st_mode) == 0o600


def test_port_and_volume_may_be_named_in_files(server: Server, volume: Path, tmp_path: Path) -> None:
    (tmp_path / "port").write_text(f"{server.port}\n")
    (tmp_path / "home").write_text(f"{volume}\n")
    files = {"PORT_FILE": str(tmp_path / "port"), "FASTMCP_HOME_FILE": str(tmp_path / "home")}
    assert check(1, tmp_path, **files)[0] == 0
    assert (volume / TOUCHED).exists()


def test_a_process_that_is_away_is_unhealthy(volume: Path) -> None:
    status, told = check(free_port(), volume)
    assert (status, told.partition(":")[0]) == (1, "no answer")


def test_a_process_that_hangs_is_unhealthy(server: Server, volume: Path) -> None:
    os.killpg(server.process_id, signal.SIGSTOP)
    try:
        status, told = check(server.port, volume)
    finally:
        os.killpg(server.process_id, signal.SIGCONT)
    assert (status, told.partition(":")[0]) == (1, "no answer")


def test_a_volume_that_hangs_is_unhealthy_in_time(server: Server, volume: Path) -> None:
    # Nobody reads it, so that opening it waits for ever, as everything does on a hard mount that lost its server.
    os.mkfifo(volume / TOUCHED)
    assert check(server.port, volume) == (1, f"the volume has not answered for {ANSWERS_WITHIN:.0f} s")


def test_a_mount_that_is_broken_is_unhealthy(server: Server, volume: Path) -> None:
    os.mknod(volume / TOUCHED, 0o600 | stat.S_IFCHR, NO_DEVICE)
    assert check(server.port, volume) == (1, f"the volume fails: {os.strerror(errno.ENXIO)}")


def test_a_full_volume_is_no_reason_to_end_the_task(server: Server, volume: Path) -> None:
    os.mknod(volume / TOUCHED, 0o600 | stat.S_IFCHR, FULL)
    status, told = check(server.port, volume)
    assert (status, "a restart would not help" in told, os.strerror(errno.ENOSPC) in told) == (0, True, True)


def test_a_read_only_volume_is_no_reason_to_end_the_task(server: Server, volume: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(volume)], check=True)
    status, told = check(server.port, volume)
    assert (status, os.strerror(errno.EROFS) in told) == (0, True)


def test_a_volume_that_is_not_there_is_no_reason_to_end_the_task(server: Server, tmp_path: Path) -> None:
    # Nor is it used where the store is in an engine.
    assert check(server.port, tmp_path / "nowhere")[0] == 0


def test_a_planted_link_is_not_followed(server: Server, volume: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (volume / TOUCHED).symlink_to(victim)
    assert check(server.port, volume)[0] == 0
    assert victim.read_text() == "untouched"


def test_a_store_that_fails_makes_it_unready_and_does_not_end_the_task(server: Server) -> None:
    home = Path(server.environment["FASTMCP_HOME"])
    subprocess.run(["mount", "-o", "remount,ro", str(home)], check=True)
    try:
        eventually(lambda: httpx.get(f"{server.url}/readyz").status_code, lambda status: status == 503)
        assert check(server.port, home)[0] == 0
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(home)], check=True)


def test_an_identity_provider_that_is_away_makes_it_unready_and_does_not_end_the_task(tmp_path: Path) -> None:
    prefix = "FASTMCP_SERVER_AUTH_OIDCPROXY"
    environment = {
        "FASTMCP_SERVER_AUTH": "fastmcp.server.auth.oidc_proxy.OIDCProxy",
        f"{prefix}_CONFIG_URL": f"http://127.0.0.1:{free_port()}/.well-known/openid-configuration",
        f"{prefix}_CLIENT_ID": "an-id",
        f"{prefix}_CLIENT_SECRET": "a-secret",
    }
    server = Server(tmp_path / "data", tmp_path / "server.log", **environment)
    server.launch()
    try:

        def status() -> int:
            try:
                return httpx.get(f"{server.url}/readyz").status_code
            except httpx.TransportError:
                return 0

        eventually(status, lambda found: found == 503)
        assert check(server.port, tmp_path / "data") == (0, "alive, and the volume answers")
    finally:
        server.stop()


def test_it_ends_before_the_engine_loses_its_patience() -> None:
    (timeout,) = re.findall(r"HEALTHCHECK .*--timeout=(\d+)s", (ROOT / "Dockerfile").read_text())
    assert int(timeout) > 2 * ANSWERS_WITHIN
