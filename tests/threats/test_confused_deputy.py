"""What the identity provider gave to somebody, or for something else, opens nothing here."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from harness.identity_provider import IdentityProvider
from harness.oauth import OAuthClient
from harness.proxy_login import ProxyPerson, oidc_proxy_environment, sign_in_directly
from harness.server import Server
from harness.waiting import HANGS_AFTER


@dataclass
class Site:
    """A server, and the identity provider where people sign in."""

    server: Server
    provider: IdentityProvider

    def client(self) -> OAuthClient:
        http = httpx.Client(
            base_url=self.server.url, timeout=HANGS_AFTER, limits=httpx.Limits(max_keepalive_connections=0)
        )
        client = OAuthClient(http, person=ProxyPerson(quick=True))
        client.register().raise_for_status()
        return client


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("site")
    provider = IdentityProvider(directory / "provider").start()
    server = Server(directory / "data", directory / "server.log")
    server.environment |= oidc_proxy_environment(provider, server.url)
    yield Site(server.start(), provider)
    server.stop()
    provider.stop()


def test_who_never_was_at_the_identity_provider_leaves_nothing_here(site: Site) -> None:
    def kept() -> set[Path]:
        records = Path(site.server.environment["FASTMCP_HOME"], "oauth-proxy").glob("*/*.json")
        return {record for record in records if "leases" not in record.parent.name}

    before = kept()
    for end in ("", "/", "%0A"):
        answer = httpx.get(f"{site.server.url}/auth/callback{end}", params={"code": "made-up", "state": "made-up"})
        assert answer.status_code == 400
    assert kept() == before


def test_a_token_of_the_identity_provider_is_none_of_ours(site: Site) -> None:
    refused = site.client().call(sign_in_directly(site.provider))
    assert refused.status_code == 401
    assert 'error="invalid_token"' in refused.headers["www-authenticate"]


def test_a_link_that_somebody_passes_on_signs_in_nobody_else(site: Site) -> None:
    attacker, victim = ProxyPerson("mallory", quick=True), ProxyPerson("ada", quick=True)
    client = site.client()
    at_the_provider = attacker.allow(attacker.open(client.authorize().headers["location"])).headers["location"]
    # The victim signs in where the attacker was about to: whose browser did not begin gets no code.
    refused = victim.bring_back(victim.sign_in(at_the_provider))
    assert refused.status_code == 403
    assert "location" not in refused.headers
    assert client.redeem("any").status_code == 400
