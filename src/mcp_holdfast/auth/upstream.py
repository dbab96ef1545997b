"""Note when an identity provider cannot answer, whichever provider class asks it.

FastMCP's providers make their requests in many places, and most of them take every exception for a bad token:
OAuthProxy.exchange_refresh_token answers invalid_grant and load_access_token 401 where the identity provider was only
out of reach. What they ask is seen in one place, the transport of httpx.
"""

import logging
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import cache, partial, wraps
from typing import cast
from urllib.parse import parse_qs

from anyio import CapacityLimiter, to_thread
from fastmcp.server.auth import ssrf

from mcp_holdfast import metrics, outage, tracing
from mcp_holdfast.fastmcp_line import httpx, is_in_a_message
from mcp_holdfast.storage import journal

log = logging.getLogger(__name__)

Send = Callable[[httpx.AsyncHTTPTransport, httpx.Request], Awaitable[httpx.Response]]

PERSIST_FOR = 3600.0
"""Seconds for which the store is tried again with what the identity provider has just issued, and nobody else has."""

MOST_LOOKUPS = 8
NO_SUCH_HOST = frozenset({socket.EAI_NONAME, socket.EAI_NODATA})
"""What name servers say of a host; everything else is their failure (RFC 3493, section 6.1)."""

OUR_MISTAKES = (httpx.LocalProtocolError, httpx.UnsupportedProtocol)
"""Transport errors that come from the request itself, and from no network."""

GRANTS: Mapping[bytes, metrics.UpstreamRequest] = {b"authorization_code": "code", b"refresh_token": "refresh"}

NO_ANSWERS_ABOUT_A_TOKEN = frozenset(
    {
        "temporarily_unavailable",
        "server_error",
        "slow_down",
        # It does not accept this server (RFC 6749, section 5.2): wrong settings, not a reason to end a session.
        "invalid_client",
        "unauthorized_client",
    }
)


@cache
def watch_outgoing_requests() -> None:
    """From now on, note requests of asynchronous httpx clients that could not be answered; to be called at the start.

    AsyncHTTPTransport.handle_async_request is wrapped, as tracing libraries for httpx do: clients of any library that
    is built on httpx (authlib's too) send each request and each hop of a redirect through it, made before or after.
    What callers get is the same. The requests of tools and other handlers of MCP messages are the payload's own, and
    are not watched.
    """
    send = cast("Send", httpx.AsyncHTTPTransport.handle_async_request)

    @wraps(send)
    async def send_watched(transport: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        if is_in_a_message():
            return await send(transport, request)
        return await _send_watched(send, transport, request)

    httpx.AsyncHTTPTransport.handle_async_request = send_watched  # type: ignore[assignment, method-assign]
    ssrf.resolve_hostname = _resolve_watched


async def _resolve_watched(hostname: str, port: int = 443) -> list[str]:
    """Look up the host of a client's document, as FastMCP's guard wants it before httpx is asked for that.

    In threads of their own, which names that nobody answers for may use up: anyone may send such names.

    Raises:
        SSRFError: there is no such host, or none can be found now, which is noted.

    """
    look_up = partial(socket.getaddrinfo, hostname, port, type=socket.SOCK_STREAM)
    try:
        found = await to_thread.run_sync(look_up, abandon_on_cancel=True, limiter=_lookups())
    except socket.gaierror as error:
        if error.errno not in NO_SUCH_HOST:
            outage.note(f"{hostname} could not be looked up")
        raise ssrf.SSRFError(f"{hostname} could not be looked up: {error.strerror}") from error
    except UnicodeError as error:
        raise ssrf.SSRFError("this is no host name") from error
    return sorted({str(address[0]) for *_, address in found})


@cache
def _lookups() -> CapacityLimiter:
    return CapacityLimiter(MOST_LOOKUPS)


async def _send_watched(send: Send, transport: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
    host, kind, began_at = request.url.host, _kind_of(request), time.perf_counter()
    # Of the request itself nothing is told: a client may have chosen its host.
    with tracing.span(f"upstream {kind}", "CLIENT") as tell:
        try:
            response = await send(transport, request)
        except httpx.TransportError as error:
            metrics.count_upstream(kind, "unreachable", time.perf_counter() - began_at)
            _note_failure(host, error)
            raise
        tell("http.response.status_code", response.status_code)
    took = time.perf_counter() - began_at
    response.stream = _WatchedBody(cast("httpx.AsyncByteStream", response.stream), host)
    error_code = await _error_code(response) if request.method == "POST" else None
    metrics.count_upstream(kind, _result_of(response, error_code), took)
    if _says_later(response):
        outage.note(f"{host} answered {response.status_code}")
    elif request.method == "POST" and response.is_success:
        journal.persist_for(PERSIST_FOR)
    elif error_code in NO_ANSWERS_ABOUT_A_TOKEN:
        outage.note(f"{host} answered {response.status_code} {error_code}")
        if error_code in {"invalid_client", "unauthorized_client"}:
            log.error("an identity provider does not accept this server: check its settings", extra={"host": host})
    return response


def _kind_of(request: httpx.Request) -> metrics.UpstreamRequest:
    """What a request asks for, as far as its form tells (RFC 6749, sections 4.1.3 and 6)."""
    if request.method != "POST" or not isinstance(request.stream, httpx.ByteStream):
        return "other"
    grant = parse_qs(request.read()).get(b"grant_type")
    return GRANTS.get(grant[0], "other") if grant else "other"


def _result_of(response: httpx.Response, error_code: str | None) -> metrics.UpstreamResult:
    if _says_later(response) or error_code in NO_ANSWERS_ABOUT_A_TOKEN:
        return "later"
    return "refused" if response.is_error else "answered"


class _WatchedBody(httpx.AsyncByteStream):
    """A body that passes through; notes it when the connection fails in the middle."""

    def __init__(self, body: httpx.AsyncByteStream, host: str) -> None:
        self._body = body
        self._host = host

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._body:
                yield part
        except httpx.TransportError as error:
            _note_failure(self._host, error)
            raise

    async def aclose(self) -> None:
        await self._body.aclose()


def _note_failure(host: str, error: httpx.TransportError) -> None:
    if not isinstance(error, OUR_MISTAKES):
        outage.note(f"{host} could not be reached: {type(error).__name__}")


def _says_later(response: httpx.Response) -> bool:
    """Whether a status means "not now" (RFC 6585, section 4, and RFC 9110, section 15.6); GitHub's 403 may, too."""
    status, headers = response.status_code, response.headers
    is_limited = status == 403 and ("retry-after" in headers or headers.get("x-ratelimit-remaining") == "0")
    return status == 429 or status >= 500 or is_limited


async def _error_code(response: httpx.Response) -> str | None:
    """Read the `error` of an OAuth error response (RFC 6749, section 5.2), and leave the body to be read again."""
    if response.status_code not in {400, 401} or "json" not in response.headers.get("content-type", ""):
        return None
    body = cast("httpx.AsyncByteStream", response.stream)
    try:
        raw = b"".join([part async for part in body])
    finally:
        await body.aclose()
    response.stream = httpx.ByteStream(raw)
    try:
        content = httpx.Response(response.status_code, headers=response.headers, content=raw).json()
    except (ValueError, httpx.DecodingError):
        return None
    error_code = content.get("error") if isinstance(content, dict) else None
    return error_code if isinstance(error_code, str) else None
