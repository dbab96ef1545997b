"""Our access tokens may outlive the identity provider's, which are refreshed behind them, and ahead of their end."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp.client.auth import OAuthClientProvider, TokenStorage
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken
from pydantic import AnyUrl

from harness.identity_provider import IdentityProvider
from harness.oauth import REDIRECT_URI, OAuthClient, answer_parameters
from harness.proxy_login import ProxyPerson, browser, oidc_proxy_environment
from harness.server import Server
from harness.waiting import HANGS_AFTER, eventually

UPSTREAM_LIFETIME = 5


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentityProvider]:
    directory = tmp_path_factory.mktemp("identity-provider")
    provider = IdentityProvider(directory, access_token_lifetime=UPSTREAM_LIFETIME).start()
    yield provider
    provider.stop()


def servers(provider: IdentityProvider, home: Path, **environment: str) -> Iterator[Server]:
    server = Server(home / "data", home / "log", **environment)
    server.environment |= oidc_proxy_environment(provider, server.url)
    yield server.start()
    server.stop()


@pytest.fixture(scope="module")
def server(provider: IdentityProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    lifetimes = {"HOLDFAST_ACCESS_TOKEN_LIFETIME": "12h", "HOLDFAST_REFRESH_AHEAD": "0"}
    yield from servers(provider, tmp_path_factory.mktemp("lasting"), **lifetimes, HOLDFAST_TOKEN_CACHE="0")


@pytest.fixture(scope="module")
def ahead(provider: IdentityProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    lifetimes = {"HOLDFAST_REFRESH_AHEAD": "1m"}
    yield from servers(provider, tmp_path_factory.mktemp("ahead"), **lifetimes, HOLDFAST_TOKEN_CACHE="0")


def client_of(server: Server) -> OAuthClient:
    return OAuthClient(browser(server.url), person=ProxyPerson(quick=True))


def wait_until_expired_upstream() -> None:
    expired_at = time.time() + UPSTREAM_LIFETIME + 1
    eventually(time.time, lambda now: now > expired_at)


class Browser:
    """Follows the Python SDK's client to the sign-in pages, and counts how often it was sent there."""

    def __init__(self) -> None:
        self.opened = 0
        self._answer: dict[str, str] = {}

    async def open(self, page: str) -> None:
        self.opened += 1
        self._answer = await asyncio.to_thread(self._sign_in, page)

    def _sign_in(self, page: str) -> dict[str, str]:
        first = httpx.get(page)
        return answer_parameters(ProxyPerson(quick=True).approve(first.headers["location"]))

    async def come_back(self) -> tuple[str, str | None]:
        return self._answer["code"], self._answer["state"]


class Kept(TokenStorage):
    """What the client keeps on its disk."""

    def __init__(self) -> None:
        self.tokens: OAuthToken | None = None
        self.client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


async def call_with_the_python_sdk(server: Server, kept: Kept, browser: Browser) -> int:
    """Start the client anew with what it kept, and send the first request of an MCP session."""
    metadata = OAuthClientMetadata(client_name="Python SDK", redirect_uris=[AnyUrl(REDIRECT_URI)])
    auth = OAuthClientProvider(f"{server.url}/mcp", metadata, kept, browser.open, browser.come_back)
    message: dict[str, Any] = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}},
    }
    async with httpx.AsyncClient(auth=auth, timeout=HANGS_AFTER) as http:
        headers = {"Accept": "application/json, text/event-stream"}
        return (await http.post(f"{server.url}/mcp", json=message, headers=headers)).status_code


async def test_a_client_that_never_refreshes_stays_signed_in(provider: IdentityProvider, server: Server) -> None:
    client = client_of(server).sign_in()
    kept, browser = Kept(), Browser()
    assert await call_with_the_python_sdk(server, kept, browser) == 200
    assert client.tokens["expires_in"] == 12 * 3600
    refreshed = provider.refreshes()
    wait_until_expired_upstream()
    assert client.call().status_code == 200
    assert provider.refreshes() - refreshed == 1
    # It forgets when its token expires, and would sign in again after a 401.
    assert await call_with_the_python_sdk(server, kept, browser) == 200
    assert browser.opened == 1


def test_a_session_that_ended_upstream_does_not_live_on(provider: IdentityProvider, server: Server) -> None:
    client = client_of(server).sign_in()
    provider.revoke_all()
    wait_until_expired_upstream()
    assert client.call().status_code == 401


def test_without_the_setting_it_lives_as_long_as_upstream(ahead: Server) -> None:
    assert client_of(ahead).sign_in().tokens["expires_in"] == UPSTREAM_LIFETIME


def test_a_token_is_refreshed_ahead_of_its_end(provider: IdentityProvider, ahead: Server) -> None:
    client = client_of(ahead).sign_in()
    refreshed = provider.refreshes()
    assert client.call().status_code == 200
    assert provider.refreshes() - refreshed == 1


def test_a_refresh_ahead_that_fails_costs_nothing(provider: IdentityProvider, ahead: Server) -> None:
    client = client_of(ahead).sign_in()
    provider.fail_token_endpoint(503)
    call = client.call()
    provider.heal()
    assert call.status_code == 200
