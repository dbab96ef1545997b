"""Our public host names: several of them with an application each, and none but them."""

import ipaddress
import logging
import re
from collections.abc import Collection, Mapping

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from mcp_holdfast.http.outage import HEALTH_PATHS
from mcp_holdfast.settings import is_loopback, without_usual_port

log = logging.getLogger(__name__)

AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[^\s\[\]:@/?#]+)(:\d*)?")
LONGEST_LOGGED = 200
NOT_ONE_HOST = "a request has one Host header, with a host and maybe a port (RFC 9112, section 3.2)"
ANOTHER_HOST = (
    "the Host header names no host of this server. Who runs it: let the proxy pass on the Host that clients send, and "
    "name it in HOLDFAST_BASE_URL, or in HOLDFAST_ALLOWED_HOSTS where it is only another name of the first one"
)


class KnownHosts:
    """Answers 421 to what is asked of another host than ours; whoever looks after the server's health may.

    A website can point its own name at this server, and browsers then take us for that website (DNS rebinding).
    Nobody can do so with an address or a name of loopback; these are let through.

    What is asked of a host whose public URL is https counts as asked by https, whatever the proxy in front says: a link
    that is made of the request, as Starlette's redirects are, must not lead from there to http.
    """

    def __init__(self, app: ASGIApp, *, hosts: Collection[str], https: Collection[str]) -> None:
        """`hosts` are names in lower case, without ports: a port protects nobody. `https` are with theirs."""
        self._app = app
        self._hosts = frozenset(hosts)
        self._https = frozenset(https)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in HEALTH_PATHS:
            await self._app(scope, receive, send)
            return
        given = [value for name, value in scope["headers"] if name == b"host"]
        host = host_of(given[0].decode("latin-1")) if len(given) == 1 else None
        if host is None:
            await _refusal(400, "invalid_host", NOT_ONE_HOST)(scope, receive, send)
        elif host in self._hosts or is_loopback(host) or _is_address(host):
            is_https = without_usual_port(given[0].decode("latin-1")) in self._https
            await self._app({**scope, "scheme": "https"} if is_https else scope, receive, send)
        else:
            log.info("refused a request for a host that is not ours", extra={"host": host[:LONGEST_LOGGED]})
            await _refusal(421, "unknown_host", ANOTHER_HOST)(scope, receive, send)


class OtherHosts:
    """Hands on what is asked of another host of ours to that one's application; all else passes through.

    Hosts are as in the request, never as in X-Forwarded-Host, which anyone can send.
    """

    def __init__(self, app: ASGIApp, *, apps: Mapping[str, ASGIApp]) -> None:
        """`apps` are by host, with its port where that is not the usual one."""
        self._app = app
        self._apps = apps

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] == "http":
            app = self._apps.get(without_usual_port(Headers(scope=scope).get("host", "")), app)
        await app(scope, receive, send)


def host_of(authority: str) -> str | None:
    """The name or address in a Host header, in lower case; None where it is malformed."""
    found = AUTHORITY.fullmatch(authority.lower())
    return found[1].strip("[]").removesuffix(".") if found else None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _refusal(status: int, error: str, description: str) -> JSONResponse:
    return JSONResponse({"error": error, "error_description": description}, status)
