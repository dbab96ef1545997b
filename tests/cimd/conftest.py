"""One lonely network for each module, with a document host, and servers in it that find it."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from cimd.network import CLIENT_HOST, HOSTS, Names, ServerInNetwork, lonely_network
from harness.document_host import DocumentHost
from harness.identity_provider import IdentityProvider
from harness.oauth import Approves, OAuthClient, Person
from harness.proxy_login import ProxyPerson, proxy_environment
from harness.waiting import HANGS_AFTER
from mcp_holdfast.auth.cimd.documents import DOCUMENTS
from mcp_holdfast.storage import open_store
from mcp_holdfast.storage.keys import KeyRing

SECRET = "a-storage-key-of-more-than-32-characters"
AUTHORIZATION_SERVER = "/.well-known/oauth-authorization-server"


@dataclass
class Site:
    """Replicas on one volume that share one public URL, which is the first one's; `person` signs in there."""

    servers: list[ServerInNetwork]
    host: DocumentHost
    names: Names
    provider: IdentityProvider | None
    _connections: list[httpx.Client] = field(default_factory=list)

    def http(self, number: int = 0) -> httpx.Client:
        self._connections.append(httpx.Client(base_url=self.servers[number].url, timeout=HANGS_AFTER))
        return self._connections[-1]

    def person(self) -> Approves:
        return ProxyPerson(quick=True) if self.provider else Person(self.http())

    def url(self, name: str) -> str:
        """Where the document of a client is, or would be."""
        return f"https://{CLIENT_HOST}/{name}.json"

    def client(self, name: str, **metadata: Any) -> OAuthClient:
        """A client that has a document."""
        return OAuthClient(self.http(), self.host.publish(self.url(name), **metadata), person=self.person())

    def signed_in(self, name: str, **metadata: Any) -> OAuthClient:
        client = self.client(name, **metadata)
        client.redeem(client.code()).raise_for_status()
        return client

    def at(self, number: int, client: OAuthClient) -> OAuthClient:
        """The same client, speaking to another replica."""
        return OAuthClient(self.http(number), client.client_id, client.verifier, client.tokens)

    def metadata(self, number: int = 0) -> dict[str, Any]:
        answer: dict[str, Any] = self.http(number).get(AUTHORIZATION_SERVER).raise_for_status().json()
        return answer

    def times_asked(self, client: OAuthClient) -> int:
        return self.host.asked.count(client.client_id)

    def age(self, client: OAuthClient, seconds: float) -> None:
        """Let the kept document of a client be older, as if so much time had passed."""
        asyncio.run(self._age(client.client_id, seconds))

    async def _age(self, client_id: str, seconds: float) -> None:
        home = Path(self.servers[0].environment["FASTMCP_HOME"])
        store = open_store("filetree", path=home / "oauth-proxy", keys=KeyRing((SECRET,), "test"))
        kept = await store.get(client_id, collection=DOCUMENTS)
        assert kept is not None
        older = {name: kept[name] - seconds for name in ("fresh_until", "good_until")}
        await store.put(client_id, {**kept, **older}, collection=DOCUMENTS)

    def close(self) -> None:
        for connection in self._connections:
            connection.close()
        for server in self.servers:
            server.stop()


StartSite = Callable[..., Site]


@pytest.fixture(scope="module")
def network() -> Iterator[None]:
    with lonely_network():
        yield


@pytest.fixture(scope="module")
def provider(network: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentityProvider]:
    provider = IdentityProvider(tmp_path_factory.mktemp("identity-provider")).start()
    yield provider
    provider.stop()


@pytest.fixture(scope="module")
def document_host(network: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DocumentHost]:
    host = DocumentHost(tmp_path_factory.mktemp("document-host"), ("0.0.0.0", 443), HOSTS).start()
    yield host
    host.stop()


@pytest.fixture(scope="module")
def start_site(document_host: DocumentHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartSite]:
    sites: list[Site] = []

    def start(replicas: int = 1, provider: IdentityProvider | None = None, **environment: str) -> Site:
        directory = tmp_path_factory.mktemp("site")
        names = Names(directory / "hosts")
        servers = [
            ServerInNetwork(directory / "data", directory / f"{number}.log", names, document_host.authority)
            for number in range(replicas)
        ]
        site = Site(servers, document_host, names, provider)
        sites.append(site)
        for server in servers:
            server.environment |= {"HOLDFAST_BASE_URL": servers[0].url, "HOLDFAST_STORAGE_KEY": SECRET}
            server.environment |= proxy_environment(provider, servers[0].url) if provider else {}
            server.environment |= environment
            server.start()
        return site

    yield start
    for site in sites:
        site.close()
