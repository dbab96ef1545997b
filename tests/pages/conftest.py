"""The servers at whose pages all tests here look."""

from collections.abc import Iterator

import pytest

from harness.faults import StoreFaults
from harness.identity_provider import IdentityProvider
from harness.proxy_login import proxy_environment
from harness.server import Server
from pages.situations import ADDRESSES, LISTED_DOMAIN, Sites

SERVER_NAME = "Weather & Co"


@pytest.fixture(scope="session")
def store_faults(tmp_path_factory: pytest.TempPathFactory) -> StoreFaults:
    """Faults of all servers' stores."""
    return StoreFaults(tmp_path_factory.mktemp("faults") / "control.json")


@pytest.fixture(scope="session")
def all_sites(tmp_path_factory: pytest.TempPathFactory, store_faults: StoreFaults) -> Iterator[Sites]:
    directory = tmp_path_factory.mktemp("sites")
    environment = {
        **store_faults.environment,
        "PAYLOAD_NAME": SERVER_NAME,
        "HOLDFAST_REDIRECT_URIS": "https://*.example.com/callback",
    }
    provider = IdentityProvider(directory / "provider").start()
    local = Server(directory / "local", directory / "local.log", **environment)
    proxy = Server(directory / "proxy", directory / "proxy.log", **environment)
    listed = Server(directory / "listed", directory / "listed.log", **environment)
    listed.environment |= {"HOLDFAST_ALLOWED_USERS": "carol", "HOLDFAST_ALLOWED_DOMAINS": LISTED_DOMAIN}
    for server in (proxy, listed):
        server.environment |= proxy_environment(provider, server.url)
    for server in (local, proxy, listed):
        server.launch()
    for server in (local, proxy, listed):
        server.wait_until_ready()
    provider.tell(ADDRESSES)
    yield Sites(local, proxy, listed, provider)
    for process in (local, proxy, listed, provider):
        process.stop()


@pytest.fixture
def sites(all_sites: Sites, store_faults: StoreFaults) -> Iterator[Sites]:
    """Well again after each test."""
    yield all_sites
    store_faults.heal()
    all_sites.provider.heal()
