"""What a payload asks its client for (elicitation, sampling, roots), where the answer could not find its way back.

Without MCP sessions an answer is a request like any other: any worker or replica may get it, and none of them knows
what was asked. The payload would wait for ever (PrefectHQ/fastmcp#1585, modelcontextprotocol/python-sdk#1097).
"""

import logging
from typing import Any, NoReturn

from fastmcp import FastMCP
from fastmcp.exceptions import ToolError
from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
from mcp.types import INVALID_REQUEST

from mcp_holdfast.fastmcp_line import IS_FASTMCP_4, McpError, error_arguments, method_of

log = logging.getLogger(__name__)

SAMPLING = "sampling/createMessage"

REASON = (
    "This server cannot ask its client anything ({method}): it runs with several workers or replicas, and the answer "
    "may reach another one. It can where each MCP session stays in one process: with WEB_CONCURRENCY=1, and behind a "
    "load balancer that routes by Mcp-Session-Id instead of HOLDFAST_REPLICAS"
)


class Refused(McpError, ToolError):
    """To a payload it is what a client's refusal would be; FastMCP tells it to the client, whatever else it masks."""

    def __init__(self, reason: str) -> None:
        ToolError.__init__(self)
        McpError.__init__(self, *error_arguments(INVALID_REQUEST, reason))


class ConversationRefusal(Middleware):
    """Refuses every request to the client, at once. The log says so the first time."""

    def __init__(self) -> None:
        self._is_logged = False

    async def on_message(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:
        if context.fastmcp_context is not None:
            # The way of all requests to the client. Without MCP sessions this object serves one message only.
            context.fastmcp_context.session.send_request = self._refuse_request  # type: ignore[method-assign]
        return await call_next(context)

    async def refuse_sampling(self, *_: Any) -> NoReturn:
        """Stand in for a language model: FastMCP knows of no client that has one, and would blame the client."""
        self._refuse(SAMPLING)

    async def _refuse_request(self, request: Any, *_: Any, **__: Any) -> NoReturn:
        self._refuse(method_of(request))

    def _refuse(self, method: str) -> NoReturn:
        reason = REASON.format(method=method)
        if not self._is_logged:
            self._is_logged = True
            log.warning("%s", reason)
        raise Refused(reason)


def refuse_conversations(server: FastMCP) -> None:
    """Let a server that runs without MCP sessions get an error at once for whatever it asks its client."""
    refusal = ConversationRefusal()
    # Before the server's own, which may ask too.
    server.middleware.insert(0, refusal)
    if not IS_FASTMCP_4 and server.sampling_handler is None:
        server.sampling_handler = refusal.refuse_sampling
