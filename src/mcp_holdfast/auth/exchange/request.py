"""A request to exchange an authorization code or a refresh token."""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Receive, Scope

from mcp_holdfast.asgi import replay
from mcp_holdfast.auth.sessions import TokenKind, token_key
from mcp_holdfast.settings import is_text

PARAMETERS: Mapping[str, tuple[str, TokenKind]] = {
    "authorization_code": ("code", "authorization_code"),
    "refresh_token": ("refresh_token", "refresh_token"),
}
AUTHENTICATION_PARAMETERS = frozenset({"client_secret", "client_assertion", "client_assertion_type"})


class MalformedRequest(Exception):
    """Says what is wrong with a request (RFC 6749, section 5.2, invalid_request)."""


@dataclass(frozen=True)
class TokenRequest:
    """A request as the client sent it (RFC 6749, sections 4.1.3 and 6), and what it wants to exchange."""

    scope: Scope
    receive_more: Receive
    body: bytes
    form: Mapping[str, str]
    kind: TokenKind
    credential: str
    arrived_at: float = field(default_factory=time.time)
    """In seconds since the epoch."""

    @property
    def key(self) -> str:
        """The key of the code's or token's record."""
        return token_key(self.kind, self.credential)

    @property
    def fingerprint(self) -> str:
        """Equal for requests that ask for the same thing; how they authenticate is checked each time anew."""
        parameters = sorted((name, value) for name, value in self.form.items() if name not in AUTHENTICATION_PARAMETERS)
        return hashlib.sha256(json.dumps(parameters).encode()).hexdigest()

    def http(self) -> Request:
        """The request, to be read from the beginning."""
        return Request(self.scope, self.receive())

    def receive(self) -> Receive:
        return replay(self.body, self.receive_more)


async def read_token_request(http: Request) -> tuple[bytes, TokenRequest | None]:
    """Read the body, and what it exchanges; None where that is neither a code nor a refresh token.

    Raises:
        MalformedRequest: it is no form, or has a parameter twice (RFC 6749, section 3.2).

    """
    body = await http.body()
    try:
        form = await Request(http.scope, replay(body, http.receive)).form()
    except HTTPException as error:
        raise MalformedRequest(error.detail) from error
    parameters = {name: value for name, value in form.multi_items() if isinstance(value, str)}
    if len(parameters) != len(form.multi_items()):
        raise MalformedRequest("a parameter is repeated or is a file")
    if not all(map(is_text, parameters.values())):
        raise MalformedRequest("a parameter is no text")
    name, kind = PARAMETERS.get(parameters.get("grant_type", ""), ("", None))
    if kind is None or not parameters.get(name):
        return body, None
    return body, TokenRequest(http.scope, http.receive, body, parameters, kind, parameters[name])
