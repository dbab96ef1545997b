"""Who signed in at a server on FastMCP 4 stays signed in; `make promises LINE=fastmcp4` tries all that is promised."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from fastmcp4.conftest import MODERN, ServerOnFastMCP4, call
from harness.identity_provider import IdentityProvider
from harness.oauth import OAuthClient, answer_parameters
from harness.patience import patiently
from harness.proxy_login import ProxyPerson, proxy_environment
from harness.waiting import HANGS_AFTER


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fastmcp4")


@pytest.fixture(scope="module")
def provider(directory: Path) -> Iterator[IdentityProvider]:
    provider = IdentityProvider(directory / "identity-provider").start()
    yield provider
    provider.stop()


@pytest.fixture(scope="module")
def server(directory: Path, provider: IdentityProvider) -> Iterator[ServerOnFastMCP4]:
    """Its people sign in at the identity provider."""
    server = ServerOnFastMCP4(directory / "data", directory / "server.log")
    server.environment |= proxy_environment(provider, server.url)
    yield server.start()
    server.stop()


@pytest.fixture
def client(server: ServerOnFastMCP4) -> Iterator[OAuthClient]:
    with httpx.Client(base_url=server.url, timeout=HANGS_AFTER) as http:
        client = OAuthClient(http, person=ProxyPerson(quick=True))
        client.register().raise_for_status()
        yield client


def test_kill_9_costs_no_sign_in(server: ServerOnFastMCP4, client: OAuthClient) -> None:
    client.redeem(client.code()).raise_for_status()
    server.restart()
    assert client.call_tool("whoami").is_success
    client.refresh().raise_for_status()
    answer = call(server, client, "whoami")
    assert (answer["protocol"], json.loads(answer["text"])["anonymous"]) == (MODERN, False)


def test_a_code_is_redeemed_once_and_a_lost_answer_is_given_again(
    client: OAuthClient, provider: IdentityProvider
) -> None:
    code = client.code()
    client.redeem(code).raise_for_status()
    before = client.tokens["refresh_token"]
    refreshes = provider.refreshes()
    assert client.refresh(before).json() == client.refresh(before).json()
    assert provider.refreshes() == refreshes + 1
    assert client.redeem(code).json()["error"] == "invalid_grant"
    assert client.refresh().status_code == 400


def test_while_the_identity_provider_fails_nobody_is_told_to_sign_in_again(
    client: OAuthClient, provider: IdentityProvider
) -> None:
    client.redeem(client.code()).raise_for_status()
    provider.fail_token_endpoint(503)
    try:
        meanwhile = client.refresh()
    finally:
        provider.heal()
    assert (meanwhile.status_code, "retry-after" in meanwhile.headers) == (503, True)
    assert patiently(client.refresh).is_success


def test_a_revoked_session_is_over_here_and_at_the_identity_provider(
    client: OAuthClient, provider: IdentityProvider
) -> None:
    client.redeem(client.code()).raise_for_status()
    revocations = provider.revocations()
    assert client.revoke(client.tokens["refresh_token"]).is_success
    assert (client.call().status_code, client.refresh().status_code) == (401, 400)
    assert provider.revocations() == revocations + 1


def test_the_issuer_is_named_once_and_as_its_metadata_has_it(server: ServerOnFastMCP4, client: OAuthClient) -> None:
    assert client.person is not None
    location = client.person.approve(client.authorize().headers["location"])
    assert location.headers["location"].count("iss=") == 1
    metadata = client.http.get("/.well-known/oauth-authorization-server").json()
    assert answer_parameters(location)["iss"] == metadata["issuer"] == server.url
    assert {"none", "client_secret_basic"} <= {*metadata["token_endpoint_auth_methods_supported"]}
