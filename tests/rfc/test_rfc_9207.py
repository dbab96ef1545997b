"""Authorization server issuer identification: each answer says whose it is, so that none is taken for another's."""

import httpx

from harness.oauth import REDIRECT_URI, OAuthClient, Person, answer_parameters, hidden_fields
from harness.proxy_login import ProxyPerson
from rfc.conftest import Login


def check(login: Login, answer: httpx.Response, **expected: str) -> None:
    assert answer.headers["location"].startswith(REDIRECT_URI)
    assert answer_parameters(answer).items() >= {"iss": login.issuer, "state": "a state", **expected}.items()
    assert answer.headers["location"].count("iss=") == 1


def test_the_metadata_says_so_with_the_same_issuer(login: Login) -> None:
    """Section 3."""
    metadata = login.metadata()
    assert metadata["authorization_response_iss_parameter_supported"] is True
    assert metadata["issuer"] == login.issuer


def test_with_a_code(login: Login, client: OAuthClient) -> None:
    assert client.person
    check(login, client.person.approve(client.authorize().headers["location"]))


def test_with_an_error_of_the_request(login: Login, client: OAuthClient) -> None:
    check(login, client.authorize(response_type="token"), error="unsupported_response_type")
    check(login, client.authorize(resource="https://elsewhere.example"), error="invalid_target")


def test_with_the_persons_refusal(login: Login, client: OAuthClient) -> None:
    page, person = client.authorize().headers["location"], client.person
    if isinstance(person, Person):
        answer = person.deny(page)
    else:
        assert isinstance(person, ProxyPerson)
        opened = person.open(page)
        answer = person.http.post(opened.url, data={**hidden_fields(opened.text), "action": "deny"})
    check(login, answer, error="access_denied")


def test_with_an_error_of_the_identity_provider(login: Login, client: OAuthClient) -> None:
    if isinstance(person := client.person, ProxyPerson):
        allowed = person.allow(person.open(client.authorize().headers["location"]))
        error = {"error": "access_denied", "state": httpx.URL(allowed.headers["location"]).params["state"]}
        answer = person.http.get(f"{login.server.url}/auth/callback", params=error)
        check(login, answer, error="access_denied")


def test_pages_in_between_are_not_told(login: Login, client: OAuthClient) -> None:
    assert "iss=" not in client.authorize().headers["location"]
