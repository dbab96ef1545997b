"""Servers that people come from, each run by its real packages, and what they left when they were killed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from harness.environments import interpreter_of
from harness.oauth import OAuthClient
from harness.server import Server, ServerProcess
from harness.stock import PROGRAM as FASTMCP_SERVER
from harness.waiting import HANGS_AFTER

MEMORY_SERVICE_SERVER = Path(__file__).with_name("memory_service_server.py")
OF_THE_OLD_SERVER = frozenset({"PORT", "FASTMCP_HOME"})


class OldServer(ServerProcess):
    """FastMCP's OAuthProxy of some version; it chooses its store itself, below FASTMCP_HOME."""

    ready_path = "/.well-known/oauth-authorization-server"

    def __init__(self, version: str, home: Path, log: Path, **environment: str) -> None:
        super().__init__(log, {"FASTMCP_HOME": str(home), **environment})
        self._version = version

    def command(self) -> Sequence[str]:
        return [str(interpreter_of(self._version)), str(FASTMCP_SERVER)]


class MemoryService(ServerProcess):
    """The memory service's own registration, authorization and token endpoints."""

    ready_path = "/docs"
    api_key = "the-key-of-the-memory-service"

    def __init__(self, database: Path, log: Path) -> None:
        environment = {
            "MCP_OAUTH_ENABLED": "true",
            "MCP_OAUTH_STORAGE_BACKEND": "sqlite",
            "MCP_OAUTH_SQLITE_PATH": str(database),
            "MCP_MEMORY_BASE_DIR": str(database.parent),
            "MCP_API_KEY": self.api_key,
        }
        super().__init__(log, environment)

    def command(self) -> Sequence[str]:
        return [str(interpreter_of("memory-service")), str(MEMORY_SERVICE_SERVER)]


@dataclass
class LeftBehind:
    """The volume of a server that was killed, its settings, and the clients that were signed in there."""

    home: Path
    environment: Mapping[str, str]
    clients: list[OAuthClient]

    def settings(self) -> dict[str, str]:
        """What the new server is given of it: the same provider and public URL."""
        return {name: value for name, value in self.environment.items() if name not in OF_THE_OLD_SERVER}

    def next_client(self, server: Server) -> OAuthClient:
        """A client that was signed in and that no other test uses, speaking to the new server."""
        client = self.clients.pop()
        # Without connections that are kept, nobody needs to close it.
        client.http = httpx.Client(
            base_url=server.url, timeout=HANGS_AFTER, limits=httpx.Limits(max_keepalive_connections=0)
        )
        return client
