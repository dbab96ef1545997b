"""Clients that cannot register: they are configured, with every kind of login, and nothing about them is stored."""

import base64
import json
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from harness.identity_provider import IdentityProvider
from harness.oauth import REDIRECT_URI, Approves, OAuthClient, Person
from harness.proxy_login import ProxyPerson, oidc_proxy_environment, proxy_environment
from harness.server import Server
from harness.waiting import HANGS_AFTER
from integration.test_cli import holdfast
from mcp_holdfast.auth.argon2 import hashed
from mcp_holdfast.settings import EXIT_CONFIG

SECRET = "a secret + signs: 100 % of them"
SECRET_HASH = hashed(SECRET)
HOSTED_URI = "https://connector.example.com/in/no/allow-list"
CONNECTOR = {"client_name": "The connector", "client_secret_hash": SECRET_HASH, "redirect_uris": [REDIRECT_URI]}
CLIENTS: dict[str, dict[str, Any]] = {
    "connector": CONNECTOR,
    "only-basic": {**CONNECTOR, "token_endpoint_auth_method": "client_secret_basic"},
    "only-post": {**CONNECTOR, "token_endpoint_auth_method": "client_secret_post"},
    "hosted": {**CONNECTOR, "redirect_uris": [HOSTED_URI]},
    "public": {"token_endpoint_auth_method": "none", "redirect_uris": [REDIRECT_URI]},
}
IN_BODY = {"client_secret": SECRET}


def basic(client_id: str, secret: str = SECRET) -> dict[str, str]:
    credentials = base64.b64encode(f"{quote(client_id)}:{quote(secret)}".encode()).decode()
    return {"Authorization": f"Basic {credentials}"}


@dataclass
class Site:
    """A server, and who signs in there."""

    server: Server
    person: Callable[[httpx.Client], Approves]
    http: httpx.Client

    def client(self, client_id: str, **headers: str) -> OAuthClient:
        self.http.headers = httpx.Headers(headers)
        return OAuthClient(self.http, client_id, person=self.person(self.http))

    def configure(self, clients: dict[str, Any], **environment: str) -> None:
        """Start the server again with other clients, after a kill."""
        self.server.environment |= {"HOLDFAST_CLIENTS": json.dumps(clients), **environment}
        self.server.restart()


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentityProvider]:
    provider = IdentityProvider(tmp_path_factory.mktemp("identity-provider")).start()
    yield provider
    provider.stop()


@pytest.fixture(scope="module", params=["built-in login", "OIDCProxy"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("server")
    server = Server(directory / "data", directory / "server.log", HOLDFAST_CLIENTS=json.dumps(CLIENTS))
    person: Callable[[httpx.Client], Approves] = Person
    if request.param != "built-in login":
        server.environment |= oidc_proxy_environment(request.getfixturevalue("provider"), server.url)
        person = lambda _: ProxyPerson(quick=True)  # noqa: E731
    with httpx.Client(base_url=server.start().url, timeout=HANGS_AFTER) as http:
        yield Site(server, person, http)
    server.stop()


def error_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]


@pytest.mark.parametrize("client_id", ["connector", "only-post"])
def test_a_client_signs_in_with_its_secret_in_the_body(site: Site, client_id: str) -> None:
    client = site.client(client_id)
    client.redeem(client.code(), **IN_BODY).raise_for_status()
    assert client.call().status_code == 200
    client.refresh(**IN_BODY).raise_for_status()
    assert client.revoke(client.tokens["refresh_token"], **IN_BODY).status_code == 200
    assert client.call().status_code == 401


@pytest.mark.parametrize("client_id", ["connector", "only-basic"])
def test_a_client_signs_in_with_its_secret_in_the_header(site: Site, client_id: str) -> None:
    client = site.client(client_id)
    code = client.code()
    site.http.headers = httpx.Headers(basic(client_id))
    client.redeem(code).raise_for_status()
    client.refresh(client_id="").raise_for_status()
    assert client.revoke(client.tokens["refresh_token"]).status_code == 200
    assert client.call().status_code == 401


def test_a_public_client_signs_in_without_a_secret(site: Site) -> None:
    client = site.client("public")
    client.redeem(client.code()).raise_for_status()
    client.refresh().raise_for_status()
    assert client.call().status_code == 200


class TestAWrongSecret:
    @pytest.mark.parametrize(
        "secret", ["", f"{SECRET}.", SECRET_HASH, "ü"], ids=["none", "longer", "its own hash", "not in ASCII"]
    )
    def test_gets_no_tokens_and_costs_nothing(self, site: Site, secret: str) -> None:
        client = site.client("connector")
        code = client.code()
        assert error_of(client.redeem(code, client_secret=secret)) == (401, "invalid_client")
        client.redeem(code, **IN_BODY).raise_for_status()
        assert error_of(client.refresh(client_secret=secret)) == (401, "invalid_client")
        token = client.tokens["refresh_token"]
        assert error_of(client.revoke(token, client_secret=secret)) == (401, "invalid_client")
        client.refresh(**IN_BODY).raise_for_status()

    def test_in_any_number_keeps_no_other_client_waiting(self, site: Site) -> None:
        client = site.client("only-post")
        code = client.code()
        form = {"grant_type": "refresh_token", "refresh_token": "any", "client_id": "connector"}

        def try_one(number: int) -> int:
            with httpx.Client(base_url=site.http.base_url, timeout=HANGS_AFTER) as stranger:
                return stranger.post("/token", data={**form, "client_secret": f"wrong {number}"}).status_code

        with ThreadPoolExecutor(100) as strangers:
            answers = strangers.map(try_one, range(100))
            client.redeem(code, **IN_BODY).raise_for_status()
        assert set(answers) == {401, 503}

    def test_in_a_header_is_answered_with_a_challenge(self, site: Site) -> None:
        client = site.client("connector", **basic("connector", "wrong"))
        refused = client.redeem("any")
        assert error_of(refused) == (401, "invalid_client")
        assert refused.headers["www-authenticate"].startswith("Basic ")

    def test_is_one_that_is_sent_in_another_way_than_configured(self, site: Site) -> None:
        assert error_of(site.client("only-basic").redeem("any", **IN_BODY)) == (401, "invalid_client")
        in_header = site.client("only-post", **basic("only-post"))
        assert error_of(in_header.redeem("any")) == (401, "invalid_client")

    def test_is_that_of_another_client(self, site: Site) -> None:
        client = site.client("connector", **basic("only-basic"))
        assert error_of(client.redeem("any")) == (401, "invalid_client")

    def test_is_not_made_right_by_a_second_one(self, site: Site) -> None:
        client = site.client("connector", **basic("connector"))
        assert error_of(client.redeem("any", client_secret="wrong")) == (400, "invalid_request")


def test_codes_go_to_a_configured_uri_and_to_any_port_of_the_clients_machine_only(site: Site) -> None:
    client = site.client("connector")
    other_port = REDIRECT_URI.replace("18999", "28999")
    assert client.authorize(redirect_uri=other_port).status_code == 302
    for elsewhere in ("http://localhost:18999/other", "https://claude.ai/api/mcp/auth_callback"):
        assert client.authorize(redirect_uri=elsewhere).status_code == 400


def test_codes_go_to_a_configured_uri_that_nobody_could_register(site: Site) -> None:
    client = site.client("hosted")
    assert OAuthClient(site.http).register(redirect_uris=[HOSTED_URI]).status_code == 400
    page = client.authorize(redirect_uri=HOSTED_URI).headers["location"]
    answer = site.person(site.http).approve(page).headers["location"]
    assert answer.startswith(f"{HOSTED_URI}?")
    code = httpx.URL(answer).params["code"]
    client.redeem(code, redirect_uri=HOSTED_URI, **IN_BODY).raise_for_status()


def test_a_client_that_registers_gets_another_client_id(site: Site) -> None:
    stranger = site.client("")
    stranger.register(client_id="connector", client_secret="mine").raise_for_status()
    assert stranger.client_id not in CLIENTS
    client = site.client("connector")
    assert error_of(client.redeem("any", client_secret="mine")) == (401, "invalid_client")


def test_survives_kills_and_new_keys_and_its_removal_ends_what_it_had(site: Site) -> None:
    client, neighbour = site.client("connector"), site.client("public")
    client.redeem(client.code(), **IN_BODY).raise_for_status()
    neighbour.redeem(neighbour.code()).raise_for_status()
    data = Path(site.server.environment["FASTMCP_HOME"])
    previous = {
        f"HOLDFAST_{name}_KEY{suffix}": value
        for name in ("STORAGE", "SIGNING")
        for suffix, value in (
            ("", secrets.token_hex(32)),
            ("_PREVIOUS", (data / "keys" / f"{name.lower()}.key").read_text().strip()),
        )
    }
    site.configure({name: entry for name, entry in CLIENTS.items() if name != "connector"}, **previous)
    assert client.call().status_code == 401
    assert error_of(client.refresh(**IN_BODY)) == (401, "invalid_client")
    assert error_of(client.revoke(client.tokens["refresh_token"], **IN_BODY)) == (401, "invalid_client")
    assert client.authorize().status_code == 400
    assert neighbour.call().status_code == 200

    # A mistake in the configuration is mended by mending it.
    site.configure(CLIENTS)
    assert client.call().status_code == 200
    client.refresh(**IN_BODY).raise_for_status()


def test_one_replica_redeems_what_another_issued(site: Site, tmp_path: Path) -> None:
    client = site.client("connector")
    code = client.code()
    other = Server(Path(site.server.environment["FASTMCP_HOME"]), tmp_path / "replica.log")
    own_port = other.environment["PORT"]
    other.environment |= {**site.server.environment, "HOLDFAST_BASE_URL": site.server.url, "PORT": own_port}
    with httpx.Client(base_url=other.start().url, timeout=HANGS_AFTER) as http:
        there = OAuthClient(http, "connector", client.verifier)
        there.redeem(code, **IN_BODY).raise_for_status()
        assert there.call().status_code == 200
    other.stop()


def test_are_listed_and_not_stored(site: Site) -> None:
    client = site.client("connector")
    client.redeem(client.code(), **IN_BODY).raise_for_status()
    found = {one["client_id"]: one for one in json.loads(holdfast(site.server, "clients", "--json").stdout)}
    assert found.keys() >= CLIENTS.keys()
    connector = found["connector"]
    assert (connector["configured"], connector["client_name"]) == (True, "The connector")
    assert (connector["registered_at"], connector["redirect_hosts"]) == (None, ["localhost"])
    assert connector["sessions"] > 0
    assert not any(one["configured"] for client_id, one in found.items() if client_id not in CLIENTS)
    assert SECRET_HASH not in site.server.output()


class TestScopes:
    """With more scopes than every call needs."""

    @pytest.fixture
    def wide(self, provider: IdentityProvider, tmp_path: Path) -> Iterator[Site]:
        server = Server(tmp_path / "data", tmp_path / "server.log")
        settings = proxy_environment(provider, server.url)
        settings["FASTMCP_SERVER_AUTH_OAUTHPROXY_VALID_SCOPES"] = "openid,offline_access,email"
        settings["FASTMCP_SERVER_AUTH_JWTVERIFIER_REQUIRED_SCOPES"] = "openid"
        server.environment |= settings
        with httpx.Client(base_url=server.url, timeout=HANGS_AFTER) as http:
            yield Site(server, lambda _: ProxyPerson(quick=True), http)
        server.stop()

    def test_of_its_own_are_all_that_a_client_gets(self, wide: Site) -> None:
        narrow = {**CONNECTOR, "scope": "openid offline_access"}
        wide.server.environment["HOLDFAST_CLIENTS"] = json.dumps({"wide": CONNECTOR, "narrow": narrow})
        wide.server.start()
        asked = {"scope": "openid offline_access email"}
        for client_id, asks, gets in (
            ("wide", asked, asked["scope"]),
            ("narrow", asked, "openid offline_access"),
            ("narrow", {}, "openid offline_access"),
        ):
            client = wide.client(client_id)
            person = ProxyPerson(quick=True).approve(client.authorize(**asks).headers["location"])
            code = httpx.URL(person.headers["location"]).params["code"]
            assert client.redeem(code, **IN_BODY).json()["scope"] == gets
            if client_id == "wide":
                before = client
        wide.configure({"wide": {**CONNECTOR, "scope": "openid offline_access"}})
        assert before.refresh(**IN_BODY).json()["scope"] == "openid offline_access"

    @pytest.mark.parametrize(("scope", "says"), [("openid mail", "names mail"), ("email", "lacks openid")])
    def test_that_cannot_work_stop_the_start(self, wide: Site, scope: str, says: str) -> None:
        wide.server.environment["HOLDFAST_CLIENTS"] = json.dumps({"connector": {**CONNECTOR, "scope": scope}})
        wide.server.launch()
        assert wide.server.wait_for_exit() == EXIT_CONFIG
        assert f"HOLDFAST_CLIENTS: entry 'connector': scope {says}" in wide.server.output()
