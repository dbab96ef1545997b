"""Several public host names over one store: each is an issuer and a resource of its own, whoever signs people in."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastmcp import Client
from fastmcp.client.auth import OAuth
from key_value.aio.stores.disk import DiskStore

from harness.identity_provider import IdentityProvider
from harness.oauth import REDIRECT_URI, Approves, OAuthClient, Person, answer_parameters
from harness.proxy_login import ProxyPerson, oidc_proxy_environment
from harness.server import Server
from harness.waiting import HANGS_AFTER
from integration.test_cli import holdfast, listed
from mcp_holdfast.auth.argon2 import hashed

SECRET = "the secret of a connector"
NAMES = ("localhost", "127.0.0.1", "127.0.0.2")
"""Three names of this machine that need no resolver."""


@dataclass
class Host:
    """One public URL of a server, and who signs in there."""

    url: str
    http: httpx.Client
    with_provider: bool

    @property
    def resource(self) -> str:
        return f"{self.url}/mcp"

    def person(self) -> Approves:
        return ProxyPerson(quick=True) if self.with_provider else Person(self.http)

    def client(self, **known: Any) -> OAuthClient:
        return OAuthClient(self.http, person=self.person(), **known)

    def signed_in(self) -> OAuthClient:
        client = self.client()
        # Clients that ask for the same are given the same registration.
        client.register(client_name=f"For {self.url}").raise_for_status()
        client.redeem(client.code()).raise_for_status()
        return client

    def get(self, path: str) -> Any:
        return self.http.get(path).raise_for_status().json()


@dataclass
class Site:
    server: Server
    one: Host
    two: Host
    unlisted: Host


@pytest.fixture(scope="module", params=["built-in login", "identity provider"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("server")
    server = Server(directory / "data", directory / "server.log")
    urls = [f"http://{name}:{server.port}" for name in NAMES]
    provider = None
    if request.param == "identity provider":
        provider = IdentityProvider(directory / "provider").start()
        server.environment |= oidc_proxy_environment(provider, urls[0])
        provider.allow_redirect(f"{urls[1]}/auth/callback")
    connector = {"client_secret_hash": hashed(SECRET), "redirect_uris": [REDIRECT_URI]}
    server.environment["HOLDFAST_CLIENTS"] = json.dumps({"connector": connector})
    server.environment["HOLDFAST_BASE_URL"] = f"{urls[0]}, {urls[1]}"
    server.start()
    connections = [httpx.Client(base_url=url, timeout=HANGS_AFTER) for url in urls]
    yield Site(server, *(Host(url, http, bool(provider)) for url, http in zip(urls, connections, strict=True)))
    for http in connections:
        http.close()
    server.stop()
    if provider:
        provider.stop()


@pytest.fixture(params=["one", "two"])
def host(site: Site, request: pytest.FixtureRequest) -> Host:
    found: Host = getattr(site, request.param)
    return found


@pytest.fixture
def other(site: Site, host: Host) -> Host:
    return site.two if host is site.one else site.one


def error_of(answer: httpx.Response) -> str:
    error: str = answer.json()["error"]
    return error


def test_everything_that_a_client_reads_names_the_host_that_was_asked(host: Host, other: Host) -> None:
    server = host.get("/.well-known/oauth-authorization-server")
    assert server["issuer"] == host.url
    assert other.url not in str(server)
    resource = host.get("/.well-known/oauth-protected-resource/mcp")
    assert (resource["resource"], resource["authorization_servers"]) == (host.resource, [host.url])
    challenge = host.http.post("/mcp", json={}).headers["www-authenticate"]
    assert f'resource_metadata="{host.url}/.well-known/oauth-protected-resource/mcp"' in challenge


def test_a_sign_in_stays_on_its_host(host: Host) -> None:
    client = host.client()
    client.register().raise_for_status()
    page = client.authorize(resource=host.resource).headers["location"]
    assert page.startswith(f"{host.url}/")
    answer = answer_parameters(host.person().approve(page))
    assert answer["iss"] == host.url
    client.redeem(answer["code"], resource=host.resource).raise_for_status()
    assert client.call().status_code == 200


def test_the_other_host_is_another_resource(host: Host, other: Host) -> None:
    client = host.client()
    client.register().raise_for_status()
    assert "error=invalid_target" in client.authorize(resource=other.resource).headers["location"]
    assert error_of(client.redeem("any", resource=other.resource)) == "invalid_target"


def test_what_one_host_issued_is_worth_nothing_at_the_other_and_stays_good(host: Host, other: Host) -> None:
    client = host.client()
    client.register().raise_for_status()
    code = client.code()
    there = other.client(client_id=client.client_id, verifier=client.verifier)
    assert error_of(there.redeem(code)) == "invalid_grant"
    client.redeem(code).raise_for_status()
    assert there.call(client.tokens["access_token"]).status_code == 401
    assert error_of(there.refresh(client.tokens["refresh_token"])) == "invalid_grant"
    assert client.call().status_code == 200
    client.refresh().raise_for_status()


def test_a_session_can_be_ended_through_either_host_and_is_over_at_once(host: Host, other: Host) -> None:
    client = host.signed_in()
    assert client.call().status_code == 200
    assert other.client(client_id=client.client_id).revoke(client.tokens["access_token"]).status_code == 200
    assert client.call().status_code == 401


def test_a_page_of_one_host_is_not_shown_by_the_other(host: Host, other: Host) -> None:
    client = host.client()
    client.register().raise_for_status()
    page = client.authorize().headers["location"]
    assert other.http.get(page.replace(host.url, other.url)).status_code == 400
    assert host.http.get(page).status_code == 200


def test_a_host_that_is_not_configured_is_answered_as_the_first(site: Site) -> None:
    assert site.unlisted.get("/.well-known/oauth-authorization-server")["issuer"] == site.one.url
    forwarded = {"X-Forwarded-Host": httpx.URL(site.two.url).netloc.decode(), "Forwarded": f"host={NAMES[1]}"}
    answer = site.one.http.get("/.well-known/oauth-authorization-server", headers=forwarded)
    assert answer.json()["issuer"] == site.one.url
    assert site.unlisted.client(client_id="any").call(site.one.signed_in().tokens["access_token"]).status_code == 200


def test_sessions_are_those_of_one_store_and_survive_a_kill(site: Site) -> None:
    at_one, at_two = site.one.signed_in(), site.two.signed_in()
    site.server.restart()
    for client in (at_one, at_two):
        assert client.call().status_code == 200
        client.refresh().raise_for_status()
    ids = {session["client_id"] for session in listed(site.server, "sessions")}
    assert ids >= {at_one.client_id, at_two.client_id}
    assert holdfast(site.server, "revoke", "--client", at_two.client_id).returncode == 0
    assert error_of(at_two.refresh()) == "invalid_grant"
    at_one.refresh().raise_for_status()
    assert at_one.revoke(at_one.tokens["refresh_token"]).status_code == 200
    assert at_one.call().status_code == 401


def test_a_session_goes_along_when_its_server_moves_and_is_served_under_more_urls(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", tmp_path / "server.log")
    first, second, third = (f"http://{name}:{server.port}" for name in ("localhost", "127.0.0.1", "c.localhost"))
    with httpx.Client(base_url=f"http://localhost:{server.port}", timeout=HANGS_AFTER) as http:
        server.environment["HOLDFAST_BASE_URL"] = first
        server.start()
        unused, client = OAuthClient(http).sign_in(), OAuthClient(http).sign_in()
        http.base_url = second
        server.environment["HOLDFAST_BASE_URL"] = second
        server.restart()
        client.refresh().raise_for_status()
        server.environment["HOLDFAST_BASE_URL"] = f"{second.upper().replace('HTTP', 'http')},{third}"
        server.restart()
        for moved in (client, unused):
            assert moved.call().status_code == 200
            moved.refresh().raise_for_status()
        http.headers["Host"] = third.removeprefix("http://")
        assert error_of(client.refresh()) == "invalid_grant"
        del http.headers["Host"]
        server.environment["HOLDFAST_BASE_URL"] = f"{third},{second}"
        server.restart()
        for moved in (client, unused):
            moved.refresh().raise_for_status()
    server.stop()


class Browser(OAuth):
    """The OAuth of FastMCP's client, with a person in place of a browser."""

    def __init__(self, host: Host, directory: Path, **known: Any) -> None:
        tokens = DiskStore(directory=directory)
        super().__init__(mcp_url=host.resource, callback_port=18999, token_storage=tokens, **known)
        self._host = host
        self._answer: dict[str, str] = {}

    async def redirect_handler(self, authorization_url: str) -> None:
        page = self._host.http.get(authorization_url)
        self._answer = answer_parameters(self._host.person().approve(page.headers["location"]))

    async def callback_handler(self) -> tuple[str, str | None]:
        return self._answer["code"], self._answer.get("state")


@pytest.mark.parametrize("known", [{}, {"client_id": "connector", "client_secret": SECRET}], ids=["new", "configured"])
async def test_a_real_client_signs_in_at_each(host: Host, known: dict[str, str], tmp_path: Path) -> None:
    async with Client(host.resource, auth=Browser(host, tmp_path, **known)) as client:
        assert await client.list_tools()
