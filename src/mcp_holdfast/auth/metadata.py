"""What clients read before they sign in: who issues tokens, and where (RFC 8414 and RFC 9728)."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from fastmcp.server.auth.auth import OAuthProvider
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send

from mcp_holdfast.asgi import HeldAnswer, path_of
from mcp_holdfast.auth.cimd.documents import PRIVATE_KEY_JWT, ClientDocuments
from mcp_holdfast.auth.scopes import advertised_scopes

AUTHORIZATION_SERVER = "/.well-known/oauth-authorization-server"
PROTECTED_RESOURCE = "/.well-known/oauth-protected-resource"
Document = dict[str, Any]

METHODS = ("client_secret_post", "client_secret_basic", "none")
"""How clients may authenticate that have no document; a proxy of FastMCP 4 tells of those alone that it registered."""

ASSERTION_ALGORITHMS = ["RS256"]
"""What FastMCP verifies the assertions of clients with whose client_id is a URL."""


def issuer_of(provider: OAuthProvider) -> str:
    """The identifier of the issuer, in the same letters wherever it is named (RFC 8414, section 3.3).

    FastMCP's has a slash at the end where the URL has no path, which no client that builds URLs of it expects
    (https://github.com/modelcontextprotocol/python-sdk/issues/1919).
    """
    return str(provider.issuer_url).rstrip("/")


class Metadata:
    """Wraps an application that serves its login's metadata, and makes that agree with itself and with what we do.

    That of an issuer whose URL has a path is where clients look for it (RFC 8414, section 3.1) and where it is left by
    a reverse proxy that takes the path away.
    """

    def __init__(self, app: ASGIApp, *, provider: OAuthProvider, documents: ClientDocuments | None) -> None:
        """`documents` are those of clients that have one, None where no client may."""
        self._app = app
        self._provider = provider
        self._documents = documents
        self._issuer = issuer_of(provider)
        self._servers = {AUTHORIZATION_SERVER, f"{AUTHORIZATION_SERVER}{urlsplit(self._issuer).path}"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = path_of(scope) if scope["type"] == "http" and scope["method"] == "GET" else ""
        if path in self._servers:
            served = {**scope, "path": AUTHORIZATION_SERVER, "raw_path": AUTHORIZATION_SERVER.encode()}
            await self._answer(served, receive, send, self._of_server)
        elif path.startswith(PROTECTED_RESOURCE):
            await self._answer(scope, receive, send, self._of_resource)
        else:
            await self._app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, complete: Callable[[Document], None]) -> None:
        answer = HeldAnswer()
        await self._app(scope, receive, answer.send)
        if answer.status == 200:
            document = json.loads(answer.body)
            complete(document)
            answer.body = json.dumps(document).encode()
            MutableHeaders(raw=answer.headers)["content-length"] = str(len(answer.body))
        await answer.response()(scope, receive, send)

    def _of_server(self, document: Document) -> None:
        document["issuer"] = self._issuer
        document["authorization_response_iss_parameter_supported"] = True
        if scopes := advertised_scopes(self._provider):
            document["scopes_supported"] = scopes
        takes_documents = self._documents is not None and self._documents.can_fetch
        document["client_id_metadata_document_supported"] = takes_documents
        for endpoint in ("token", "revocation"):
            methods = dict.fromkeys(
                [*METHODS, *document[f"{endpoint}_endpoint_auth_methods_supported"], PRIVATE_KEY_JWT]
            )
            if takes_documents:
                document[f"{endpoint}_endpoint_auth_signing_alg_values_supported"] = ASSERTION_ALGORITHMS
            else:
                # Only clients with documents have keys.
                del methods[PRIVATE_KEY_JWT]
            document[f"{endpoint}_endpoint_auth_methods_supported"] = list(methods)

    def _of_resource(self, document: Document) -> None:
        document["authorization_servers"] = [self._issuer]
