"""What strangers can register, and what becomes of it, at a real server."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest

from harness.oauth import OAuthClient
from harness.server import Server
from harness.waiting import HANGS_AFTER, eventually
from integration.conftest import StartServer

WEBSITE = "https://app.example.com/oauth/callback"
LOCAL = {"FASTMCP_SERVER_AUTH": "local"}
PROXY = {
    "FASTMCP_SERVER_AUTH": "fastmcp.server.auth.oauth_proxy.OAuthProxy",
    "FASTMCP_SERVER_AUTH_OAUTHPROXY_UPSTREAM_AUTHORIZATION_ENDPOINT": "https://idp.example.com/authorize",
    "FASTMCP_SERVER_AUTH_OAUTHPROXY_UPSTREAM_TOKEN_ENDPOINT": "https://idp.example.com/token",
    "FASTMCP_SERVER_AUTH_OAUTHPROXY_UPSTREAM_CLIENT_ID": "upstream",
    "FASTMCP_SERVER_AUTH_OAUTHPROXY_UPSTREAM_CLIENT_SECRET": "a secret",
    "EXA_AUTH_JWKS_URI": "https://idp.example.com/jwks",
}
EVERY_LOGIN = pytest.mark.parametrize("login", [LOCAL, PROXY], ids=["local", "proxy"])


ClientOf = Callable[[Server], OAuthClient]


@pytest.fixture
def client_of() -> Iterator[ClientOf]:
    with ExitStack() as opened:
        yield lambda server: OAuthClient(opened.enter_context(httpx.Client(base_url=server.url, timeout=HANGS_AFTER)))


@EVERY_LOGIN
class TestEveryLogin:
    def test_sends_codes_to_allowed_places_only(
        self, start_server: StartServer, client_of: ClientOf, login: dict[str, str]
    ) -> None:
        client = client_of(start_server(**login))
        refused = client.register(redirect_uris=[WEBSITE])
        assert refused.status_code == 400
        assert refused.json()["error"] == "invalid_redirect_uri"
        assert WEBSITE in refused.json()["error_description"]
        assert "HOLDFAST_REDIRECT_URIS" in refused.json()["error_description"]
        assert client.register(redirect_uris=["https://claude.ai/api/mcp/auth_callback"]).status_code == 201

    def test_sends_codes_where_the_setting_allows_it_and_no_longer(
        self, start_server: StartServer, client_of: ClientOf, login: dict[str, str]
    ) -> None:
        allowing = start_server(**login, HOLDFAST_REDIRECT_URIS="https://*.example.com/oauth/*")
        client = client_of(allowing)
        assert client.register(redirect_uris=[WEBSITE]).status_code == 201
        assert client.authorize(redirect_uri=WEBSITE).status_code == 302
        allowing.stop()
        client.http = client_of(start_server(**login)).http
        assert client.authorize(redirect_uri=WEBSITE).status_code == 400

    def test_limits_how_fast_clients_are_registered(
        self, start_server: StartServer, client_of: ClientOf, login: dict[str, str]
    ) -> None:
        client = client_of(start_server(**login, HOLDFAST_REGISTRATIONS_PER_MINUTE="3"))
        answers = [client.register(client_name=f"Client {number}") for number in range(4)]
        assert [answer.status_code for answer in answers] == [201, 201, 201, 429]
        assert int(answers[-1].headers["retry-after"]) <= 20
        client.http.headers["X-Forwarded-For"] = "192.0.2.1"
        assert client.register().status_code == 201

    def test_forgets_who_does_not_sign_in(
        self, start_server: StartServer, client_of: ClientOf, login: dict[str, str]
    ) -> None:
        client = client_of(start_server(**login, HOLDFAST_REGISTRATION_LIFETIME="2s"))
        client.register().raise_for_status()
        assert client.authorize().status_code == 302
        eventually(lambda: client.authorize().status_code, lambda status: status == 400, within=10)

    def test_gives_a_program_that_registers_again_the_same_client(
        self, start_server: StartServer, client_of: ClientOf, login: dict[str, str]
    ) -> None:
        server = start_server(**login)
        client = client_of(server)
        first = client.register()
        server.restart()
        assert client.register().content == first.content
        assert client.register(client_name="Another").json()["client_id"] != first.json()["client_id"]


def test_a_client_that_signed_in_is_kept_for_good(start_server: StartServer, client_of: ClientOf) -> None:
    server = start_server(HOLDFAST_REGISTRATION_LIFETIME="3s")
    client, stranger = client_of(server).sign_in(), client_of(server)
    stranger.register(client_name="A stranger")
    eventually(lambda: stranger.authorize().status_code, lambda status: status == 400, within=10)
    server.restart()
    assert client.refresh().status_code == 200
    assert client.redeem(client.code()).status_code == 200


def test_the_providers_own_list_replaces_ours(start_server: StartServer, client_of: ClientOf) -> None:
    variable = "FASTMCP_SERVER_AUTH_OAUTHPROXY_ALLOWED_CLIENT_REDIRECT_URIS"
    client = client_of(start_server(**PROXY, **{variable: WEBSITE}))
    assert client.register(redirect_uris=[WEBSITE]).status_code == 201
    refused = client.register()
    assert refused.status_code == 400
    assert variable in refused.json()["error_description"]


def test_a_client_that_skips_registration_is_sent_to_allowed_places_only(
    start_server: StartServer, client_of: ClientOf
) -> None:
    client = client_of(start_server(**PROXY))
    client.client_id = "upstream"
    assert client.authorize(redirect_uri=WEBSITE).status_code == 400
    assert client.authorize().status_code == 302
