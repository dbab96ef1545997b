"""Sign in at an identity provider through FastMCP's proxies: their settings, and the person who walks the pages."""

import json
import ssl
from dataclasses import dataclass, field

import httpx

from harness.identity_provider import IdentityProvider
from harness.oauth import REDIRECT_URI, OAuthClient, hidden_fields
from harness.waiting import HANGS_AFTER

OAUTH_PROXY = "fastmcp.server.auth.oauth_proxy.OAuthProxy"
OIDC_PROXY = "fastmcp.server.auth.oidc_proxy.OIDCProxy"

# The provider grants offline_access, and so a refresh token, only where the person is asked for consent.
SCOPES = json.dumps(["openid", "offline_access"])
AUTHORIZE_PARAMETERS = json.dumps({"prompt": "consent"})


def proxy_environment(provider: IdentityProvider, base_url: str) -> dict[str, str]:
    """Register a server at `provider`, which must be running, and return the settings of its OAuthProxy."""
    prefix = _register(provider, base_url, OAUTH_PROXY)
    return {
        "FASTMCP_SERVER_AUTH": OAUTH_PROXY,
        "HOLDFAST_BASE_URL": base_url,
        f"{prefix}UPSTREAM_AUTHORIZATION_ENDPOINT": provider.authorization_endpoint,
        f"{prefix}UPSTREAM_TOKEN_ENDPOINT": provider.token_endpoint,
        f"{prefix}UPSTREAM_REVOCATION_ENDPOINT": provider.revocation_endpoint,
        f"{prefix}UPSTREAM_CLIENT_ID": provider.client_id,
        f"{prefix}UPSTREAM_CLIENT_SECRET": provider.client_secret,
        f"{prefix}VALID_SCOPES": SCOPES,
        f"{prefix}EXTRA_AUTHORIZE_PARAMS": AUTHORIZE_PARAMETERS,
        "FASTMCP_SERVER_AUTH_JWTVERIFIER_JWKS_URI": provider.jwks_uri,
        "FASTMCP_SERVER_AUTH_JWTVERIFIER_ISSUER": provider.issuer,
        "FASTMCP_SERVER_AUTH_JWTVERIFIER_REQUIRED_SCOPES": SCOPES,
    }


def introspecting_proxy_environment(provider: IdentityProvider, base_url: str) -> dict[str, str]:
    """Register a server at `provider`, which issues opaque tokens, and ask it about each of them."""
    jwt, introspection = "FASTMCP_SERVER_AUTH_JWTVERIFIER_", "FASTMCP_SERVER_AUTH_INTROSPECTION_"
    settings = proxy_environment(provider, base_url)
    return {name: value for name, value in settings.items() if not name.startswith(jwt)} | {
        f"{introspection}INTROSPECTION_URL": provider.introspection_endpoint,
        f"{introspection}CLIENT_ID": provider.client_id,
        f"{introspection}CLIENT_SECRET": provider.client_secret,
        f"{introspection}REQUIRED_SCOPES": SCOPES,
    }


def oidc_proxy_environment(provider: IdentityProvider, base_url: str) -> dict[str, str]:
    """Register a server at `provider`, which must be running, and return the settings of its OIDCProxy."""
    prefix = _register(provider, base_url, OIDC_PROXY)
    return {
        "FASTMCP_SERVER_AUTH": OIDC_PROXY,
        "HOLDFAST_BASE_URL": base_url,
        f"{prefix}CONFIG_URL": provider.configuration_url,
        f"{prefix}CLIENT_ID": provider.client_id,
        f"{prefix}CLIENT_SECRET": provider.client_secret,
        f"{prefix}REQUIRED_SCOPES": SCOPES,
        f"{prefix}EXTRA_AUTHORIZE_PARAMS": AUTHORIZE_PARAMETERS,
    }


def _register(provider: IdentityProvider, base_url: str, proxy: str) -> str:
    provider.allow_redirect(f"{base_url}/auth/callback")
    return f"FASTMCP_SERVER_AUTH_{proxy.rpartition('.')[2].upper()}_"


def sign_in_directly(provider: IdentityProvider, account: str = "ada") -> str:
    """Sign in as a client that needs no proxy; returns the access token that the provider issued."""
    provider.allow_redirect(REDIRECT_URI)
    with httpx.Client(base_url=provider.url, auth=(provider.client_id, provider.client_secret)) as http:
        client = OAuthClient(http, provider.client_id)
        page = client.authorize(scope="openid offline_access", prompt="consent").url
        callback = ProxyPerson(account, quick=True).sign_in(str(page))
        return str(client.redeem(httpx.URL(callback).params["code"]).json()["access_token"])


def browser(base_url: str = "") -> httpx.Client:
    """Return a client with cookies of its own that keeps no connection open, so that nobody needs to close it.

    It speaks plain HTTP only: loading the usual certificates takes longer than a sign-in.
    """
    return httpx.Client(
        base_url=base_url,
        timeout=HANGS_AFTER,
        verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        limits=httpx.Limits(max_keepalive_connections=0),
    )


@dataclass
class ProxyPerson:
    """Signs in with a browser, as `account`. Each step can be repeated; `approve` takes them all.

    One who is `quick` skips the pages of the identity provider, for tests with many sign-ins.
    """

    account: str = "ada"
    quick: bool = False
    http: httpx.Client = field(default_factory=browser)

    def approve(self, page: str) -> httpx.Response:
        """Take all steps from where /authorize redirects to; returns the redirect back to the client."""
        allowed = self.allow(self.open(page))
        assert allowed.is_redirect, allowed.text
        return self.bring_back(self.sign_in(allowed.headers["location"]))

    def open(self, page: str) -> httpx.Response:
        """Look at the server's own consent page."""
        return self.http.get(page)

    def allow(self, opened: httpx.Response) -> httpx.Response:
        """Agree on the opened consent page; returns the redirect to the identity provider."""
        opened.raise_for_status()
        return self.http.post(opened.url, data={**hidden_fields(opened.text), "action": "approve"})

    def sign_in(self, location: str) -> str:
        """Log in and consent at the identity provider; returns the URL that it sends the browser back to."""
        provider = str(httpx.URL(location).copy_with(raw_path=b"/"))
        while location.startswith(provider):
            response = self._answer(location)
            assert response.is_redirect, response.text
            location = str(response.url.join(response.headers["location"]))
        return location

    def bring_back(self, callback: str) -> httpx.Response:
        """Follow the identity provider's redirect to the server; returns the server's own to the client."""
        return self.http.get(callback)

    def _answer(self, location: str) -> httpx.Response:
        """Follow a redirect at the identity provider, and answer the page that it leads to, if any."""
        if self.quick and "/interaction/" in location:
            return self.http.post(f"{location}/approve", params={"account": self.account})
        response = self.http.get(location)
        if response.is_redirect:
            return response
        response.raise_for_status()
        form = {**hidden_fields(response.text), "login": self.account, "password": "any"}
        return self.http.post(response.url, data=form)
