"""A server that logs without rich has none of it imported; one that wants it logs with it."""

import os
import subprocess
import sys

PROGRAM = """
import logging, sys
import fastmcp.server
print("rich" in sys.modules, *{type(handler).__name__ for handler in logging.getLogger("fastmcp").handlers})
"""


def test_rich_is_imported_for_logging_with_it() -> None:
    assert [logs_with(rich) for rich in ("false", "true")] == ["False StreamHandler", "True RichHandler"]


def logs_with(rich: str) -> str:
    """Whether rich is imported, and the handlers of FastMCP's logger."""
    environment = {**os.environ, "FASTMCP_ENABLE_RICH_LOGGING": rich}
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True, env=environment)
    return done.stdout.strip()
