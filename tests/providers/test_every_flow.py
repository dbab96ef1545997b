"""Every flow with a real browser and a real provider: one sign-in lasts through kills and expiry, until it is revoked.

The settings are those of the pages in docs/providers, and the server reaches nobody but the vendor.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser

from harness.chromium import Answer, Chromium
from harness.identity_provider import IdentityProvider
from harness.outside import Outside
from harness.patience import patiently
from harness.server import PIN, Server
from harness.vendor import VendorIdentityProvider
from harness.waiting import HANGS_AFTER, eventually
from providers.canaille_process import Canaille
from providers.conftest import OpenSite, Site, caller
from providers.flows import ACCOUNT, AUTH0, COGNITO, ENTRA, GITHUB, GOOGLE, OIDC, REMOTE, Flow
from test_docs import blocks, settings_of

DOCS = Path(__file__).parents[2] / "docs"
LIFETIME = 8
"""Of the identity provider's access tokens, in seconds, so that they can be seen to expire."""

CONSENT = Answer("consent", "button[value=approve]")
# What oidc-provider asks, whichever vendor it is like.
LOG_IN = Answer("log-in", "button:has-text('Sign-in')", {"[name=login]": ACCOUNT, "[name=password]": "any"})
GRANT = Answer("grant", "button:has-text('Continue')")

StartVendor = Callable[[Flow], tuple[VendorIdentityProvider, Site]]


def settings_on(page: str) -> list[dict[str, str]]:
    return [settings_of(example) for example in blocks(DOCS / f"providers/{page}.md", "ini")]


@pytest.fixture
def start_vendor(open_site: OpenSite, server: Server, running: ExitStack, tmp_path: Path) -> StartVendor:
    """Start a vendor's identity provider, and the server with the settings of the vendor's page."""

    def start(flow: Flow) -> tuple[VendorIdentityProvider, Site]:
        settings = settings_on(flow.page)[0]
        client_ids = [value for name, value in settings.items() if name.endswith("_CLIENT_ID")]
        provider = VendorIdentityProvider(
            tmp_path / "provider",
            flow.vendor,
            client_id=client_ids[0] if client_ids else "nobody",
            access_token_lifetime=LIFETIME,
        )
        running.callback(provider.stop)
        provider.start().allow_redirect(f"{server.url}/auth/callback")
        return provider, open_site(settings, provider.outside)

    return start


def known_of(seen: Mapping[str, Any], flow: Flow) -> dict[str, Any]:
    """Of what the payload learned, what the flow tells."""
    return {name: seen["claims"].get(name) for name in flow.claims}


def wait_for_expiry(seen: Mapping[str, Any]) -> None:
    eventually(time.time, lambda now: now > seen["expires_at"])


def assert_reached(outside: Outside, hosts: frozenset[str]) -> None:
    """Nobody else was asked by the server."""
    assert outside.egress.refused == []
    assert outside.egress.reached == hosts


@pytest.mark.parametrize("flow", [ENTRA, GOOGLE, AUTH0, COGNITO, OIDC], ids=lambda flow: flow.page)
def test_a_session_at_a_vendors_is_refreshed_behind_ours(flow: Flow, start_vendor: StartVendor) -> None:
    provider, site = start_vendor(flow)
    client = site.sign_in([CONSENT, LOG_IN, GRANT])
    first = caller(client)
    assert known_of(first, flow) == flow.claims
    assert first["scopes"] == flow.scopes

    site.server.restart()
    wait_for_expiry(first)
    renewed = caller(client)
    assert known_of(renewed, flow) == flow.claims
    client.refresh().raise_for_status()
    client.refresh().raise_for_status()
    newest = caller(client)
    assert len({seen["token"] for seen in (first, renewed, newest)}) == 3
    assert (provider.redemptions(), provider.reuses()) == (1, 0)

    client.revoke(client.tokens["access_token"]).raise_for_status()
    assert client.call().status_code == 401
    assert client.refresh().json()["error"] == "invalid_grant"
    assert provider.revocations() == flow.revocations
    assert_reached(provider.outside, flow.vendor.asked)


def test_a_token_of_github_that_never_expires_is_all_that_its_session_needs(start_vendor: StartVendor) -> None:
    provider, site = start_vendor(GITHUB)
    client = site.sign_in([CONSENT, LOG_IN, GRANT])
    assert "refresh_token" not in client.tokens
    first = caller(client)
    assert known_of(first, GITHUB) == GITHUB.claims
    assert first["scopes"] == GITHUB.scopes

    site.server.restart()
    assert caller(client)["token"] == first["token"]

    client.revoke(client.tokens["access_token"]).raise_for_status()
    assert client.call().status_code == 401
    assert provider.revocations() == GITHUB.revocations
    assert_reached(provider.outside, GITHUB.vendor.asked)


def test_clients_sign_in_at_keycloak_themselves_and_bring_its_tokens(start_vendor: StartVendor) -> None:
    provider, site = start_vendor(REMOTE)
    client = site.sign_in([LOG_IN, GRANT], scope=" ".join(REMOTE.scopes))
    first = caller(client)
    assert known_of(first, REMOTE) == REMOTE.claims
    assert first["scopes"] == REMOTE.scopes
    assert first["token"] == client.tokens["access_token"]

    site.server.restart()
    wait_for_expiry(first)
    assert client.call().status_code == 401
    client.refresh().raise_for_status()
    assert known_of(caller(client), REMOTE) == REMOTE.claims

    client.revoke(client.tokens["refresh_token"]).raise_for_status()
    assert client.refresh().json()["error"] == "invalid_grant"
    assert provider.revocations() == 1
    assert_reached(provider.outside, REMOTE.vendor.asked)


def test_another_openid_provider_may_sign_otherwise_and_name_no_scopes(
    server: Server, open_site: OpenSite, running: ExitStack, tmp_path: Path
) -> None:
    (settings,) = settings_on("oidc")[1:]
    provider = Canaille(
        tmp_path / "canaille",
        settings["FASTMCP_SERVER_AUTH_OIDC_CONFIG_URL"],
        client_id=settings["FASTMCP_SERVER_AUTH_OIDC_CLIENT_ID"],
        client_secret=IdentityProvider.client_secret,
        redirect_uri=f"{server.url}/auth/callback",
        # Its refresh tokens end with its access tokens.
        access_token_lifetime=3600,
    )
    running.callback(provider.stop)
    provider.start()
    site = open_site(settings, provider.outside)
    client = site.sign_in(
        [
            CONSENT,
            Answer("name", "button:has-text('Continue')", {"[name=login]": provider.account}),
            Answer("password", "button:has-text('Sign in')", {"[name=password]": provider.password}),
            Answer("grant", "button[value=accept]"),
        ]
    )
    first = caller(client)
    assert first["claims"]["sub"] == provider.account

    site.server.restart()
    assert caller(client)["token"] == first["token"]
    # Canaille's second token in one second is the first again, which it takes for an error of its own.
    assert patiently(client.refresh).is_success
    assert caller(client)["token"] != first["token"]

    client.revoke(client.tokens["access_token"]).raise_for_status()
    assert client.call().status_code == 401
    assert client.refresh().json()["error"] == "invalid_grant"
    assert_reached(provider.outside, frozenset({provider.outside_host}))


def test_the_owner_signs_in_with_the_pin(server: Server, browser: Browser, tmp_path: Path) -> None:
    with httpx.Client(base_url=server.start().url, timeout=HANGS_AFTER) as http:
        client = Site(server, http, Chromium(browser, tmp_path)).sign_in(
            [Answer("sign-in", "button[value=approve]", {"[name=pin]": PIN})]
        )
        first = caller(client)
        assert first["claims"]["sub"] == "owner"

        server.restart()
        assert caller(client)["claims"] == first["claims"]
        client.refresh().raise_for_status()
        assert caller(client)["token"] != first["token"]

        client.revoke(client.tokens["refresh_token"]).raise_for_status()
        assert client.call().status_code == 401
        assert client.refresh().json()["error"] == "invalid_grant"
