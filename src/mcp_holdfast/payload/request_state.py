"""What a tool remembers while it waits for an answer of its client (MCP 2026-07-28, SEP-2322), on FastMCP 4.

There a tool asks by its result, and the client comes back with the answer and with what the tool wanted to remember,
sealed. FastMCP seals it with a key of the process, so that after a restart, and at another replica, the answer would be
refused.
"""

from fastmcp import FastMCP

from mcp_holdfast.fastmcp_line import IS_FASTMCP_4
from mcp_holdfast.storage.keys import KeyRing

PURPOSE = "request state"


def share_request_state(server: FastMCP, ring: KeyRing, *, name: str) -> None:
    """Seal it with keys that all workers and replicas have; `name` tells servers apart that have the same keys.

    A server that brings its own `request_state_security` keeps that.
    """
    if not IS_FASTMCP_4 or server._request_state_security is not None:  # type: ignore[attr-defined]
        return
    from mcp.server.request_state import (  # type: ignore[import-not-found]
        RequestStateBoundary,
        RequestStateSecurity,
    )

    security = RequestStateSecurity(keys=ring.derive(PURPOSE), audience=name)
    shared = RequestStateBoundary(security, default_audience=name)
    layers = server._mcp_server.middleware  # type: ignore[attr-defined]
    layers[:] = [shared if isinstance(layer, RequestStateBoundary) else layer for layer in layers]
