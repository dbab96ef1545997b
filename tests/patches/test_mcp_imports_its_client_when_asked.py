"""mcp's client and its own FastMCP are imported where they are asked for, in each of the ways that there are."""

import subprocess
import sys

import pytest

SERVER = """
import sys
import mcp, mcp.server

def check():
    assert not [name for name in sys.modules if name.startswith(("mcp.client", "mcp.server.fastmcp", "fastmcp.client"))]

check()
for module in (mcp, mcp.server):
    try:
        module.nothing
    except AttributeError as error:
        assert str(error) == f"module '{module.__name__}' has no attribute 'nothing'", error
    else:
        raise SystemExit("nothing was found")
"""


@pytest.mark.parametrize(
    "asked",
    [
        "import fastmcp.server; fastmcp.server.FastMCP('any').http_app(); check()",
        "assert mcp.ClientSession.__module__ == 'mcp.client.session'",
        "assert mcp.client.session_group.ClientSessionGroup is mcp.ClientSessionGroup",
        "assert mcp.client.stdio.stdio_client is mcp.stdio_client",
        "from mcp import ClientSessionGroup, StdioServerParameters; StdioServerParameters(command='true')",
        "from mcp import *; assert ClientSession and stdio_client and McpError",
        "assert mcp.server.FastMCP is mcp.server.fastmcp.FastMCP",
        "mcp.server.fastmcp.FastMCP('any')",
        "from mcp.server import *; assert FastMCP('any') and Server('any')",
    ],
)
def test_a_server_imports_no_client_and_who_asks_gets_it(asked: str) -> None:
    subprocess.run([sys.executable, "-c", SERVER + asked], check=True)
