"""Parts that the tests of several modules need."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.registration_site import Site
from harness.stub_identity_provider import StubIdentityProvider
from mcp_holdfast import outage
from mcp_holdfast.auth.upstream import watch_outgoing_requests
from mcp_holdfast.storage import open_store
from mcp_holdfast.storage.atomic import AtomicStore
from mcp_holdfast.storage.backends import FileTree, open_filetree
from mcp_holdfast.storage.keys import KeyRing


@pytest.fixture
def causes() -> Iterator[list[str]]:
    """What is noted as an outage while the test runs."""
    with outage.watching() as causes:
        yield causes


@pytest.fixture
def idp() -> Iterator[StubIdentityProvider]:
    """An identity provider, requests to which are watched as they are in a server."""
    watch_outgoing_requests()
    provider = StubIdentityProvider()
    yield provider
    provider.close()


@pytest.fixture(params=["memory", "filetree"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> AtomicStore:
    """A store as a server opens it, in memory and in files."""
    return open_store(request.param, path=tmp_path, keys=KeyRing(("a secret for tests" * 3,), "test"))


@pytest.fixture
def site(store: AtomicStore) -> Site:
    """A site with the default of everything."""
    return Site(store)


@pytest.fixture
def tree(tmp_path: Path) -> FileTree:
    """A backend that keeps its records in the files of `tmp_path`."""
    return open_filetree(tmp_path)
