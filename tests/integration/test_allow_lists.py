"""Of all that an identity provider lets in, only whom the operator named comes in, and only as long as that is so."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness.identity_provider import IdentityProvider
from harness.oauth import OAuthClient
from harness.proxy_login import ProxyPerson, browser, proxy_environment
from harness.server import Server
from harness.waiting import eventually
from mcp_holdfast.auth.machine_tokens import hash_of, made_up_token

TOKEN = made_up_token()
TOKENS = {"ci": {"token_hash": hash_of(TOKEN), "expires_at": "2999-01-01"}}
LISTS = {"HOLDFAST_ALLOWED_USERS": "bob@partner.example, carol", "HOLDFAST_ALLOWED_DOMAINS": "example.com"}
ADA = {"email": "ada@Example.com", "email_verified": True}
ACCOUNTS: Mapping[str, Mapping[str, Any]] = {
    "ada": ADA,
    "bob": {"email": "Bob@partner.example", "email_verified": True},
    "carol": {},
    "unverified": {"email": "ada@example.com"},
    "look-alike": {"email": "ada@evil-example.com", "email_verified": True},
}
REFUSED = "This account may not use this server"
UNTOLD = "This server cannot tell whether you may use it"


@dataclass
class Site:
    """A server with lists, and the provider that its users sign in at."""

    provider: IdentityProvider
    server: Server

    def client(self, account: str) -> OAuthClient:
        return OAuthClient(browser(self.server.url), person=ProxyPerson(account, quick=True))

    def callback(self, account: str) -> httpx.Response:
        """The answer to who comes back from the identity provider."""
        client = self.client(account)
        client.register().raise_for_status()
        assert client.person is not None
        return client.person.approve(client.authorize().headers["location"])

    def records(self) -> set[Path]:
        """All that the server keeps, but for leases, which go by themselves."""
        kept = Path(self.server.environment["FASTMCP_HOME"]).rglob("*.json")
        return {path for path in kept if "leases" not in path.parent.name}

    def restart(self, **environment: str) -> None:
        self.server.environment |= environment
        self.server.restart()


@pytest.fixture(scope="module")
def whole_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("site")
    provider = IdentityProvider(directory / "identity-provider").start()
    server = Server(directory / "data", directory / "log", **LISTS, HOLDFAST_TOKENS=json.dumps(TOKENS))
    server.environment |= {**proxy_environment(provider, server.url), "HOLDFAST_TOKEN_CACHE": "0"}
    yield Site(provider, server.start())
    server.stop()
    provider.stop()


@pytest.fixture
def site(whole_site: Site) -> Site:
    whole_site.provider.tell(ACCOUNTS)
    return whole_site


@pytest.mark.parametrize("account", ["ada", "bob", "carol"])
def test_who_is_named_signs_in_and_stays(site: Site, account: str) -> None:
    client = site.client(account).sign_in()
    assert client.call().status_code == 200
    client.refresh().raise_for_status()
    assert client.call().status_code == 200


@pytest.mark.parametrize(
    ("account", "page"),
    [
        ("eve", REFUSED),
        ("Carol", REFUSED),
        ("unverified", UNTOLD),
        ("look-alike", REFUSED),
    ],
)
def test_who_is_not_gets_a_page_and_no_code(site: Site, account: str, page: str) -> None:
    answer = site.callback(account)
    assert answer.status_code == 403
    assert "location" not in answer.headers
    assert f"<h1>{page}</h1>" in " ".join(answer.text.split())
    (denied,) = [line for line in site.server.output().splitlines() if '"event": "denied"' in line][-1:]
    assert json.loads(denied)["reason"] == "not_allowed"
    assert json.loads(denied)["subject"] == (ACCOUNTS.get(account, {}).get("email") or account)
    (reference,) = [line for line in site.server.output().splitlines() if "showed an error page" in line][-1:]
    assert any(
        part in reference for part in ("email_verified is not true", "neither the user nor the domain", "none of")
    )


def test_the_page_stays_when_it_is_loaded_again_and_no_code_comes_of_it(site: Site) -> None:
    answer = site.callback("look-alike")
    again = httpx.get(answer.request.url, headers={"Cookie": answer.request.headers.get("cookie", "")})
    assert again.status_code in {400, 403}
    assert "location" not in again.headers


def test_who_is_no_longer_is_refused_with_the_next_refresh(site: Site) -> None:
    client = site.client("ada").sign_in()
    site.provider.tell({"ada": {**ADA, "email_verified": False}})
    assert client.call().status_code == 200
    kept = site.records()
    for _ in range(3):
        refused = client.refresh()
        assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
    assert client.call().status_code == 401
    assert eventually(site.records, lambda now: now <= kept, within=10)
    site.provider.tell(ACCOUNTS)
    client.refresh().raise_for_status()
    assert client.call().status_code == 200


def test_who_is_taken_from_the_list_is_refused_and_a_mistake_is_mended_by_mending_it(site: Site) -> None:
    ada, bob = site.client("ada").sign_in(), site.client("bob").sign_in()
    site.restart(HOLDFAST_ALLOWED_DOMAINS="other.example")
    refused = ada.call()
    assert refused.status_code == 401
    assert 'error="invalid_token"' in refused.headers["www-authenticate"]
    assert ada.refresh().json()["error"] == "invalid_grant"
    assert site.callback("ada").status_code == 403
    assert bob.call().status_code == 200
    bob.refresh().raise_for_status()

    site.restart(**LISTS)
    assert ada.call().status_code == 200
    ada.refresh().raise_for_status()


def test_an_identity_provider_that_is_away_is_no_reason_to_refuse_anybody(site: Site) -> None:
    client = site.client("ada").sign_in()
    site.provider.fail_token_endpoint(503)
    assert client.refresh().status_code == 503
    site.provider.heal()
    client.refresh().raise_for_status()


def test_a_machine_brings_its_token_and_is_on_no_list(site: Site) -> None:
    client = site.client("")
    assert client.call(TOKEN).status_code == 200
    assert client.call(made_up_token()).status_code == 401
