"""What a client of an MCP server finds out about where to sign in (RFC 9728 and RFC 8414)."""

import re

import httpx

from harness.oauth import Endpoints


def discover(http: httpx.Client) -> Endpoints:
    """Ask the server without a token, then whoever it names."""
    challenge = http.post("/mcp").headers["WWW-Authenticate"]
    (resource_metadata,) = re.findall('resource_metadata="([^"]+)"', challenge)
    (issuer,) = http.get(resource_metadata).raise_for_status().json()["authorization_servers"]
    metadata = _metadata_of(http, httpx.URL(issuer))
    return Endpoints(
        registration=metadata["registration_endpoint"],
        authorization=metadata["authorization_endpoint"],
        token=metadata["token_endpoint"],
        revocation=metadata["revocation_endpoint"],
    )


def _metadata_of(http: httpx.Client, issuer: httpx.URL) -> dict[str, str]:
    path = issuer.path.rstrip("/")
    of_oauth = http.get(issuer.copy_with(path=f"/.well-known/oauth-authorization-server{path}"))
    if of_oauth.is_success:
        return dict(of_oauth.json())
    return dict(http.get(issuer.copy_with(path=f"{path}/.well-known/openid-configuration")).raise_for_status().json())
