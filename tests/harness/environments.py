"""Environments with the real packages of other servers, and of Holdfast on another line of FastMCP."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]

LINE = os.environ.get("LINE") or "fastmcp3"
"""The line of FastMCP that servers run on: fastmcp3, whose packages these tests have too, or fastmcp4."""


@cache
def interpreter_of(environment: str) -> Path:
    """The interpreter of what scripts/test-environment.sh makes; it has nothing to do where that is up to date."""
    made = subprocess.run(
        [ROOT / "scripts/test-environment.sh", environment], check=True, stdout=subprocess.PIPE, text=True
    )
    return Path(made.stdout.strip())


def programs_of(line: str) -> Path:
    """The directory of Holdfast's interpreter on a line of FastMCP, and of its command."""
    return Path(sys.executable).parent if line == "fastmcp3" else interpreter_of(f"holdfast-{line}").parent
