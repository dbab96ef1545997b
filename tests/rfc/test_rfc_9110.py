"""HTTP Semantics, section 9.2.1: HEAD asks for nothing but to be told about a page."""

import pytest

from harness.oauth import OAuthClient
from harness.proxy_login import ProxyPerson
from rfc.conftest import Login


def test_head_takes_no_step_of_a_sign_in(login: Login, client: OAuthClient) -> None:
    page = client.authorize().headers["location"]
    assert login.http.head(page).status_code == 405
    person = login.person()
    if not isinstance(person, ProxyPerson):
        assert person.approve(page).is_redirect
        return
    allowed = person.allow(person.open(page))
    callback = person.sign_in(allowed.headers["location"])
    looked = person.http.head(callback)
    assert (looked.status_code, looked.headers["allow"]) == (405, "GET")
    assert person.bring_back(callback).is_redirect


def test_head_is_refused_with_the_methods_there_are(login: Login) -> None:
    answer = login.http.head("/authorize")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/.well-known/oauth-authorization-server"])
def test_head_elsewhere_tells_what_get_would(login: Login, path: str) -> None:
    assert login.http.head(path).status_code == login.http.get(path).status_code
