"""FastMCP's Python client with its OAuth helper."""

import sys

from clients.story import PROGRAMS, SignsInOnce


class TestFastMCPClient(SignsInOnce):
    def command(self, url: str) -> list[str]:
        return [sys.executable, str(PROGRAMS / "fastmcp_client.py"), url]
