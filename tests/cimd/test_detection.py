"""Clients are told of documents only by a server that can fetch some; at another one they register."""

from collections.abc import Iterator

import pytest

from cimd.conftest import Site, StartSite
from cimd.network import HOSTS, WELL_KNOWN_HOSTS
from harness.document_host import DocumentHost
from harness.egress_proxy import EgressProxy
from harness.oauth import OAuthClient
from harness.waiting import eventually
from mcp_holdfast.auth.cimd.detection import ASKED_FOR

BROWSER = {"Accept": "text/html,*/*;q=0.8"}
DAY = 86400.0


@pytest.fixture(scope="module")
def site(start_site: StartSite, document_host: DocumentHost) -> Site:
    """One server, which finds out by itself; some tests begin it anew on the same volume."""
    for url in ASKED_FOR:
        document_host.publish(url)
    return start_site(HOLDFAST_CIMD="auto")


@pytest.fixture(scope="module")
def known(site: Site) -> OAuthClient:
    """A client that signed in while its document could be had."""
    return site.signed_in("known")


def begin_anew(site: Site, *found: str, **environment: str) -> None:
    """Restart the server, where it finds these hosts only."""
    site.names.find(*found)
    (server,) = site.servers
    server.log.write_text("")
    server.environment |= environment
    server.restart()


def says(site: Site) -> object:
    return site.metadata()["client_id_metadata_document_supported"]


def has_decided(site: Site) -> bool:
    log = site.servers[0].output()
    return "may be known by their documents" in log or "cannot be fetched here" in log


def test_a_server_that_can_fetch_documents_says_so(site: Site, known: OAuthClient) -> None:
    eventually(lambda: says(site), lambda said: said is True)
    assert known.call().status_code == 200


@pytest.fixture(scope="class")
def without_a_way_out(site: Site, known: OAuthClient) -> None:
    begin_anew(site)
    eventually(lambda: has_decided(site), bool)


@pytest.mark.usefixtures("without_a_way_out")
class TestWithoutAWayOut:
    def test_clients_register(self, site: Site) -> None:
        assert says(site) is False
        assert "private_key_jwt" not in site.metadata()["token_endpoint_auth_methods_supported"]
        assert OAuthClient(site.http()).sign_in().call().status_code == 200
        assert "HOLDFAST_CIMD=off" in site.servers[0].output()

    def test_who_sends_a_url_nevertheless_is_told_to_register(self, site: Site) -> None:
        refuses_unknown_urls(site)

    def test_who_signed_in_by_a_document_stays_signed_in(self, site: Site, known: OAuthClient) -> None:
        stays_signed_in(site, known)


def test_a_server_that_is_to_fetch_nothing_does_not(site: Site, known: OAuthClient) -> None:
    begin_anew(site, *HOSTS, HOLDFAST_CIMD="off")
    asked = len(site.host.asked)
    site.client("unknown")
    refuses_unknown_urls(site)
    stays_signed_in(site, known)
    assert says(site) is False
    assert len(site.host.asked) == asked


def refuses_unknown_urls(site: Site) -> None:
    client = OAuthClient(site.http(), site.url("unknown"))
    for answer in (client.refresh("a token"), client.redeem("a code"), client.revoke("a token")):
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    assert site.http().get("/authorize", params={"client_id": client.client_id}, headers=BROWSER).status_code == 400


def stays_signed_in(site: Site, client: OAuthClient) -> None:
    site.age(client, DAY)
    assert client.refresh().status_code == 200
    assert client.authorize().status_code == 302


def test_clients_register_where_only_some_documents_can_be_fetched(site: Site) -> None:
    begin_anew(site, *WELL_KNOWN_HOSTS[1:], HOLDFAST_CIMD="auto")
    eventually(lambda: has_decided(site), bool)
    assert says(site) is False


def test_a_server_is_ready_before_it_knows(site: Site) -> None:
    site.host.hang()
    begin_anew(site, *HOSTS, HOLDFAST_CIMD="auto")
    assert not has_decided(site)
    assert says(site) is False
    site.host.go_on()
    eventually(lambda: says(site), lambda said: said is True)


class TestBehindAProxy:
    """Where no name server knows any host, and only a proxy leads out."""

    @pytest.fixture
    def proxy(self) -> Iterator[EgressProxy]:
        proxy = EgressProxy(dict.fromkeys(HOSTS, 443))
        yield proxy
        proxy.close()

    def test_documents_are_fetched_where_it_is_trusted_to_refuse_private_addresses(
        self, site: Site, proxy: EgressProxy
    ) -> None:
        begin_anew(site, HOLDFAST_CIMD="auto", HTTPS_PROXY=proxy.url, FASTMCP_SSRF_TRUST_PROXY="true")
        eventually(lambda: says(site), lambda said: said is True)
        assert site.signed_in("behind-a-proxy").call().status_code == 200
        assert proxy.reached == set(HOSTS)

    def test_clients_register_where_it_is_not(self, site: Site, proxy: EgressProxy) -> None:
        begin_anew(site, HOLDFAST_CIMD="auto", HTTPS_PROXY=proxy.url, FASTMCP_SSRF_TRUST_PROXY="false")
        eventually(lambda: has_decided(site), bool)
        assert says(site) is False
        assert "FASTMCP_SSRF_TRUST_PROXY=true" in site.servers[0].output()
        assert proxy.reached == set()
