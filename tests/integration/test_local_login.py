"""The built-in login, as clients and the person at the page see it."""

import base64
import re
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import pytest

from harness.oauth import REDIRECT_URI, OAuthClient, Person, answer_parameters
from harness.server import PIN, Server
from harness.waiting import HANGS_AFTER, eventually
from integration.conftest import StartServer


def connect(server: Server) -> httpx.Client:
    return httpx.Client(base_url=server.url, timeout=HANGS_AFTER)


def asked_page(http: httpx.Client) -> str:
    """The page where a new client waits for the owner's answer."""
    client = OAuthClient(http)
    client.register()
    return client.authorize().headers["location"]


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


def test_there_are_no_metrics_where_no_token_is_set(http: httpx.Client) -> None:
    metrics, unknown = http.get("/metrics"), http.get("/unknown")
    assert (metrics.status_code, metrics.text) == (404, unknown.text)


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

    def test_shows_an_app_for_what_it_is_and_not_as_a_website(self, client: OAuthClient, person: Person) -> None:
        app = "cursor://anysphere.cursor-mcp/oauth/callback"
        client.register(redirect_uris=[app])
        page = person.open(client.authorize(redirect_uri=app).headers["location"])
        assert "the app that opens cursor: links" in page.text
        assert "anysphere" not in page.text

    def test_lets_the_browser_go_on_to_an_ipv6_address(self, client: OAuthClient, person: Person) -> None:
        client.register(redirect_uris=["http://[::1]:4711/callback"])
        page = person.open(client.authorize(redirect_uri="http://[::1]:4711/callback").headers["location"])
        assert page.headers["content-security-policy"].endswith("form-action 'self' http:")

    def test_only_approve_approves_and_only_a_post_answers(self, client: OAuthClient, http: httpx.Client) -> None:
        client.register()
        location = client.authorize().headers["location"]
        for _ in range(8):
            assert http.head(f"{location}&answer=approve&pin={PIN}").status_code == 405
            assert http.get(f"{location}&answer=approve&pin=wrong").status_code == 200
        assert Person(http).answer(location, pin=PIN).status_code == 200
        assert Person(http).answer(location, pin=PIN, answer="perhaps").status_code == 200
        assert Person(http).approve(location).status_code == 303

    @pytest.mark.parametrize("site", ["cross-site", "same-site"])
    def test_another_sites_page_cannot_answer_or_use_up_tries(self, server: Server, site: str) -> None:
        with httpx.Client(base_url=server.url, headers={"Sec-Fetch-Site": site}) as elsewhere, connect(server) as http:
            location = asked_page(http)
            answers = [Person(elsewhere).approve(location, pin=pin).status_code for pin in [PIN, *["wrong"] * 8]]
            assert answers == [200] * 9
            assert Person(http).approve(location).status_code == 303

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
            location = asked_page(http)
            page = eventually(lambda: Person(http).open(location), lambda response: response.status_code != 200)
            assert page.status_code == 410
            assert "has expired" in page.text
            assert "connect again" in page.text


@pytest.mark.parametrize("path", ["/register", "/token", "/revoke", "/signin"])
def test_a_huge_body_is_refused_unread(http: httpx.Client, path: str) -> None:
    assert http.post(path, content=b"x" * 100_000).status_code == 413


@pytest.mark.parametrize(
    "uri",
    [
        "javascript:alert(1)",
        "data:text/html,hello",
        "file:///etc/passwd",
        "http://evil.example/callback",
        "http://localhost.evil.example/callback",
        "http://claude.ai:443@evil.example/",
        "https://user@claude.ai/callback",
        "https://claude.ai/callback#fragment",
    ],
)
def test_a_redirect_uri_that_would_send_codes_astray_is_refused(client: OAuthClient, uri: str) -> None:
    response = client.register(redirect_uris=[uri])
    assert response.status_code == 400
    assert response.json()["error"] == "invalid_redirect_uri"


def test_a_registration_needs_a_redirect_uri_and_valid_text(client: OAuthClient) -> None:
    assert client.register(redirect_uris=None).status_code == 400
    broken = b'{"client_name": "\\ud800", "redirect_uris": ["https://claude.ai/callback"]}'
    assert client.http.post("/register", content=broken).status_code == 400


class TestThePin:
    @pytest.mark.parametrize(("pin", "status"), [("correct-horse", 303), ("horse1", 429)])
    def test_guessing_from_many_addresses_shuts_out_the_owner_only_where_the_pin_is_short(
        self, start_server: StartServer, pin: str, status: int
    ) -> None:
        server = start_server(HOLDFAST_PIN=pin)
        with connect(server) as http:
            page = asked_page(http)
            http.headers["X-Forwarded-For"] = "192.0.2.1"
            assert Person(http).approve(page, pin=pin).status_code == 303
            for address in range(2, 60):
                http.headers["X-Forwarded-For"] = f"192.0.2.{address}"
                Person(http).approve(page, pin="a guess")
            http.headers["X-Forwarded-For"] = "192.0.2.100"
            assert Person(http).approve(page, pin=pin).status_code == status
            http.headers["X-Forwarded-For"] = "192.0.2.1"
            assert Person(http).approve(page, pin=pin).status_code == 303

    def test_addresses_are_only_believed_from_a_known_proxy(self, start_server: StartServer) -> None:
        server = start_server(FORWARDED_ALLOW_IPS="192.0.2.1")
        with connect(server) as http:
            page = asked_page(http)
            answers = []
            for address in range(12):
                http.headers["X-Forwarded-For"] = f"192.0.2.{address}"
                answers.append(Person(http).approve(page, pin="a guess").status_code)
            assert 429 in answers

    def test_is_made_up_and_shown_once_where_none_is_given(self, start_server: StartServer) -> None:
        server = start_server(HOLDFAST_PIN="")
        shown = re.findall(r"Sign-in PIN: (\d{4}-\d{4}-\d{4})", server.output())
        assert len(shown) == 1
        server.restart()
        assert len(re.findall("Sign-in PIN", server.output())) == 1
        with connect(server) as http:
            location = asked_page(http)
            assert Person(http).approve(location, pin=shown[0].replace("-", "")).status_code == 303

    def test_is_shown_even_where_only_errors_are_logged(self, start_server: StartServer) -> None:
        assert "Sign-in PIN: " in start_server(HOLDFAST_PIN="", LOG_LEVEL="error").output()

    def test_is_nowhere_on_the_volume(self, start_server: StartServer) -> None:
        server = start_server(HOLDFAST_PIN="a rather long passphrase")
        with connect(server) as http:
            page = asked_page(http)
            assert Person(http).approve(page, pin="a rather long passphrase").status_code == 303
        files = [file for file in server.log.parent.glob("data/**/*") if file.is_file()]
        assert files
        assert not [file for file in files if b"passphrase" in file.read_bytes()]

    def test_can_be_changed_by_the_setting(self, start_server: StartServer) -> None:
        server = start_server(HOLDFAST_PIN="the first one")
        server.environment["HOLDFAST_PIN"] = "the second one"
        server.restart()
        with connect(server) as http:
            page = asked_page(http)
            assert Person(http).approve(page, pin="the first one").status_code == 403
            assert Person(http).approve(page, pin="the second one").status_code == 303

    def test_that_was_made_up_comes_back_where_the_chosen_one_is_taken_away(self, start_server: StartServer) -> None:
        server = start_server(HOLDFAST_PIN="")
        for chosen in ("a chosen one", ""):
            server.environment["HOLDFAST_PIN"] = chosen
            server.restart()
        shown = re.findall(r"Sign-in PIN: (\S+)", server.output())
        assert len(shown) == 2
        assert shown[0] == shown[1]

    def test_guessing_is_slowed_down_even_across_a_kill(self, start_server: StartServer) -> None:
        server = start_server()
        with connect(server) as http:
            page = asked_page(http)
            guesses = [Person(http).approve(page, pin=f"guess {number}").status_code for number in range(12)]
            assert guesses[:5] == [403] * 5
            assert 429 in guesses
            server.restart()
            # The restart may take longer than the next try has to wait; each further wrong one waits twice as long.
            guesses = [Person(http).approve(page, pin=f"guess {number}").status_code for number in range(3)]
            assert 429 in guesses
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
        thief.register(client_name="A thief")
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

    @pytest.mark.parametrize("workers", ["1", "2"])
    def test_redeemed_by_many_at_once_is_redeemed_once(self, start_server: StartServer, workers: str) -> None:
        server = start_server(WEB_CONCURRENCY=workers)
        with connect(server) as http, ThreadPoolExecutor(8) as pool:
            for _ in range(10):
                client = OAuthClient(http)
                client.register()
                code = client.code()
                rivals = [OAuthClient(httpx.Client(base_url=server.url), client.client_id, client.verifier)] * 8
                answers = list(pool.map(OAuthClient.redeem, rivals, [code] * 8))
                tokens = {answer.json()["access_token"] for answer in answers if answer.is_success}
                assert len(tokens) == 1
                rivals[0].http.close()


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

    def test_is_answered_alike_within_the_grace_time_whatever_happened_since(self, client: OAuthClient) -> None:
        client.sign_in()
        oldest = client.tokens["refresh_token"]
        answered = client.refresh().json()
        client.refresh()
        tokens = client.tokens
        assert client.refresh(oldest).json() == answered
        assert client.call(tokens["access_token"]).status_code == 200

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
        thief.register(client_name="A thief")
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


def test_revoking_while_refreshing_ends_the_session(start_server: StartServer) -> None:
    server = start_server(WEB_CONCURRENCY="2")
    with connect(server) as http, connect(server) as another, ThreadPoolExecutor(2) as pool:
        for _ in range(20):
            client = OAuthClient(http).sign_in()
            token = client.tokens["refresh_token"]
            rival = OAuthClient(another, client.client_id, tokens=client.tokens)
            refreshed, revoked = pool.submit(client.refresh, token), pool.submit(rival.revoke, token)
            assert revoked.result().status_code == 200
            refreshed.result()
            assert client.call().status_code == 401


@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
def test_revoking_either_token_ends_both(client: OAuthClient, kind: str) -> None:
    client.sign_in()
    assert client.call().status_code == 200
    assert client.revoke(client.tokens[kind]).status_code == 200
    assert client.call().status_code == 401
    assert client.refresh(client.tokens["refresh_token"]).json()["error"] == "invalid_grant"


def test_only_its_own_client_can_revoke_a_token(client: OAuthClient, http: httpx.Client) -> None:
    client.sign_in()
    stranger = OAuthClient(http)
    stranger.register(client_name="A stranger")
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
        strange = base64.urlsafe_b64encode(b'{"alg": "HS256", "crit": 5}').decode().rstrip("=")
        assert client.call(f"{strange}.{claims}.x").status_code == 401
        assert "Traceback" not in server.output()
