"""Who calls, with which scopes and which token of the identity provider: the payload learns it unchanged."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from harness import caller_payload
from harness.identity_provider import IdentityProvider
from harness.oauth import OAuthClient, tool_result
from harness.proxy_login import (
    ProxyPerson,
    browser,
    introspecting_proxy_environment,
    oidc_proxy_environment,
    proxy_environment,
    sign_in_directly,
)
from harness.server import Server

ProxySettings = Callable[[IdentityProvider, str], dict[str, str]]


def several_environment(provider: IdentityProvider, base_url: str) -> dict[str, str]:
    """Take sessions of an OIDCProxy and, of programs, the provider's own tokens."""
    jwt_names = {
        name: value
        for name, value in proxy_environment(provider, base_url).items()
        if name.startswith("FASTMCP_SERVER_AUTH_JWTVERIFIER_")
    }
    return {
        **jwt_names,
        **oidc_proxy_environment(provider, base_url),
        "FASTMCP_SERVER_AUTH": "multi",
        "FASTMCP_SERVER_AUTH_MULTI_SERVER": "oidc",
        "FASTMCP_SERVER_AUTH_MULTI_VERIFIERS": "jwt",
    }


@dataclass
class Site:
    """A server and the provider that its users sign in at."""

    provider: IdentityProvider
    server: Server

    def client(self) -> OAuthClient:
        return OAuthClient(browser(self.server.url), person=ProxyPerson("grace", quick=True))

    def claims_of(self, token: str) -> dict[str, Any]:
        """What the provider says of its own token."""
        if self.provider.environment["ACCESS_TOKEN_FORMAT"] == "jwt":
            keys = KeySet.import_key_set(httpx.get(self.provider.jwks_uri).json())
            return dict(jwt.decode(token, keys, algorithms=["RS256"]).claims)
        credentials = (self.provider.client_id, self.provider.client_secret)
        answer = httpx.post(self.provider.introspection_endpoint, data={"token": token}, auth=credentials)
        return dict(answer.json())


@pytest.fixture(
    params=[proxy_environment, introspecting_proxy_environment, several_environment],
    ids=["a JWT", "an opaque token", "of several providers"],
    scope="module",
)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("site")
    opaque = request.param is introspecting_proxy_environment
    provider = IdentityProvider(directory / "identity-provider", opaque_tokens=opaque).start()
    payload = Path(caller_payload.__file__)
    server = Server(directory / "data", directory / "log", HOLDFAST_SERVER=f"{payload}:mcp")
    server.environment |= request.param(provider, server.url)
    yield Site(provider, server.start())
    server.stop()
    provider.stop()


def caller(client: OAuthClient) -> dict[str, Any]:
    """What the payload says of whoever calls it."""
    return tool_result(client.call_tool("caller"))


def check(site: Site, seen: dict[str, Any], account: str) -> None:
    claims = site.claims_of(seen["token"])
    assert claims["sub"] == account
    assert claims["iss"] == site.provider.issuer
    assert seen["claims"].items() >= {name: claims[name] for name in ("sub", "iss", "client_id", "exp")}.items()
    assert seen["scopes"] == claims["scope"].split()
    assert seen["client_id"] == claims["client_id"] == site.provider.client_id
    assert seen["expires_at"] == claims["exp"]


def test_the_payload_learns_what_the_provider_issued(site: Site) -> None:
    client = site.client().sign_in()
    first = caller(client)
    check(site, first, "grace")
    assert first["token"] not in client.tokens.values()


def test_after_a_refresh_it_is_the_new_token(site: Site) -> None:
    client = site.client().sign_in()
    first = caller(client)
    client.refresh().raise_for_status()
    second = caller(client)
    check(site, second, "grace")
    assert second["token"] != first["token"]


def test_two_callers_are_never_mixed_up(site: Site) -> None:
    grace, ada = site.client().sign_in(), site.client()
    ada.person = ProxyPerson("ada", quick=True)
    ada.sign_in()
    for _ in range(2):
        check(site, caller(grace), "grace")
        check(site, caller(ada), "ada")


def test_a_program_brings_a_token_of_its_own(site: Site) -> None:
    client = site.client()
    client.tokens = {"access_token": sign_in_directly(site.provider, "a-program")}
    if site.server.environment["FASTMCP_SERVER_AUTH"] == "multi":
        check(site, caller(client), "a-program")
    else:
        assert client.call().status_code == 401


def test_its_session_is_refreshed_once_and_ended_at_once(site: Site) -> None:
    client = site.client().sign_in()
    spent = client.tokens["refresh_token"]
    assert client.refresh(spent).json() == client.refresh(spent).json()
    assert client.call().status_code == 200
    client.revoke(client.tokens["refresh_token"]).raise_for_status()
    assert client.call().status_code == 401
