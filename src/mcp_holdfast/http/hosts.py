"""Several public host names, each with an application of its own."""

from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from mcp_holdfast.settings import without_usual_port


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
