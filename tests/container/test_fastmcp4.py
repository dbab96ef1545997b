"""holdfast:fastmcp4 is holdfast on FastMCP 4 (docs/fastmcp4.md)."""

import pytest

from container.conftest import SignIn
from harness.container import HARDENED, Container, built_image, run_to_end

pytestmark = pytest.mark.long


def test_it_keeps_sign_ins_through_docker_kill(volume: str, sign_in: SignIn) -> None:
    container = Container((*HARDENED, f"--volume={volume}:/data"), target="fastmcp4")
    try:
        client = sign_in(container.run().wait_until_ready().url)
        container.kill()
        container.start().wait_until_ready()
        assert client.call().status_code == 200
        client.refresh().raise_for_status()
    finally:
        container.remove()


def test_it_has_the_newer_packages_and_they_are_patched() -> None:
    script = """
import importlib.metadata as metadata
from fastmcp.server.auth.providers.jwt import JWTVerifier
print(metadata.version("fastmcp"), metadata.version("mcp"), hasattr(JWTVerifier, "_refresh_jwks_key"))
"""
    told = run_to_end(built_image("fastmcp4"), "python", "-c", script)
    assert told.stdout.split() == ["4.0.11", "2.3.0", "True"], told.stderr


def test_exasol_is_said_to_be_experimental_on_it() -> None:
    connection = ("--env=EXA_DSN=db.example.com:8563", "--env=EXA_USER=someone", "--env=EXA_PASSWORD=something")
    told = run_to_end(*connection, "--env=EXA_MCP_STORAGE_BACKEND=memory", built_image("fastmcp4"), "holdfast", "check")
    assert told.returncode == 0, told.stderr
    assert "experimental on FastMCP 4" in told.stderr
