"""The built-in login, as clients and the person at the page see it."""

import re
from urllib.parse import urlsplit

import httpx
import pytest

from harness.oauth import REDIRECT_URI, OAuthClient, Person, answer_parameters
from harness.server import PIN, Server
from harness.waiting import eventually
from integration.conftest import StartServer


def connect(server: Server) -> httpx.Client:
    return httpx.Client(base_url=server.url, timeout=30)


def test_a_client_that_the_owner_approved_can_use_the_server(client: OAuthClient) -> None:
    client.sign_in()
    assert client.call().status_code == 200
    assert client.tokens["token_type"] == "Bearer"
    assert client.tokens["expires_in"] == 3600
    assert client.tokens["scope"] == "mcp"


def test_a_client_without_a_token_is_sent_to_the_login(server: Server, client: OAuthClient) -> None:
    response = client.call("not-a-token")
    assert response.status_code == 401
    metadata = re.search(r'resource_metadata="([^"]+)"', response.headers["www-authenticate"])
    assert metadata
    authorization_servers = httpx.get(metadata[1]).json()["authorization_servers"]
    assert [url.rstrip("/") for url in authorization_servers] == [server.url]


def test_the_metadata_names_every_endpoint_and_only_s256(server: Server, http: httpx.Client) -> None:
    metadata = http.get("/.well-known/oauth-authorization-server").json()
    for name in ("authorization", "token", "registration", "revocation"):
        assert metadata[f"{name}_endpoint"].startswith(server.url)
    assert metadata["code_challenge_methods_supported"] == ["S256"]
    assert "none" in metadata["token_endpoint_auth_methods_supported"]


class TestTheSignInPage:
    def test_shows_who_asks_for_what_and_where_the_browser_goes(self, client: OAuthClient, person: Person) -> None:
        client.register(client_name="<b>Claude</b> & friends")
        page = person.open(client.authorize().headers["location"])
        assert page.status_code == 200
        assert "&lt;b&gt;Claude&lt;/b&gt; &amp; friends" in page.text
        assert "<b>Claude" not in page.text
        assert "a program on this computer (localhost:18999)" in page.text
        assert "scope: mcp" in page.text

    def test_loads_nothing_and_cannot_be_framed(self, client: OAuthClient, person: Person) -> None:
        client.register()
        page = person.open(client.authorize().headers["location"])
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "script" not in policy
        assert not re.findall(r"(?:src|href)=|<script|@import|url\(", page.text)
        assert page.headers["referrer-policy"] == "no-referrer"
        assert page.headers["cache-control"] == "no-store"

    def test_approving_gives_the_client_a_code_and_its_state(self, client: OAuthClient, person: Person) -> None:
        client.register()
        response = person.approve(client.authorize(state="the state").headers["location"])
        assert response.headers["location"].startswith(REDIRECT_URI)
        assert answer_parameters(response)["state"] == "the state"
        assert client.redeem(answer_parameters(response)["code"]).status_code == 200

    def test_denying_tells_the_client(self, client: OAuthClient, person: Person) -> None:
        client.register()
        answer = answer_parameters(person.deny(client.authorize(state="s").headers["location"]))
        assert answer["error"] == "access_denied"
        assert answer["state"] == "s"
        assert "code" not in answer

    def test_a_wrong_pin_is_refused_and_can_be_corrected(self, client: OAuthClient, person: Person) -> None:
        client.register()
        location = client.authorize().headers["location"]
        refused = person.approve(location, pin="wrong")
        assert refused.status_code == 403
        assert "That is not the PIN" in refused.text
        assert person.approve(location).status_code == 303

    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_a_changed_link_is_refused(self, http: httpx.Client, method: str) -> None:
        response = http.request(method, "/signin", params={"request": "e30.e30.x"}, data={"request": "e30.e30.x"})
        assert response.status_code == 400
        assert "connect again" in response.text

    def test_a_huge_form_is_refused_unread(self, http: httpx.Client) -> None:
        assert http.post("/signin", data={"request": "x" * 100_000}).status_code == 413

    def test_a_token_is_not_taken_for_a_sign_in_link(self, client: OAuthClient, http: httpx.Client) -> None:
        client.sign_in()
        assert http.get("/signin", params={"request": client.tokens["access_token"]}).status_code == 400

    def test_a_page_opened_before_a_kill_works_after_it(self, start_server: StartServer) -> None:
        server = start_server()
        with connect(server) as http:
            client = OAuthClient(http)
            client.register()
            location = client.authorize().headers["location"]
            Person(http).open(location)
            server.restart()
            code = answer_parameters(Person(http).approve(location))["code"]
            assert client.redeem(code).status_code == 200

    def test_an_expired_page_says_so_and_what_to_do(self, start_server: StartServer) -> None:
        server = start_server(HOLDFAST_SIGNIN_PAGE_LIFETIME="1s")
        with connect(server) as http:
            client = OAuthClient(http)
            client.register()
            location = client.authorize().headers["location"]
            page = eventually(lambda: Person(http).open(location), lambda response: response.status_code != 200)
            assert page.status_code == 410
            assert "has expired" in page.text
            assert "connect again" in page.text


class TestThePin:
    def test_is_made_up_and_shown_once_where_none_is_given(self, start_server: StartServer) -> None:
        server = start_server(HOLDFAST_PIN="")
        shown = re.findall(r"Sign-in PIN: (\d{4}-\d{4})", server.output())
        assert len(shown) == 1
        server.restart()
        assert len(re.findall("Sign-in PIN", server.output())) == 1
        with connect(server) as http:
            client = OAuthClient(http)
            client.register()
            location = client.authorize().headers["location"]
            assert Person(http).approve(location, pin=shown[0].replace("-", "")).status_code == 303

    def test_is_shown_even_where_only_errors_are_logged(self, start_server: StartServer) -> None:
        assert "Sign-in PIN: " in start_server(HOLDFAST_PIN="", LOG_LEVEL="error").output()

    def test_is_nowhere_on_the_volume(self, start_server: StartServer) -> None:
        server = start_server(HOLDFAST_PIN="a rather long passphrase")
        with connect(server) as http:
            client = OAuthClient(http)
            client.register()
            page = client.authorize().headers["location"]
            assert Person(http).approve(page, pin="a rather long passphrase").status_code == 303
        files = [file for file in server.log.parent.glob("data/**/*") if file.is_file()]
        assert files
        assert not [file for file in files if b"passphrase" in file.read_bytes()]

    def test_can_be_changed_by_the_setting(self, start_server: StartServer) -> None:
        server = start_server(HOLDFAST_PIN="the first one")
        server.environment["HOLDFAST_PIN"] = "the second one"
        server.restart()
        with connect(server) as http:
            client = OAuthClient(http)
            client.register()
            page = client.authorize().headers["location"]
            assert Person(http).approve(page, pin="the first one").status_code == 403
            assert Person(http).approve(page, pin="the second one").status_code == 303

    def test_guessing_is_slowed_down_even_across_a_kill(self, start_server: StartServer) -> None:
        server = start_server()
        with connect(server) as http:
            client = OAuthClient(http)
            client.register()
            page = client.authorize().headers["location"]
            guesses = [Person(http).approve(page, pin=f"guess {number}").status_code for number in range(12)]
            assert guesses[:5] == [403] * 5
            assert 429 in guesses
            eventually(lambda: Person(http).approve(page, pin="guess").status_code, lambda status: status == 403)
            server.restart()
            refused = Person(http).approve(page, pin=PIN)
            assert refused.status_code == 429
            assert int(refused.headers["retry-after"]) >= 1
            assert "Too many wrong PINs" in refused.text


class TestAnAuthorizationCode:
    def test_works_once_and_a_second_use_ends_the_session(self, client: OAuthClient) -> None:
        client.register()
        code = client.code()
        assert client.redeem(code).status_code == 200
        tokens = client.tokens
        assert client.redeem(code).json()["error"] == "invalid_grant"
        assert client.call(tokens["access_token"]).status_code == 401
        assert client.refresh(tokens["refresh_token"]).json()["error"] == "invalid_grant"

    def test_is_worth_nothing_without_its_verifier(self, client: OAuthClient) -> None:
        client.register()
        response = client.redeem(client.code(), code_verifier="x" * 64)
        assert response.json()["error"] == "invalid_grant"

    def test_is_worth_nothing_to_another_client(self, client: OAuthClient, http: httpx.Client) -> None:
        client.register()
        code = client.code()
        thief = OAuthClient(http, verifier=client.verifier)
        thief.register()
        assert thief.redeem(code).json()["error"] == "invalid_grant"
        assert client.redeem(code).status_code == 200

    def test_is_only_sent_to_a_registered_place(self, client: OAuthClient) -> None:
        client.register()
        response = client.authorize(redirect_uri="http://evil.example/callback")
        assert response.status_code == 400

    def test_may_be_sent_to_another_port_of_a_registered_loopback_address(self, client: OAuthClient) -> None:
        client.register()
        response = client.authorize(redirect_uri="http://localhost:4711/callback")
        assert urlsplit(response.headers["location"]).path == "/signin"

    @pytest.mark.parametrize("wrong", [{"code_challenge_method": "plain"}, {"code_challenge": ""}])
    def test_needs_pkce_with_s256(self, client: OAuthClient, wrong: dict[str, str]) -> None:
        client.register()
        assert "code" not in client.authorize(**wrong).headers["location"].split("?")[0]
        assert "error=invalid_request" in client.authorize(**wrong).headers["location"]

    def test_expires(self, start_server: StartServer) -> None:
        server = start_server(HOLDFAST_CODE_LIFETIME="1s")
        with connect(server) as http:
            client = OAuthClient(http)
            client.register()

            def redeem_late() -> int:
                code = client.code()
                eventually(lambda: client.redeem(code, code_verifier="wrong" * 10).json(), _says_the_code_is_gone)
                return client.redeem(code).status_code

            assert redeem_late() != 200

    def test_whose_answer_died_with_the_server_is_answered_again(self, start_server: StartServer) -> None:
        server = start_server()
        with connect(server) as http:
            client = OAuthClient(http)
            client.register()
            code = client.code()
            answered = client.redeem(code).json()
            server.restart()
            again = client.redeem(code).json()
            assert again["access_token"] == answered["access_token"]
            assert again["refresh_token"] == answered["refresh_token"]


def _says_the_code_is_gone(answer: dict[str, str]) -> bool:
    return "does not exist" in answer["error_description"] or "expired" in answer["error_description"]


class TestARefreshToken:
    def test_rotates(self, client: OAuthClient) -> None:
        client.sign_in()
        first = client.tokens
        assert client.refresh().status_code == 200
        assert client.tokens["refresh_token"] != first["refresh_token"]
        assert client.call().status_code == 200

    def test_used_again_within_the_grace_time_gets_the_same_answer(self, client: OAuthClient) -> None:
        client.sign_in()
        old = client.tokens["refresh_token"]
        answered = client.refresh(old).json()
        again = client.refresh(old).json()
        assert again["access_token"] == answered["access_token"]
        assert again["refresh_token"] == answered["refresh_token"]

    def test_used_again_after_the_grace_time_ends_the_session(self, start_server: StartServer) -> None:
        server = start_server(HOLDFAST_REFRESH_GRACE="0")
        with connect(server) as http:
            client = OAuthClient(http).sign_in()
            old = client.tokens["refresh_token"]
            assert client.refresh(old).status_code == 200
            tokens = client.tokens
            refused = eventually(lambda: client.refresh(old), lambda response: not response.is_success)
            assert refused.json()["error"] == "invalid_grant"
            assert client.call(tokens["access_token"]).status_code == 401
            assert client.refresh(tokens["refresh_token"]).json()["error"] == "invalid_grant"

    def test_two_generations_old_ends_the_session_at_once(self, client: OAuthClient) -> None:
        client.sign_in()
        oldest = client.tokens["refresh_token"]
        client.refresh()
        client.refresh()
        tokens = client.tokens
        assert client.refresh(oldest).json()["error"] == "invalid_grant"
        assert client.call(tokens["access_token"]).status_code == 401

    def test_whose_answer_died_with_the_server_is_answered_again(self, start_server: StartServer) -> None:
        server = start_server()
        with connect(server) as http:
            client = OAuthClient(http).sign_in()
            old = client.tokens["refresh_token"]
            answered = client.refresh(old).json()
            server.restart()
            assert client.refresh(old).json()["refresh_token"] == answered["refresh_token"]

    def test_is_worth_nothing_to_another_client(self, client: OAuthClient, http: httpx.Client) -> None:
        client.sign_in()
        thief = OAuthClient(http)
        thief.register()
        assert thief.refresh(client.tokens["refresh_token"]).json()["error"] == "invalid_grant"
        assert client.refresh().status_code == 200

    def test_is_no_access_token_and_the_reverse(self, client: OAuthClient) -> None:
        client.sign_in()
        assert client.call(client.tokens["refresh_token"]).status_code == 401
        assert client.refresh(client.tokens["access_token"]).json()["error"] == "invalid_grant"


def test_an_expired_access_token_is_refused_and_can_be_refreshed(start_server: StartServer) -> None:
    server = start_server(HOLDFAST_ACCESS_TOKEN_LIFETIME="2s")
    with connect(server) as http:
        client = OAuthClient(http).sign_in()
        eventually(lambda: client.call().status_code, lambda status: status == 401)
        client.refresh().raise_for_status()
        assert client.call().status_code == 200


@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
def test_revoking_either_token_ends_both(client: OAuthClient, kind: str) -> None:
    client.sign_in()
    assert client.revoke(client.tokens[kind]).status_code == 200
    assert client.call().status_code == 401
    assert client.refresh(client.tokens["refresh_token"]).json()["error"] == "invalid_grant"


def test_only_its_own_client_can_revoke_a_token(client: OAuthClient, http: httpx.Client) -> None:
    client.sign_in()
    stranger = OAuthClient(http)
    stranger.register()
    assert stranger.revoke(client.tokens["refresh_token"]).status_code == 200
    assert client.call().status_code == 200


def test_a_confidential_client_must_show_its_secret(client: OAuthClient, http: httpx.Client) -> None:
    registered = client.register(token_endpoint_auth_method="client_secret_post").json()
    code = client.code()
    assert client.redeem(code, client_secret="wrong").status_code == 401
    assert client.redeem(code, client_secret=registered["client_secret"]).status_code == 200


@pytest.mark.parametrize("backend", ["filetree", "disk"])
def test_a_signed_in_client_goes_on_after_kill_9(start_server: StartServer, backend: str) -> None:
    server = start_server(EXA_MCP_STORAGE_BACKEND=backend)
    with connect(server) as http:
        client = OAuthClient(http).sign_in()
        server.restart()
        assert client.call().status_code == 200
        assert client.refresh().status_code == 200
        server.restart()
        assert client.call().status_code == 200


def test_without_a_key_nobody_signs_tokens_for_us(start_server: StartServer) -> None:
    server = start_server()
    with connect(server) as http:
        client = OAuthClient(http).sign_in()
        head, claims, _ = client.tokens["access_token"].split(".")
        assert client.call(f"{head}.{claims}.{'A' * 43}").status_code == 401
        assert client.call(f"eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0.{claims}.").status_code == 401
