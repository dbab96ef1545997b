"""holdfast:base runs any server but exasol's, of which it has nothing; holdfast:debug has a shell and tools."""

import shlex

import pytest

from container.conftest import RunContainer, SignIn
from harness.container import HARDENED, ROOT, Container, built_image, docker, run_to_end
from test_docs import blocks

pytestmark = pytest.mark.long

CONNECTION = ("--env=EXA_DSN=db.example.com:8563", "--env=EXA_USER=someone", "--env=EXA_PASSWORD=something")
TOOLS = ("bash", "cat", "curl", "find", "grep", "ls", "ps", "strace")


@pytest.fixture(scope="module")
def base() -> str:
    return built_image("base")


@pytest.fixture(scope="module")
def debug() -> str:
    return built_image("debug")


def test_base_runs_the_demo_unless_told_otherwise(volume: str, sign_in: SignIn) -> None:
    container = Container((*HARDENED, f"--volume={volume}:/data"), target="base")
    try:
        client = sign_in(container.run().wait_until_ready().url)
        assert "server=demo" in container.output()
        assert client.call().status_code == 200
    finally:
        container.remove()


@pytest.mark.parametrize(
    "chosen", [("--env=HOLDFAST_SERVER=exasol", *CONNECTION), CONNECTION], ids=["named", "implied"]
)
def test_base_refuses_exasol_and_says_what_to_do(base: str, chosen: tuple[str, ...]) -> None:
    result = run_to_end(*HARDENED, *chosen, base)
    assert result.returncode == 78
    assert "HOLDFAST_SERVER: exasol cannot be imported" in result.stderr
    assert "Use the image holdfast" in result.stderr


def test_base_has_nothing_that_only_exasol_needs(base: str) -> None:
    script = """
import importlib.metadata as metadata
print(*sorted(name for name in metadata.packages_distributions() if name in {"exasol", "pyexasol", "numpy", "sqlglot"}))
"""
    assert run_to_end(base, "python", "-c", script).stdout.strip() == ""


def test_debug_is_the_same_server_with_tools_beside_it(debug: str) -> None:
    result = run_to_end(
        "--read-only", debug, "bash", "-euc", f"command -v {' '.join(TOOLS)}; holdfast check >/dev/null"
    )
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.split()) == len(TOOLS)


def test_debug_sees_the_processes_network_and_volume_of_another_container(
    debug: str, run_container: RunContainer
) -> None:
    container = run_container(flags=HARDENED)
    (documented,) = blocks(ROOT / "docs/image.md", "sh")
    command = documented.replace("container:holdfast", f"container:{container.id}").replace(
        "--volumes-from holdfast", f"--volumes-from {container.id}"
    )
    words = shlex.split(command.replace("--interactive --tty ", "").replace("holdfast:debug bash", ""))
    look = "ps -e -o args; ls /proc/1/root/opt/holdfast/bin /data; curl --silent localhost:$PORT/livez"
    told = docker(*words[1:], f"--env=PORT={container.port}", debug, "bash", "-euc", look)
    for seen in ("mcp_holdfast.serve", "gunicorn", "oauth-proxy", "alive"):
        assert seen in told
