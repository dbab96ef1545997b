"""Answer a request without an MCP session in its own task, instead of through four tasks and five streams.

For each such request mcp runs a whole server: tasks that serve, read, route and answer, with streams between them,
which takes longer than most tools do. Here mcp's own code still reads and validates the HTTP request, handles the
message and makes the response, but one after the other. For JSON answers only: nothing comes before the answer there.
"""

import logging
from collections.abc import AsyncIterator
from typing import Any, Self, cast

from fastmcp.server.http import FastMCPStreamableHTTPSessionManager
from fastmcp.server.low_level import LowLevelServer, MiddlewareServerSession
from mcp.server.session import ServerRequestResponder
from mcp.server.streamable_http import EventMessage, StreamableHTTPServerTransport
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.message import SessionMessage
from mcp.shared.session import RequestResponder
from mcp.types import ClientRequest, InitializeRequest, JSONRPCError, JSONRPCResponse, ServerResult
from starlette.types import Receive, Scope, Send

log = logging.getLogger(__name__)

Request = RequestResponder[ClientRequest, ServerResult]


class _Stream:
    """What a session takes for a stream to its client."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


class _OneMessage(_Stream):
    """What the session reads: what the client sent, and then the end."""

    def __init__(self, message: SessionMessage | Exception) -> None:
        self._message = message

    async def __aiter__(self) -> AsyncIterator[SessionMessage | Exception]:
        yield self._message


class _Answers(_Stream):
    """What the session writes: the answer reaches the request; all else would be dropped later, as it is by mcp."""

    def __init__(self, transport: StreamableHTTPServerTransport) -> None:
        self._transport = transport

    async def send(self, message: SessionMessage) -> None:
        answer = message.message.root
        if isinstance(answer, JSONRPCResponse | JSONRPCError):
            waiting, _ = self._transport._request_streams[str(answer.id)]
            waiting.send_nowait(EventMessage(message.message))


class _Session(MiddlewareServerSession):
    """Handles the one message of its client after it was read."""

    def __init__(
        self, server: LowLevelServer[Any, Any], message: SessionMessage | Exception, answers: _Answers
    ) -> None:
        super().__init__(server.fastmcp, _OneMessage(message), answers, None, stateless=True)
        self._server = server
        self._received: ServerRequestResponder | None = None

    async def _received_request(self, responder: Request) -> None:
        if isinstance(responder.request.root, InitializeRequest):
            self._init_options = self._server.create_initialization_options()
        await super()._received_request(responder)

    async def _handle_incoming(self, req: ServerRequestResponder) -> None:
        self._received = req

    async def run(self) -> None:
        async with self._exit_stack, self._server.lifespan(self._server) as lifespan:
            await self._receive_loop()
            # A session and a request that know each other would wait for the garbage collector.
            received, self._received = self._received, None
            if received is not None:
                await self._server._handle_message(received, self, lifespan)


class _Connection:
    """What the transport writes the client's messages to."""

    def __init__(self, server: LowLevelServer[Any, Any], transport: StreamableHTTPServerTransport) -> None:
        self._server = server
        self._transport = transport

    async def send(self, message: SessionMessage | Exception) -> None:
        try:
            await _Session(self._server, message, _Answers(self._transport)).run()
        except Exception:
            log.exception("a request could not be answered")
            # mcp tells the client so.
            for waiting in list(self._transport._request_streams):
                await self._transport._clean_up_memory_streams(waiting)


async def _answer_at_once(manager: StreamableHTTPSessionManager, scope: Scope, receive: Receive, send: Send) -> None:
    if not manager.json_response:
        await _answer_through_streams(manager, scope, receive, send)
        return
    transport = StreamableHTTPServerTransport(None, True, security_settings=manager.security_settings)
    # Sending is all that it does with it.
    transport._read_stream_writer = cast("Any", _Connection(cast("LowLevelServer[Any, Any]", manager.app), transport))
    try:
        await transport.handle_request(scope, receive, send)
    finally:
        # So would these.
        transport._read_stream_writer = None


_answer_through_streams = StreamableHTTPSessionManager._handle_stateless_request


def answer_at_once() -> None:
    """Let this process answer so from now on, where it answers without MCP sessions and in JSON."""
    FastMCPStreamableHTTPSessionManager._handle_stateless_request = _answer_at_once  # type: ignore[assignment, method-assign]
