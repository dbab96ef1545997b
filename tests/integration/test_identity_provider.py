"""Sign in at a real OpenID provider, through both of FastMCP's proxies, with Holdfast and with stock FastMCP."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from harness.identity_provider import IdentityProvider
from harness.oauth import REDIRECT_URI, OAuthClient
from harness.proxy_login import ProxyPerson, oidc_proxy_environment, proxy_environment
from harness.server import Server
from harness.stock import StockServer
from harness.waiting import HANGS_AFTER

ProxySettings = Callable[[IdentityProvider, str], dict[str, str]]


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentityProvider]:
    provider = IdentityProvider(tmp_path_factory.mktemp("identity-provider")).start()
    yield provider
    provider.stop()


@pytest.fixture(params=[proxy_environment, oidc_proxy_environment], ids=["OAuthProxy", "OIDCProxy"])
def settings(request: pytest.FixtureRequest) -> ProxySettings:
    chosen: ProxySettings = request.param
    return chosen


@pytest.fixture(params=[Server, StockServer], ids=["holdfast", "stock"])
def server(
    request: pytest.FixtureRequest, provider: IdentityProvider, settings: ProxySettings, tmp_path: Path
) -> Iterator[Server | StockServer]:
    server: Server | StockServer = request.param(tmp_path / "data", tmp_path / "server.log")
    server.environment |= settings(provider, server.url)
    yield server.start()
    server.stop()


@pytest.fixture
def client(server: Server | StockServer) -> Iterator[OAuthClient]:
    with httpx.Client(base_url=server.url, timeout=HANGS_AFTER) as http:
        yield OAuthClient(http, person=ProxyPerson("ada"))


def test_goes_on_after_kill_9(server: Server | StockServer, client: OAuthClient, provider: IdentityProvider) -> None:
    redemptions, refreshes, reuses = provider.redemptions(), provider.refreshes(), provider.reuses()
    assert '"subject":"ada"' in client.sign_in().call_tool("whoami").text
    assert client.refresh().status_code == 200
    server.restart()
    assert client.call_tool("whoami").is_success
    assert client.refresh().status_code == 200
    assert client.call_tool("whoami").is_success
    assert provider.redemptions() - redemptions == 1
    assert provider.refreshes() - refreshes == 2
    assert provider.reuses() == reuses


def test_the_provider_fails_when_told_to_and_revokes_what_is_used_twice(provider: IdentityProvider) -> None:
    provider.allow_redirect(REDIRECT_URI)
    reuses = provider.reuses()
    with httpx.Client(base_url=provider.url, auth=(provider.client_id, provider.client_secret)) as http:
        client = OAuthClient(http, provider.client_id)
        page = client.authorize(scope="openid offline_access", prompt="consent").url
        callback = ProxyPerson(quick=True).sign_in(str(page))
        first = client.redeem(httpx.URL(callback).params["code"]).json()["refresh_token"]
        provider.fail_token_endpoint(503)
        assert client.refresh(first).status_code == 503
        provider.restart()
        second = client.refresh(first).json()["refresh_token"]
        assert client.refresh(first).json()["error"] == "invalid_grant"
        assert client.refresh(second).json()["error"] == "invalid_grant"
    assert provider.reuses() - reuses == 1


def test_redeeming_a_code_refreshes_nothing(provider: IdentityProvider, tmp_path: Path) -> None:
    """A redemption that is not recorded is done again, from what the code says: it must still be good upstream."""
    environment = {"FASTMCP_SERVER_AUTH_OAUTHPROXY_TOKEN_EXPIRY_THRESHOLD_SECONDS": "7200"}
    server = Server(tmp_path / "data", tmp_path / "log", **environment)
    server.environment |= proxy_environment(provider, server.url)
    server.start()
    try:
        with httpx.Client(base_url=server.url, timeout=HANGS_AFTER) as http:
            before = provider.refreshes()
            client = OAuthClient(http, person=ProxyPerson(quick=True))
            client.register().raise_for_status()
            client.redeem(client.code()).raise_for_status()
            assert provider.refreshes() == before
            http.get("/auth/callback", params={"error": "access_denied", "state": "of nobody"})
            told = re.findall(r'"event": "(\w+)".*?(?:"subject": "(\w+)"|$)', server.output(), flags=re.MULTILINE)
            assert told == [
                ("registered", ""),
                ("authorization_asked", ""),
                ("signed_in", ""),
                ("code_redeemed", "ada"),
                ("authorization_refused", ""),
            ]
            assert client.call().status_code == 200
            assert provider.refreshes() == before + 1
    finally:
        server.stop()
