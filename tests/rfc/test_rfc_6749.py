"""OAuth 2.0: the authorization endpoint (section 3.1) and the token endpoint (section 3.2)."""

import base64
import secrets
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import httpx
import pytest

from harness.oauth import REDIRECT_URI, OAuthClient, answer_parameters
from rfc.conftest import Login, error_of

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
Ask = Callable[[Login, OAuthClient], httpx.Response]


def basic(client_id: str, secret: str) -> httpx.BasicAuth:
    """Credentials as section 2.3.1 encodes them."""
    return httpx.BasicAuth(quote(client_id, safe=""), quote(secret, safe=""))


class TestTheTokenEndpoint:
    def test_lets_nobody_keep_a_copy_of_tokens_or_errors(self, client: OAuthClient) -> None:
        """Section 5.1."""
        code = client.code()
        for answer in [client.redeem(code), client.refresh(), client.refresh("of nobody"), client.redeem("of nobody")]:
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["pragma"] == "no-cache"

    @pytest.mark.parametrize(
        "ask",
        [
            pytest.param(lambda login, client: client.redeem("of nobody"), id="unknown code"),
            pytest.param(lambda login, client: client.refresh("of nobody"), id="unknown refresh token"),
            pytest.param(lambda login, client: client.redeem(client.code(), code_verifier="v" * 64), id="verifier"),
            pytest.param(
                lambda login, client: client.redeem(client.code(), redirect_uri="http://localhost:18999/other"),
                id="redirect URI",
            ),
            pytest.param(
                lambda login, client: client.redeem(login.client(client_name="Another").code()),
                id="another client's code",
            ),
            pytest.param(
                lambda login, client: client.refresh(login.signed_in(client_name="Another").tokens["refresh_token"]),
                id="another client's refresh token",
            ),
        ],
    )
    def test_refuses_a_grant_that_is_not_good_with_400(self, login: Login, client: OAuthClient, ask: Ask) -> None:
        """Section 5.2; only for a client that fails to authenticate there is 401."""
        answer = ask(login, client)
        assert error_of(answer) == (400, "invalid_grant")
        assert "www-authenticate" not in answer.headers

    def test_refuses_what_was_used_or_revoked_with_400(self, client: OAuthClient) -> None:
        code = client.code()
        client.redeem(code).raise_for_status()
        first = client.tokens["refresh_token"]
        client.revoke(first).raise_for_status()
        assert error_of(client.redeem(code)) == (400, "invalid_grant")
        assert error_of(client.refresh(first)) == (400, "invalid_grant")

    @pytest.mark.parametrize("missing", ["grant_type", "code", "client_id", "code_verifier"])
    def test_names_a_missing_parameter(self, client: OAuthClient, missing: str) -> None:
        form = {"grant_type": "authorization_code", "code": client.code(), "client_id": client.client_id}
        form |= {"redirect_uri": REDIRECT_URI, "code_verifier": client.verifier, missing: ""}
        answer = client.http.post("/token", data=form)
        assert error_of(answer) == (400, "invalid_request")
        assert missing in answer.json()["error_description"]

    def test_names_a_missing_refresh_token(self, client: OAuthClient) -> None:
        form = {"grant_type": "refresh_token", "client_id": client.client_id}
        assert error_of(client.http.post("/token", data=form)) == (400, "invalid_request")

    @pytest.mark.parametrize("grant_type", ["password", "client_credentials", "urn:ietf:params:oauth:grant-type:x"])
    def test_knows_two_grant_types(self, client: OAuthClient, grant_type: str) -> None:
        assert error_of(client.redeem("a code", grant_type=grant_type)) == (400, "unsupported_grant_type")

    @pytest.mark.parametrize("repeated", ["grant_type", "code", "client_id", "code_verifier", "unknown"])
    def test_refuses_a_repeated_parameter(self, client: OAuthClient, repeated: str) -> None:
        """Section 3.2."""
        form = {"grant_type": "authorization_code", "code": "c", "client_id": client.client_id, "code_verifier": "v"}
        body = urlencode([*form.items(), (repeated, form.get(repeated, "one")), (repeated, "another")])
        assert error_of(client.http.post("/token", content=body, headers=FORM)) == (400, "invalid_request")

    @pytest.mark.parametrize("path", ["/token", "/revoke"])
    @pytest.mark.parametrize("content_type", ["application/json", "text/plain", "multipart/form-data; boundary=b", ""])
    def test_takes_forms_only(self, login: Login, path: str, content_type: str) -> None:
        """Appendix B."""
        answer = login.http.post(path, content="client_id=a&token=b", headers={"Content-Type": content_type})
        assert error_of(answer) == (400, "invalid_request")
        assert "application/x-www-form-urlencoded" in answer.json()["error_description"]

    @pytest.mark.parametrize("path", ["/token", "/revoke", "/register", "/authorize"])
    def test_refuses_a_huge_body(self, login: Login, path: str) -> None:
        assert login.http.post(path, content="x" * 100_000, headers=FORM).status_code == 413


class TestClients:
    """Section 2.3."""

    def test_that_are_unknown_fail_to_authenticate(self, login: Login) -> None:
        stranger = OAuthClient(login.http, "of nobody")
        for answer in [stranger.redeem("a code"), stranger.refresh("a token"), stranger.revoke("a token")]:
            assert error_of(answer) == (401, "invalid_client")
            assert "www-authenticate" not in answer.headers, "a browser would ask its user for a password"

    def test_can_show_their_secret_in_the_form(self, login: Login) -> None:
        client, secret = confidential(login, "client_secret_post")
        code = client.code()
        for wrong in ("", "wrong"):
            assert error_of(client.redeem(code, client_secret=wrong)) == (401, "invalid_client")
        assert client.redeem(code, client_secret=secret).status_code == 200
        assert client.refresh(client_secret=secret).status_code == 200
        assert error_of(client.revoke(client.tokens["access_token"])) == (401, "invalid_client")
        assert client.revoke(client.tokens["access_token"], client_secret=secret).status_code == 200
        assert client.call().status_code == 401

    @pytest.mark.parametrize("is_named_twice", [False, True], ids=["header", "header and form"])
    def test_can_show_their_secret_in_the_header(self, login: Login, *, is_named_twice: bool) -> None:
        client, secret = confidential(login, "client_secret_basic")
        identity = client.client_id
        form = {"grant_type": "authorization_code", "redirect_uri": REDIRECT_URI, "code_verifier": client.verifier}
        form |= {"code": client.code()} | ({"client_id": identity} if is_named_twice else {})
        refused = login.http.post("/token", data=form, auth=basic(identity, "wrong"))
        assert error_of(refused) == (401, "invalid_client")
        assert refused.headers["www-authenticate"].startswith("Basic ")
        answer = login.http.post("/token", data=form, auth=basic(identity, secret))
        assert answer.status_code == 200, answer.text
        tokens = answer.json()
        assert client.call(tokens["access_token"]).status_code == 200
        form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
        tokens = login.http.post("/token", data=form, auth=basic(identity, secret)).raise_for_status().json()
        form = {"token": tokens["access_token"]}
        refused = login.http.post("/revoke", data=form, auth=basic(identity, "wrong"))
        assert error_of(refused) == (401, "invalid_client")
        assert refused.headers["www-authenticate"].startswith("Basic ")
        assert login.http.post("/revoke", data=form, auth=basic(identity, secret)).status_code == 200
        assert client.call(tokens["access_token"]).status_code == 401

    @pytest.mark.parametrize("header", ["Basic", "Basic !", "Basic Og==", "Basic /w==", "Bearer of-nobody"])
    def test_whose_header_names_nobody_fail_to_authenticate(self, login: Login, header: str) -> None:
        form = {"grant_type": "refresh_token", "refresh_token": "a token"}
        answer = login.http.post("/token", data=form, headers={"Authorization": header})
        assert error_of(answer) == (401, "invalid_client")
        assert answer.headers["www-authenticate"].startswith("Basic ")


def confidential(login: Login, method: str) -> tuple[OAuthClient, str]:
    client = OAuthClient(login.http, person=login.person())
    registered = client.register(token_endpoint_auth_method=method).raise_for_status().json()
    return client, registered["client_secret"]


class TestTheAuthorizationEndpoint:
    """Section 4.1.2.1: errors go to the client, unless it is uncertain who or where that is."""

    @pytest.mark.parametrize(
        ("parameters", "error"),
        [
            ({"response_type": "token"}, "unsupported_response_type"),
            ({"response_type": ""}, "invalid_request"),
            ({"code_challenge": ""}, "invalid_request"),
            ({"code_challenge_method": "plain"}, "invalid_request"),
        ],
    )
    def test_tells_the_client(self, client: OAuthClient, parameters: dict[str, str], error: str) -> None:
        answer = client.authorize(**parameters, state="s")
        assert answer.headers["location"].startswith(REDIRECT_URI)
        assert answer_parameters(answer).items() >= {"error": error, "state": "s"}.items()

    @pytest.mark.parametrize("method", ["GET", "POST"])
    @pytest.mark.parametrize("repeated", ["response_type", "code_challenge", "scope", "state", "unknown"])
    def test_tells_the_client_of_a_repeated_parameter(self, client: OAuthClient, repeated: str, method: str) -> None:
        """Section 3.1."""
        answer = ask(client, method, [(repeated, "one"), (repeated, "two")])
        assert answer.headers["location"].startswith(REDIRECT_URI)
        assert answer_parameters(answer)["error"] == "invalid_request"

    @pytest.mark.parametrize("repeated", ["client_id", "redirect_uri"])
    def test_tells_the_person_where_it_could_be_the_wrong_client(self, client: OAuthClient, repeated: str) -> None:
        answer = ask(client, "GET", [(repeated, client.client_id if repeated == "client_id" else REDIRECT_URI)])
        assert error_of(answer) == (400, "invalid_request")

    @pytest.mark.parametrize(
        "parameters", [{"client_id": "of nobody"}, {"redirect_uri": "http://localhost.example/"}, {"client_id": ""}]
    )
    def test_tells_the_person_of_an_unknown_client_or_place(
        self, client: OAuthClient, parameters: dict[str, str]
    ) -> None:
        for more in ({}, {"resource": "https://elsewhere.example/mcp"}):
            answer = client.authorize(**parameters, **more)
            assert answer.status_code == 400
            assert "location" not in answer.headers

    def test_takes_a_form_too(self, client: OAuthClient) -> None:
        """Section 3.1."""
        assert ask(client, "POST", []).status_code == 302
        assert "error=" not in ask(client, "POST", [("scope", "of nobody")]).headers["location"]


def ask(client: OAuthClient, method: str, more: list[tuple[str, str]]) -> httpx.Response:
    """Send a good request for authorization with more parameters."""
    query = urlencode([*parse_qsl(urlsplit(str(client.authorize().request.url)).query), *more])
    if method == "GET":
        return client.http.get(f"/authorize?{query}")
    return client.http.post("/authorize", content=query, headers=FORM)


class TestScopes:
    """Section 3.3: what a client was granted or told of, it can ask for; what cannot be had is left out."""

    def test_that_were_granted_can_be_asked_for_at_the_next_login(self, login: Login) -> None:
        client = login.signed_in()
        granted = client.tokens["scope"]
        assert set(granted.split()) >= set(login.scopes)
        assert sign_in(client, scope=granted)["scope"] == granted

    def test_that_are_advertised_can_be_asked_for_by_who_registered_for_fewer(self, login: Login) -> None:
        client = login.client(scope=login.scopes[0])
        assert sign_in(client, scope=" ".join(login.scopes))["scope"].split() == login.scopes
        assert client.call().status_code == 200

    @pytest.mark.parametrize("asked", ["of-nobody", "{} of-nobody", "of-nobody  {} "])
    def test_that_do_not_exist_are_left_out(self, login: Login, asked: str) -> None:
        advertised = " ".join(login.scopes)
        client = login.client(scope=asked.format(advertised))
        assert set(sign_in(client, scope=asked.format(advertised))["scope"].split()) == set(login.scopes)
        assert client.call().status_code == 200


def sign_in(client: OAuthClient, **parameters: str) -> dict[str, Any]:
    assert client.person
    client.verifier = secrets.token_urlsafe(48)
    code = answer_parameters(client.person.approve(client.authorize(**parameters).headers["location"]))["code"]
    answer: dict[str, Any] = client.redeem(code).raise_for_status().json()
    return answer


def test_a_client_id_with_a_colon_is_read_as_section_2_3_1_encodes_it(login: Login) -> None:
    header = base64.b64encode(b"of%3Anobody:x").decode()
    form = {"grant_type": "refresh_token", "refresh_token": "a token"}
    answer = login.http.post("/token", data=form, headers={"Authorization": f"Basic {header}"})
    assert error_of(answer) == (401, "invalid_client")
