"""One server for each kind of login, for all tests here: what the RFCs want does not depend on who signs people in."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from harness.identity_provider import IdentityProvider
from harness.oauth import Approves, OAuthClient, Person
from harness.proxy_login import ProxyPerson, oidc_proxy_environment
from harness.server import Server
from harness.waiting import HANGS_AFTER


@dataclass(frozen=True)
class Login:
    """A server and who signs in there; `provider` is the identity provider, None with the built-in login."""

    server: Server
    http: httpx.Client
    provider: IdentityProvider | None
    person: Callable[[], Approves]

    @property
    def issuer(self) -> str:
        return self.server.url

    @property
    def resource(self) -> str:
        return f"{self.server.url}/mcp"

    @property
    def scopes(self) -> list[str]:
        return ["openid", "offline_access"] if self.provider else ["mcp"]

    def client(self, **metadata: Any) -> OAuthClient:
        """A new client that has registered."""
        client = OAuthClient(self.http, person=self.person())
        client.register(**metadata).raise_for_status()
        return client

    def signed_in(self, **metadata: Any) -> OAuthClient:
        client = self.client(**metadata)
        client.redeem(client.code()).raise_for_status()
        return client

    def metadata(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.http.get("/.well-known/oauth-authorization-server").raise_for_status().json()
        return answer


@pytest.fixture(scope="session")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentityProvider]:
    provider = IdentityProvider(tmp_path_factory.mktemp("identity-provider")).start()
    yield provider
    provider.stop()


@pytest.fixture(scope="session", params=["built-in login", "identity provider"])
def login(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Login]:
    """The built-in login, and OIDCProxy, which is an OAuthProxy that reads its settings from its provider."""
    directory = tmp_path_factory.mktemp("server")
    server = Server(directory / "data", directory / "server.log")
    provider = request.getfixturevalue("provider") if request.param == "identity provider" else None
    if provider:
        server.environment |= oidc_proxy_environment(provider, server.url)
    server.start()
    with httpx.Client(base_url=server.url, timeout=HANGS_AFTER) as http:
        yield Login(server, http, provider, (lambda: ProxyPerson(quick=True)) if provider else (lambda: Person(http)))
    server.stop()


@pytest.fixture
def client(login: Login) -> OAuthClient:
    return login.client()


def error_of(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of an OAuth error, which has to be JSON."""
    return answer.status_code, answer.json()["error"]
