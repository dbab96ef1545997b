"""What the layers in front of FastMCP's routes share: which request is which, to read one twice, to hold an answer."""

from starlette.responses import Response
from starlette.types import Message, Receive, Scope

AUTHORIZATION = "/authorize"
CONSENT = "/consent"
REGISTRATION = "/register"
REVOCATION = "/revoke"
SIGNIN = "/signin"
TOKEN = "/token"  # noqa: S105  # a path, no secret
OAUTH_PATHS = frozenset({AUTHORIZATION, CONSENT, REGISTRATION, REVOCATION, SIGNIN, TOKEN})

REFUSED = "mcp_holdfast.refused"
"""The key in a request's scope of the page that tells a person why they are refused, where that was found out."""


def path_of(scope: Scope) -> str:
    """The path that Starlette will match: the patterns of its routes pass over a line break at the end."""
    path: str = scope["path"]
    return path.removesuffix("\n").rstrip("/")


def address_of(scope: Scope) -> str:
    """Where a request comes from, as far as the proxies that are trusted tell."""
    client = scope.get("client")
    return client[0] if client else ""


def is_post(scope: Scope, path: str) -> bool:
    return scope["type"] == "http" and scope["method"] == "POST" and path_of(scope) == path


def replay(body: bytes, receive: Receive) -> Receive:
    """Give a body that was read already once more, then what else the client sends."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    return replayed


class HeldAnswer:
    """Collects what an application sends, as long as nobody may see it."""

    def __init__(self) -> None:
        self.began = False
        self.status = 500
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.began = True
            self.status, self.headers = message["status"], list(message.get("headers", []))
        elif message["type"] == "http.response.body":
            self.body += message.get("body", b"")

    def response(self) -> Response:
        return response_of(self.status, self.headers, self.body)


def response_of(status: int, headers: list[tuple[bytes, bytes]], body: bytes | str) -> Response:
    """Build a response with exactly these headers."""
    response = Response(body, status)
    response.raw_headers = headers
    return response
