"""A request to exchange an authorization code or a refresh token."""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.types import Receive, Scope

from mcp_holdfast.asgi import replay
from mcp_holdfast.auth.forms import Form, MalformedRequest
from mcp_holdfast.auth.sessions import token_key
from mcp_holdfast.metrics import Grant

PARAMETERS: Mapping[str, tuple[str, Grant]] = {
    "authorization_code": ("code", "authorization_code"),
    "refresh_token": ("refresh_token", "refresh_token"),
}
AUTHENTICATION_PARAMETERS = frozenset({"client_secret", "client_assertion", "client_assertion_type"})


@dataclass(frozen=True)
class TokenRequest:
    """A request as the client sent it (RFC 6749, sections 4.1.3 and 6), and what it wants to exchange."""

    scope: Scope
    receive_more: Receive
    body: bytes
    form: Mapping[str, str]
    resources: Sequence[str]
    kind: Grant
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


def token_request(http: Request, form: Form) -> TokenRequest:
    """What a form of the token endpoint exchanges.

    Raises:
        MalformedRequest: neither a code nor a refresh token (RFC 6749, section 5.2).

    """
    grant_type = form.required("grant_type")
    if grant_type not in PARAMETERS:
        raise MalformedRequest(f"grant_type is neither {' nor '.join(PARAMETERS)}", error="unsupported_grant_type")
    name, kind = PARAMETERS[grant_type]
    credential = form.required(name)
    return TokenRequest(http.scope, http.receive, form.body, form.parameters, form.resources, kind, credential)
