"""Dynamic client registration."""

from typing import Any

import pytest

from harness.oauth import OAuthClient
from rfc.conftest import Login, error_of


@pytest.fixture
def newcomer(login: Login) -> OAuthClient:
    return OAuthClient(login.http, person=login.person())


@pytest.mark.parametrize("method", ["client_secret_post", "client_secret_basic", None])
def test_a_secret_comes_with_its_expiry(newcomer: OAuthClient, method: str | None) -> None:
    """Section 3.2.1; 0 is never."""
    registered = newcomer.register(token_endpoint_auth_method=method).raise_for_status().json()
    assert registered["client_secret"]
    assert registered["client_secret_expires_at"] == 0
    assert registered["token_endpoint_auth_method"] == method or method is None


def test_a_public_client_gets_no_secret(newcomer: OAuthClient) -> None:
    registered = newcomer.register().raise_for_status().json()
    assert registered["token_endpoint_auth_method"] == "none"
    assert not {"client_secret", "client_secret_expires_at"} & registered.keys()
    assert registered["client_id_issued_at"] > 0


def test_nobody_may_keep_a_copy_of_an_answer(newcomer: OAuthClient) -> None:
    for answer in [newcomer.register(), newcomer.register(redirect_uris=["javascript:alert(1)"])]:
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "uris",
    [
        None,
        [],
        "http://localhost:18999/callback",
        ["no URL"],
        [7],
        ["http://localhost:18999/callback#fragment"],
        ["http://elsewhere.example/callback"],
        ["http://localhost:18999/callback", "javascript:alert(1)"],
    ],
)
def test_what_is_wrong_with_redirect_uris_has_a_code_of_its_own(newcomer: OAuthClient, uris: Any) -> None:
    """Section 3.2.2."""
    assert error_of(newcomer.register(redirect_uris=uris)) == (400, "invalid_redirect_uri")


@pytest.mark.parametrize(
    "metadata",
    [
        {"token_endpoint_auth_method": "private_key_jwt"},
        {"token_endpoint_auth_method": "client_secret_jwt"},
        {"response_types": ["token"]},
        {"grant_types": ["password"]},
        {"client_name": ["a list"]},
        {"client_uri": "no URL"},
        {"contacts": 7},
    ],
)
def test_other_metadata_that_cannot_be_served_is_refused(newcomer: OAuthClient, metadata: dict[str, Any]) -> None:
    assert error_of(newcomer.register(**metadata)) == (400, "invalid_client_metadata")


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[]", b"null", b"7", b"[" * 5000])
def test_what_is_no_metadata_is_refused(login: Login, body: bytes) -> None:
    answer = login.http.post("/register", content=body, headers={"Content-Type": "application/json"})
    assert error_of(answer) == (400, "invalid_client_metadata")


def test_long_metadata_is_refused_unread(login: Login) -> None:
    answer = login.http.post("/register", json={"software_id": "x" * 9000})
    assert error_of(answer) == (413, "invalid_client_metadata")


@pytest.mark.parametrize("scope", [None, "of-nobody", "of-nobody {}"])
def test_the_answer_names_the_scopes_that_can_be_had(login: Login, newcomer: OAuthClient, scope: str | None) -> None:
    """Section 2: a server may register other values than were asked for, and tells them."""
    advertised = " ".join(login.scopes)
    metadata = {} if scope is None else {"scope": scope.format(advertised)}
    assert newcomer.register(**metadata).raise_for_status().json()["scope"] == advertised
