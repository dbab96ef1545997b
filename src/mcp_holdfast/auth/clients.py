"""Clients: which redirect URIs they mean, how they authenticate, and how they are answered in OAuth's words."""

from fastmcp.server.auth.auth import OAuthProvider
from fastmcp.server.auth.cimd import CIMDClientManager
from mcp.server.auth.middleware.client_auth import ClientAuthenticator
from mcp.shared.auth import InvalidRedirectUriError, OAuthClientInformationFull
from pydantic import AnyUrl
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mcp_holdfast.asgi import TOKEN
from mcp_holdfast.auth.cimd.assertions import AssertingAuthenticator
from mcp_holdfast.settings import is_loopback

NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
UNAUTHENTICATED = "invalid_client"


def manager_of(provider: OAuthProvider) -> CIMDClientManager | None:
    """What knows the clients that have documents: OAuthProxy's own, or what another provider was given (cimd)."""
    manager: CIMDClientManager | None = getattr(provider, "_cimd_manager", None)
    return manager


class NativeClient(OAuthClientInformationFull):
    """A client that may wait for its code on any port of its own machine, chosen anew (RFC 8252, section 7.3)."""

    def validate_redirect_uri(self, redirect_uri: AnyUrl | None) -> AnyUrl:
        try:
            return super().validate_redirect_uri(redirect_uri)
        except InvalidRedirectUriError:
            if redirect_uri is not None and any(_same_loopback(redirect_uri, uri) for uri in self.redirect_uris or []):
                return redirect_uri
            raise


def _same_loopback(one: AnyUrl, other: AnyUrl) -> bool:
    def but_port(uri: AnyUrl) -> tuple[str | None, ...]:
        return uri.scheme, uri.username, uri.password, uri.host, uri.path, uri.query, uri.fragment

    host = (one.host or "").strip("[]")
    return one.scheme == "http" and is_loopback(host) and but_port(one) == but_port(other)


def authenticator_of(provider: OAuthProvider) -> ClientAuthenticator:
    """What the provider's own token endpoint authenticates clients with."""
    manager = manager_of(provider)
    if manager is None:
        return ClientAuthenticator(provider)
    return AssertingAuthenticator(provider, manager, f"{str(provider.base_url).rstrip('/')}{TOKEN}")


def error_response(error: str, description: str) -> Response:
    """Build an error of the token endpoint (RFC 6749, section 5.2)."""
    status = 401 if error == UNAUTHENTICATED else 400
    return JSONResponse({"error": error, "error_description": description}, status, NO_STORE)


def challenged(response: Response, http: Request) -> Response:
    """Tell a client how to authenticate if it tried to by an Authorization header (RFC 6749, section 5.2).

    No other gets that: a browser would ask its user for a password.
    """
    if response.status_code == 401 and "authorization" in http.headers:
        response.headers["WWW-Authenticate"] = 'Basic realm="OAuth clients"'
    return response
