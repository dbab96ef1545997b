"""mcp-remote, which brings remote servers to clients that speak over standard input and output only."""

import sys

from clients.story import NODE, NPM_PACKAGES, PROGRAMS, SignsInOnce


class TestMcpRemote(SignsInOnce):
    def command(self, url: str) -> list[str]:
        proxy = [NODE, str(NPM_PACKAGES / "mcp-remote/dist/proxy.js"), url, "--transport", "http-only", "--allow-http"]
        return [sys.executable, str(PROGRAMS / "fastmcp_client.py"), *proxy]
