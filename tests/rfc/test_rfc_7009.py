"""Token revocation."""

import pytest

from harness.oauth import OAuthClient
from rfc.conftest import Login, error_of


@pytest.mark.parametrize(
    ("kind", "hint"),
    [
        ("access_token", ""),
        ("refresh_token", ""),
        ("access_token", "refresh_token"),
        ("refresh_token", "access_token"),
        ("access_token", "of_nobody"),
    ],
)
def test_a_client_without_a_secret_ends_its_session_with_either_token(login: Login, kind: str, hint: str) -> None:
    """Section 2.1; a wrong hint is only a hint, and the grant ends with the token."""
    client = login.signed_in()
    assert client.call().status_code == 200
    ended = login.provider.revocations() if login.provider else 0
    answer = client.revoke(client.tokens[kind], **({"token_type_hint": hint} if hint else {}))
    assert answer.status_code == 200
    assert client.call().status_code == 401
    assert error_of(client.refresh()) == (400, "invalid_grant")
    assert login.provider is None or login.provider.revocations() == ended + 1


def test_an_unknown_token_is_no_error(client: OAuthClient) -> None:
    """Section 2.2: the client wanted it to be good for nothing, and it is."""
    for token in ("of nobody", "a.b.c", "x" * 5000):
        assert client.revoke(token).status_code == 200


def test_somebody_elses_token_stays_good(login: Login, client: OAuthClient) -> None:
    other = login.signed_in(client_name="Another")
    for token in other.tokens["access_token"], other.tokens["refresh_token"]:
        assert client.revoke(token).status_code == 200
    assert other.call().status_code == 200
    assert other.refresh().status_code == 200


def test_revoking_twice_is_no_error(login: Login) -> None:
    client = login.signed_in()
    assert [client.revoke(client.tokens["refresh_token"]).status_code for _ in range(2)] == [200, 200]


@pytest.mark.parametrize("missing", ["token", "client_id"])
def test_a_missing_parameter_is_named(client: OAuthClient, missing: str) -> None:
    form = {"token": "a token", "client_id": client.client_id, missing: ""}
    answer = client.http.post("/revoke", data=form)
    assert error_of(answer) == (400, "invalid_request")
    assert missing in answer.json()["error_description"]


def test_a_repeated_parameter_is_refused(client: OAuthClient) -> None:
    form = {"token": ["one", "two"], "client_id": client.client_id}
    assert error_of(client.http.post("/revoke", data=form)) == (400, "invalid_request")
