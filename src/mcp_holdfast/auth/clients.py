"""Authenticate clients as the provider's own endpoints do, and answer them in OAuth's words."""

from fastmcp.server.auth.auth import OAuthProvider, PrivateKeyJWTClientAuthenticator
from fastmcp.server.auth.oauth_proxy import OAuthProxy
from mcp.server.auth.middleware.client_auth import ClientAuthenticator
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
UNAUTHENTICATED = "invalid_client"


def authenticator_of(provider: OAuthProvider) -> ClientAuthenticator:
    """What the provider's own token endpoint authenticates clients with."""
    if not isinstance(provider, OAuthProxy) or provider._cimd_manager is None:
        return ClientAuthenticator(provider)
    return PrivateKeyJWTClientAuthenticator(provider, provider._cimd_manager, provider.token_endpoint_url)


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
