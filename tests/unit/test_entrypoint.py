"""entrypoint.sh decides what a container runs, under dash as in the image and under bash."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ENTRYPOINT = Path(__file__).parents[2] / "entrypoint.sh"
SHELLS = [shell for shell in ("dash", "bash") if shutil.which(shell)]

Start = Callable[..., str]


@pytest.fixture(params=SHELLS)
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Start:
    """Start the entrypoint with a Python that prints its arguments."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nprintf "python"; printf " <%s>" "$@"\n')
    python.chmod(0o755)

    def run(*arguments: str) -> str:
        command = [request.param, ENTRYPOINT, *arguments]
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()

    return run


SERVER = "python <-m> <mcp_holdfast.serve>"


def test_no_argument_starts_the_server(start: Start) -> None:
    assert start() == SERVER


def test_an_empty_argument_starts_the_server_and_reaches_it(start: Start) -> None:
    assert start("") == f"{SERVER} <>"


def test_flags_go_to_the_server_as_they_are(start: Start) -> None:
    assert start("--workers", "2", "--name=a b") == f"{SERVER} <--workers> <2> <--name=a b>"


def test_another_program_runs_as_given(start: Start) -> None:
    assert start("printf", "[%s]", "a b", "", "*") == "[a b][][*]"


def test_exit_status_is_the_programs_own() -> None:
    assert subprocess.run([ENTRYPOINT, "sh", "-c", "exit 37"], check=False).returncode == 37


def test_a_program_that_is_not_there_is_said_so() -> None:
    result = subprocess.run([ENTRYPOINT, "no-such-program"], capture_output=True, text=True, check=False)
    assert result.returncode == 127
    assert "no-such-program" in result.stderr


def test_the_program_replaces_the_shell_so_that_signals_reach_it() -> None:
    with subprocess.Popen([ENTRYPOINT, "sh", "-c", "echo $$"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert int(process.stdout.read()) == process.pid


def test_files_are_for_this_user_alone(start: Start) -> None:
    assert start("sh", "-c", "umask") == "0077"


def test_no_core_dump_is_written(start: Start) -> None:
    assert start("sh", "-c", "ulimit -c") == "0"


@pytest.mark.parametrize("shell", SHELLS)
def test_sourcing_defines_the_functions_and_starts_nothing(shell: str) -> None:
    script = f". {ENTRYPOINT}; asks_for_server --flag && ! asks_for_server holdfast && echo defined"
    result = subprocess.run([shell, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout == "defined\n"
