"""gunicorn's worker: uvicorn's, with all of it imported before the fork, so that workers share it and begin at once."""

from typing import Any, ClassVar

import uvicorn.lifespan.on
import uvicorn.loops.uvloop  # noqa: F401  # what uvicorn would import by name in each worker
from uvicorn_worker import UvicornWorker

from mcp_holdfast.http.connections import BoundedConnection


class Worker(UvicornWorker):  # type: ignore[misc]  # it has no type information
    """MCP is spoken over HTTP alone: an implementation of WebSockets would be imported for nobody.

    No header of an answer names the server's software.
    """

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        "loop": "uvloop",
        "http": BoundedConnection,
        "ws": "none",
        "server_header": False,
    }
