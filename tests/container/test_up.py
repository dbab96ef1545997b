"""`make up` starts Holdfast and says how to sign in; `make down` leaves what is stored."""

import os
import re
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from container.conftest import SignIn
from harness.container import debian_image, docker, run_to_end
from harness.server import free_port

ROOT = Path(__file__).parents[2]

Make = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def make(port: int) -> Iterator[Make]:
    """Run a target of the Makefile beside whatever else runs on this machine."""
    name = f"holdfast-test-{uuid.uuid4().hex[:12]}"
    ours = {"COMPOSE_PROJECT_NAME": name, "VOLUME": name, "PORT": str(port), "HOLDFAST_SERVER": "demo"}

    def run(target: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["make", target],
            cwd=ROOT,
            env={**os.environ, **ours, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    yield run
    run("down")
    docker("volume", "rm", "--force", name)


def test_make_up_says_how_to_sign_in_and_a_sign_in_survives_make_down(make: Make, sign_in: SignIn, port: int) -> None:
    first = make("up")
    assert first.returncode == 0, first.stderr
    url = f"http://localhost:{port}/mcp"
    assert f"URL  {url}\n" in first.stdout
    assert f"claude mcp add --transport http holdfast {url}\n" in first.stdout
    pin = re.search(r"PIN  (\d{4}-\d{4}-\d{4})\n", first.stdout)
    assert pin is not None
    client = sign_in(f"http://localhost:{port}", pin[1])

    again = make("up")
    assert again.returncode == 0, again.stderr
    assert pin[0] in again.stdout
    assert client.call().status_code == 200, "a second make up leaves the running server alone"

    assert make("down").returncode == 0
    assert "as shown at the first start" in make("up").stdout
    client.refresh().raise_for_status()
    assert client.call().status_code == 200


def test_a_wrong_setting_is_named_and_leaves_a_running_server_alone(make: Make, sign_in: SignIn, port: int) -> None:
    make("up", HOLDFAST_PIN="correct-horse")
    client = sign_in(f"http://localhost:{port}", "correct-horse")
    result = make("up", HOLDFAST_PIN="1234")
    assert result.returncode != 0
    assert "HOLDFAST_PIN: is shorter than 6 characters" in result.stdout + result.stderr
    assert "error: nothing was started or stopped" in result.stderr
    assert client.call().status_code == 200


def test_every_setting_reaches_the_server(make: Make, sign_in: SignIn, port: int, open_path: Path) -> None:
    (open_path / "pin").write_text("a pin, with $signs\n")
    (open_path / "pin").chmod(0o644)
    (open_path / "my_server.py").write_text(
        "from fastmcp import FastMCP\nmine = FastMCP('Mine')\n@mine.tool\ndef hello() -> str:\n    return 'hello'\n"
    )
    result = make(
        "up",
        HOLDFAST_PIN_FILE=str(open_path / "pin"),
        HOLDFAST_SERVER=f"{open_path}/my_server.py:mine",
        HOLDFAST_ACCESS_TOKEN_LIFETIME="30m",
        LOG_FORMAT="json",
    )
    assert result.returncode == 0, result.stderr
    assert "PIN  the one that you set\n" in result.stdout
    assert f"URL  http://localhost:{port}/mcp\n" in result.stdout
    client = sign_in(f"http://localhost:{port}", "a pin, with $signs")
    assert client.tokens["expires_in"] == 1800
    assert "hello" in client.call_tool("hello").text


def test_a_chosen_pin_is_not_shown(make: Make, sign_in: SignIn, port: int) -> None:
    result = make("up", HOLDFAST_PIN="correct-horse")
    assert "PIN  the one that you set\n" in result.stdout
    assert "correct-horse" not in result.stdout + result.stderr
    assert sign_in(f"http://localhost:{port}", "correct-horse").call().status_code == 200


SCRIPTS = f"--volume={ROOT / 'scripts'}:/holdfast/scripts:ro"
FIND_ENGINE = "/holdfast/scripts/find-or-install-engine.sh"


def on_debian(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command with our scripts on a Debian machine without an engine, as a user who is not root."""
    return run_to_end("--user=10001:10001", SCRIPTS, debian_image(), *command)


def test_without_an_engine_and_without_root_it_says_what_to_install() -> None:
    result = on_debian(FIND_ENGINE)
    assert result.returncode == 1
    assert "There is no Docker here that can build images" in result.stderr
    assert "Run: sudo apt-get install docker.io" in result.stderr


def test_without_a_known_package_manager_it_says_what_to_install() -> None:
    few_programs = "mkdir /tmp/bin && cd /usr/bin && ln -s $PWD/bash $PWD/dirname $PWD/grep $PWD/env /tmp/bin"
    result = on_debian("sh", "-c", f"{few_programs} && PATH=/tmp/bin exec {FIND_ENGINE}")
    assert result.returncode == 1
    assert "this system has no apt-get. Install what Debian calls docker.io by its own means" in result.stderr
