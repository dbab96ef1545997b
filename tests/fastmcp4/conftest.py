"""Servers on FastMCP 4, and programs that run on its packages as they come."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any, ClassVar

from harness.environments import interpreter_of
from harness.oauth import OAuthClient
from harness.server import Server

CALLER = Path(__file__).with_name("caller.py")

MODERN = "2026-07-28"
"""The protocol that clients of FastMCP 4 speak, which has no sessions (SEP-2575)."""


class ServerOnFastMCP4(Server):
    line: ClassVar[str] = "fastmcp4"


def packages_of(environment: str) -> Path:
    """The directory with the packages of an environment."""
    (found,) = interpreter_of(environment).parents[1].glob("lib/python*/site-packages")
    return found


def call(server: ServerOnFastMCP4, client: OAuthClient, tool: str, **arguments: Any) -> dict[str, Any]:
    """Call a tool as a client of FastMCP 4 does."""
    done = subprocess.run(
        [interpreter_of("fastmcp-4"), CALLER, f"{server.url}/mcp", tool, json.dumps(arguments)],
        env={"PATH": os.environ["PATH"], "ACCESS_TOKEN": client.tokens["access_token"]},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
