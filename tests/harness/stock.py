"""Stock FastMCP as a process of its own, to put beside Holdfast."""

import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from harness.server import ServerProcess

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("stock_server.py")


@cache
def stock_python() -> Path:
    """Make .venv-stock (nothing to do where it is up to date) and return its interpreter."""
    subprocess.run([ROOT / "scripts/stock-environment.sh"], check=True)
    return ROOT / ".venv-stock/bin/python"


class StockServer(ServerProcess):
    """FastMCP without Holdfast and without our patches; needs the environment of a login through a proxy."""

    ready_path = "/.well-known/oauth-authorization-server"

    def __init__(self, home: Path, log: Path, **environment: str) -> None:
        super().__init__(log, {"FASTMCP_HOME": str(home), **environment})

    def command(self) -> Sequence[str]:
        return [str(stock_python()), str(PROGRAM)]
