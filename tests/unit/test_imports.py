"""What a command and a start load: most of their time is imports."""

import subprocess
import sys

from mcp_holdfast.cli import COMMANDS

NEED_FASTMCP = {"server", "doctor", "importing"}
BIG = ("fastmcp", "mcp", "starlette", "httpx", "jinja2", "opentelemetry")


def loaded_by(*modules: str) -> set[str]:
    """The packages that a new process has loaded after it imported these modules."""
    program = f"import sys, {', '.join(modules)}; print(*{{name.split('.')[0] for name in sys.modules}})"
    return set(
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    )


def test_commands_beside_a_server_load_none_of_its_libraries() -> None:
    modules = {place.split(":")[0] for place in COMMANDS} - NEED_FASTMCP
    assert loaded_by(*(f"mcp_holdfast.cli.{module}" for module in sorted(modules))) & set(BIG) == set()


def test_a_server_loads_no_exporter_of_traces_and_no_checks_of_types() -> None:
    program = "import mcp_holdfast.serve, mcp_holdfast.app, mcp_holdfast.worker, sys; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    unwanted = ("opentelemetry.sdk", "opentelemetry.exporter", "beartype.claw", "websockets")
    assert [name for name in modules if name.startswith(unwanted)] == []
