"""Stock FastMCP as a process of its own, to put beside Holdfast."""

from collections.abc import Sequence
from pathlib import Path

from harness.environments import LINE, interpreter_of
from harness.server import ServerProcess

PROGRAM = Path(__file__).with_name("stock_server.py")


def stock_python() -> Path:
    """The interpreter that has the packages of the same line as they come."""
    return interpreter_of(LINE.replace("fastmcp", "fastmcp-"))


class StockServer(ServerProcess):
    """FastMCP without Holdfast and without our patches; needs the environment of a login through a proxy."""

    ready_path = "/.well-known/oauth-authorization-server"

    def __init__(self, home: Path, log: Path, **environment: str) -> None:
        super().__init__(log, {"FASTMCP_HOME": str(home), **environment})

    def command(self) -> Sequence[str]:
        return [str(stock_python()), str(PROGRAM)]
