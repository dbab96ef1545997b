"""Resource indicators: tokens are for this server's MCP endpoint."""

from urllib.parse import urlencode

import pytest

from harness.oauth import REDIRECT_URI, OAuthClient, answer_parameters
from rfc.conftest import Login, error_of

OTHERS = [
    "https://elsewhere.example/mcp",
    "{server}/other",
    "{server}",
    "{server}/mcp#fragment",
    "{server}/mcp/more",
    "no URL",
]


def test_ours_is_accepted_in_every_spelling(login: Login, client: OAuthClient) -> None:
    assert client.person
    spellings = [login.resource, f"{login.resource}/", f"{login.resource}?a=b", login.resource.replace("http", "HTTP")]
    for resource in spellings:
        page = client.authorize(resource=resource).headers["location"]
        assert "error=" not in page
    # Clients send what the server advertises; an identity provider may be strict about other spellings.
    code = answer_parameters(client.person.approve(client.authorize(resource=login.resource).headers["location"]))[
        "code"
    ]
    client.redeem(code, resource=f"{login.resource}/").raise_for_status()
    client.refresh(resource=login.resource).raise_for_status()
    assert client.call().status_code == 200


@pytest.mark.parametrize("other", OTHERS)
def test_another_is_refused(login: Login, client: OAuthClient, other: str) -> None:
    """Section 2; nothing is used up."""
    resource = other.format(server=login.server.url)
    answer = client.authorize(resource=resource, state="s")
    assert answer.headers["location"].startswith(REDIRECT_URI)
    assert answer_parameters(answer).items() >= {"error": "invalid_target", "state": "s"}.items()
    for refused in client.redeem("a code", resource=resource), client.refresh("a token", resource=resource):
        assert error_of(refused) == (400, "invalid_target")


def test_several_are_refused_unless_all_are_ours(login: Login, client: OAuthClient) -> None:
    form = [("grant_type", "refresh_token"), ("refresh_token", "a token"), ("client_id", client.client_id)]
    for second, error in [(login.resource, "invalid_grant"), ("https://elsewhere.example/", "invalid_target")]:
        for resources in ([login.resource, second], [second, login.resource]):
            body = urlencode([*form, *(("resource", resource) for resource in resources)])
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            assert error_of(client.http.post("/token", content=body, headers=headers)) == (400, error)


def test_a_refused_request_uses_nothing_up(login: Login, client: OAuthClient) -> None:
    code = client.code()
    assert error_of(client.redeem(code, resource="https://elsewhere.example/")) == (400, "invalid_target")
    assert client.redeem(code).status_code == 200
    assert error_of(client.refresh(resource="https://elsewhere.example/")) == (400, "invalid_target")
    assert client.refresh().status_code == 200
