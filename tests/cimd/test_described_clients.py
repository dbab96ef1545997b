"""Clients whose client_id is the URL of their document, at two replicas, with each kind of login."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from joserfc import jwk, jwt

from cimd.conftest import Site, StartSite
from cimd.network import HOSTS
from harness.identity_provider import IdentityProvider
from harness.oauth import REDIRECT_URI, OAuthClient

HOUR, DAY = 3600.0, 86400.0
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ELSEWHERE = "http://localhost:18999/elsewhere"


@pytest.fixture(scope="module", params=["built-in login", "identity provider"])
def site(request: pytest.FixtureRequest, start_site: StartSite) -> Site:
    provider = request.getfixturevalue("provider") if request.param == "identity provider" else None
    return start_site(replicas=2, provider=provider, HOLDFAST_CIMD="on", HOLDFAST_REFRESH_GRACE="60")


@pytest.fixture
def name() -> str:
    return uuid4().hex


@pytest.fixture
def outage(site: Site) -> Iterator[Callable[[str], None]]:
    """Keep documents from the servers in some way, until the end of the test."""
    ways: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "refuses connections": (site.host.stop, site.host.start),
        "never answers": (site.host.hang, site.host.go_on),
        "cannot be looked up": (lambda: site.names.find(), lambda: site.names.find(*HOSTS)),
    }
    began: list[str] = []

    def begin(way: str) -> None:
        began.append(way)
        ways[way][0]()

    yield begin
    for way in began:
        ways[way][1]()


OUTAGES = ["refuses connections", "never answers", "cannot be looked up"]
BROKEN: dict[str, tuple[int, bytes]] = {
    "is gone": (404, b""),
    "is a page": (200, b"<p>We are moving</p>"),
    "is another's": (200, json.dumps({"client_id": "https://client.example/x", "redirect_uris": ["a:/b"]}).encode()),
    "is a failure": (500, b""),
    "is too long": (200, b" " * 6000),
    "is too deep": (200, b"[" * 5000),
}


class TestADocument:
    def test_is_told_to_be_welcome(self, site: Site) -> None:
        told = site.metadata()
        assert told["client_id_metadata_document_supported"] is True
        assert {"none", "private_key_jwt"} <= set(told["token_endpoint_auth_methods_supported"])
        assert "private_key_jwt" in told["revocation_endpoint_auth_methods_supported"]

    def test_takes_the_place_of_a_registration(self, site: Site, name: str) -> None:
        client = site.signed_in(name)
        assert client.call_tool("whoami").status_code == 200
        assert site.at(1, client).refresh().status_code == 200
        assert client.revoke(client.tokens["refresh_token"]).status_code == 200
        assert client.call().status_code == 401

    @pytest.mark.parametrize("uri", [ELSEWHERE, "https://attacker.example/callback"])
    def test_says_where_codes_may_go(self, site: Site, name: str, uri: str) -> None:
        assert site.client(name).authorize(redirect_uri=uri).status_code == 400

    def test_cannot_let_codes_go_where_the_operator_does_not_want_them(self, site: Site, name: str) -> None:
        uri = "https://attacker.example/callback"
        assert site.client(name, redirect_uris=[uri]).authorize(redirect_uri=uri).status_code == 400

    def test_is_asked_for_once_by_all_replicas_after_a_sign_in(self, site: Site, name: str) -> None:
        client = site.signed_in(name)
        site.servers[1].restart()
        before = site.times_asked(client)
        assert [site.at(number, client).refresh().status_code for number in (0, 1, 0)] == [200, 200, 200]
        assert site.times_asked(client) == before

    def test_that_changed_counts_an_hour_later_on_all_replicas(self, site: Site, name: str) -> None:
        client = site.signed_in(name)
        site.host.publish(client.client_id, redirect_uris=[ELSEWHERE])
        site.age(client, HOUR)
        for number in (0, 1):
            there = site.at(number, client)
            assert there.authorize(redirect_uri=REDIRECT_URI).status_code == 400
            assert there.authorize(redirect_uri=ELSEWHERE).status_code == 302

    @pytest.mark.parametrize("way", OUTAGES)
    def test_that_cannot_be_had_now_ends_no_session(
        self, site: Site, name: str, outage: Callable[[str], None], way: str
    ) -> None:
        client = site.signed_in(name)
        site.age(client, 29 * DAY)
        outage(way)
        assert site.at(1, client).refresh().status_code == 200
        assert client.call().status_code == 200
        assert client.authorize().status_code == 302
        refused = client.refresh("of nobody")
        assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")

    @pytest.mark.parametrize("what", BROKEN)
    def test_that_is_broken_ends_no_session(self, site: Site, name: str, what: str) -> None:
        client = site.signed_in(name)
        site.age(client, HOUR)
        status, body = BROKEN[what]
        site.host.serve(client.client_id, body, status)
        assert client.refresh().status_code == 200

    def test_that_was_gone_for_30_days_does(self, site: Site, name: str) -> None:
        client = site.signed_in(name)
        site.age(client, 30 * DAY + HOUR)
        del site.host.answers[client.client_id]
        refused = client.refresh()
        assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")

    @pytest.mark.parametrize("way", OUTAGES)
    def test_that_was_never_seen_and_cannot_be_had_now_is_answered_later(
        self, site: Site, name: str, outage: Callable[[str], None], way: str
    ) -> None:
        client = site.client(name)
        outage(way)
        answers = [client.refresh("a token")]
        if way != "never answers":
            answers += [client.authorize(), client.revoke("a token")]
        for answer in answers:
            assert answer.status_code == 503, answer.text
            assert answer.headers["retry-after"]

    @pytest.mark.parametrize("what", sorted(BROKEN.keys() - {"is a failure"}))
    def test_that_is_no_good_is_nobodys(self, site: Site, name: str, what: str) -> None:
        client = site.client(name)
        status, body = BROKEN[what]
        site.host.serve(client.client_id, body, status)
        refused = client.refresh("a token")
        assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")
        assert client.authorize().status_code == 400

    @pytest.mark.parametrize(
        "client_id",
        [
            "http://client.example/app.json",
            "https://client.example",
            "https://client.example/",
            "https://client.example/app.json#fragment",
            "https://user:secret@client.example/app.json",
            "https://client.example/a/../app.json",
            "https://CLIENT.example/app.json",
            "https://client.example:99999/app.json",
            f"https://client.example/{'a' * 3000}.json",
            f"https://{'a' * 64}.example/app.json",
            "https://client.example/\x00.json",
            "https://client.example/\nforged log line",
            "https://[::1]/app.json",
            "https://[client/app.json",
            "https://127.0.0.1/app.json",
            "https://localhost/app.json",
            "https://169.254.169.254/latest/meta-data",
            "https:///app.json",
        ],
    )
    def test_is_not_looked_for_where_none_can_be(self, site: Site, client_id: str) -> None:
        asked, client = len(site.host.asked), OAuthClient(site.http(), client_id)
        assert client.refresh("a token").status_code == 401
        assert client.authorize().status_code == 400
        assert len(site.host.asked) == asked


class Keys:
    """What a client signs its assertions with."""

    def __init__(self, key_id: str = "first") -> None:
        self.key_id = key_id
        self._key = jwk.RSAKey.generate_key(2048, {"kid": key_id, "alg": "RS256"})

    @property
    def public(self) -> dict[str, Any]:
        return {"keys": [self._key.as_dict(private=False)]}

    def assertion(self, client: OAuthClient, audience: str, **claims: Any) -> dict[str, str]:
        """The parameters of a request that is authenticated by a new one."""
        now = int(time.time())
        content = {"iss": client.client_id, "sub": client.client_id, "aud": audience, "iat": now, "exp": now + 60}
        content |= {"jti": uuid4().hex, **claims}
        signed = jwt.encode({"alg": "RS256", "kid": self.key_id}, content, self._key)
        return {"client_assertion_type": ASSERTION_TYPE, "client_assertion": signed}


WRONG_CLAIMS: list[dict[str, Any]] = [
    {"aud": "https://other.example/token"},
    {"sub": "https://client.example/other.json"},
    {"iss": "https://client.example/other.json"},
    {"exp": 1},
    {"exp": 4_000_000_000},
    {"exp": None},
    {"exp": "soon"},
    {"iat": "now"},
    {"jti": None},
    {"jti": ["a", "list"]},
]


@pytest.fixture(scope="module")
def keys() -> Keys:
    return Keys()


class TestAnAssertion:
    """Of a client that authenticates with keys (RFC 7523)."""

    @pytest.fixture
    def client(self, site: Site, name: str, keys: Keys) -> OAuthClient:
        jwks_uri = site.url(f"{name}-keys")
        site.host.serve(jwks_uri, keys.public)
        client = site.client(name, token_endpoint_auth_method="private_key_jwt", jwks_uri=jwks_uri)
        client.redeem(client.code(), **self.proof(site, client, keys)).raise_for_status()
        return client

    def proof(self, site: Site, client: OAuthClient, keys: Keys, **claims: Any) -> dict[str, str]:
        return keys.assertion(client, f"{site.servers[0].url}/token", **claims)

    def test_is_needed(self, client: OAuthClient) -> None:
        assert error_of(client.refresh()) == (401, "invalid_client")

    def test_is_good_for_one_request_on_all_replicas_and_after_restarts(
        self, site: Site, client: OAuthClient, keys: Keys
    ) -> None:
        proof = self.proof(site, client, keys)
        assert client.refresh(**proof).status_code == 200
        for number in (0, 1):
            assert error_of(site.at(number, client).refresh(**proof)) == (401, "invalid_client")
        site.servers[0].restart()
        assert error_of(client.refresh(**proof)) == (401, "invalid_client")
        assert error_of(client.revoke(client.tokens["refresh_token"], **proof)) == (401, "invalid_client")
        assert client.refresh(**self.proof(site, client, keys)).status_code == 200

    def test_may_come_again_with_the_same_request(self, site: Site, client: OAuthClient, keys: Keys) -> None:
        request = client.refresh_request(**self.proof(site, client, keys))
        answers = [site.http(number).post("/token", data=request) for number in (0, 1)]
        assert [answer.status_code for answer in answers] == [200, 200]
        assert answers[0].json() == answers[1].json()

    @pytest.mark.parametrize("site", ["identity provider"], indirect=True)
    def test_is_as_good_after_an_outage_in_which_it_was_tried(
        self, site: Site, client: OAuthClient, provider: IdentityProvider, keys: Keys
    ) -> None:
        request = client.refresh_request(**self.proof(site, client, keys))
        provider.fail_token_endpoint(503)
        try:
            assert site.http(0).post("/token", data=request).status_code == 503
        finally:
            provider.heal()
        assert site.http(1).post("/token", data=request).status_code == 200

    def test_of_one_client_uses_up_none_of_another(
        self, site: Site, client: OAuthClient, name: str, keys: Keys
    ) -> None:
        other = site.client(f"{name}-2", token_endpoint_auth_method="private_key_jwt", jwks=keys.public)
        other.redeem(other.code(), **self.proof(site, other, keys, jti="the same")).raise_for_status()
        assert client.refresh(**self.proof(site, client, keys, jti="the same")).status_code == 200

    def test_by_a_new_key_is_good_at_once(self, site: Site, client: OAuthClient, name: str) -> None:
        new = Keys("second")
        assert error_of(client.refresh(**self.proof(site, client, new))) == (401, "invalid_client")
        site.host.serve(site.url(f"{name}-keys"), new.public)
        assert client.refresh(**self.proof(site, client, new)).status_code == 200

    def test_by_a_known_key_is_good_while_the_keys_cannot_be_had(
        self, site: Site, client: OAuthClient, keys: Keys, outage: Callable[[str], None]
    ) -> None:
        site.age(client, DAY)
        outage("refuses connections")
        assert site.at(1, client).refresh(**self.proof(site, client, keys)).status_code == 200
        unknown = client.refresh(**self.proof(site, client, Keys("third")))
        assert unknown.status_code == 503

    def test_that_says_something_else_is_not_good(self, site: Site, client: OAuthClient, keys: Keys) -> None:
        for claims in WRONG_CLAIMS:
            refused = client.refresh(**self.proof(site, client, keys, **claims))
            assert error_of(refused) == (401, "invalid_client"), claims

    def test_that_is_none_is_not_good(self, client: OAuthClient) -> None:
        for assertion in ("", "x", "a.b.c", "é", "e30.e30.", "bnVsbA.bnVsbA.", "W10.W10.W10"):
            proof = {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}
            assert error_of(client.refresh(**proof)) == (401, "invalid_client"), assertion


def error_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]
