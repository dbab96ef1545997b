"""The identity provider is down, changes its keys or answers slowly: nobody is told to sign in again for it."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from fastmcp.server.auth.providers.jwt import JWTVerifier
from joserfc import jwk, jwt
from key_value.aio.stores.memory import MemoryStore

from harness.identity_provider import IdentityProvider
from harness.oauth import OAuthClient
from harness.proxy_login import (
    ProxyPerson,
    browser,
    introspecting_proxy_environment,
    oidc_proxy_environment,
    proxy_environment,
    sign_in_directly,
)
from harness.server import Server
from harness.waiting import eventually
from mcp_holdfast import outage
from mcp_holdfast.auth.provider_keys import follow_key_rotation
from mcp_holdfast.auth.providers import ProviderUnreachable, plan_provider
from mcp_holdfast.settings import EXIT_CONFIG, ConfigurationError, Environment

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
AT_ONCE = 20

StartServer = Callable[..., Server]


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentityProvider]:
    provider = IdentityProvider(tmp_path_factory.mktemp("identity-provider")).start()
    yield provider
    provider.stop()


@pytest.fixture(scope="module")
def opaque(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentityProvider]:
    provider = IdentityProvider(tmp_path_factory.mktemp("opaque"), opaque_tokens=True).start()
    yield provider
    provider.stop()


@pytest.fixture(autouse=True)
def _healthy(provider: IdentityProvider) -> Iterator[None]:
    yield
    provider.heal()


@pytest.fixture
def new_server(tmp_path: Path) -> Iterator[StartServer]:
    """Make servers that end with the test, not started yet."""
    servers: list[Server] = []

    def make(**environment: str) -> Server:
        servers.append(Server(tmp_path / "data", tmp_path / "log", **environment))
        return servers[-1]

    yield make
    for server in servers:
        server.stop()


def client_of(server: Server) -> OAuthClient:
    return OAuthClient(browser(server.url), person=ProxyPerson(quick=True))


def status_of(url: str) -> int:
    try:
        return httpx.get(url).status_code
    except httpx.TransportError:
        return 0


class TestTheProviderIsDownAtTheStart:
    @pytest.fixture
    def server(self, provider: IdentityProvider, new_server: StartServer) -> Server:
        server = new_server(WEB_CONCURRENCY="2")
        server.environment |= oidc_proxy_environment(provider, server.url)
        return server

    def test_the_server_waits_and_goes_on_by_itself(self, provider: IdentityProvider, server: Server) -> None:
        client = client_of(server.start()).sign_in()
        server.kill()
        provider.kill()
        try:
            server.launch()
            eventually(lambda: status_of(f"{server.url}/livez"), lambda status: status == 200)
            ready = httpx.get(f"{server.url}/readyz")
            page = httpx.get(f"{server.url}/authorize", headers=HTML)
            program = httpx.get(f"{server.url}/authorize", headers={"Accept": "application/json"})
            refused = [client.call(), client.refresh(), client.register(), program]
        finally:
            provider.start()
        assert ready.status_code == 503
        assert ready.json()["reason"].startswith(f"{provider.host} cannot be reached: ")
        assert page.status_code == 503
        assert page.headers["Content-Type"].startswith("text/html")
        assert "Nothing is lost" in page.text
        assert [answer.status_code for answer in refused] == [503] * 4
        assert all(int(answer.headers["Retry-After"]) > 0 for answer in [page, ready, *refused])

        server.wait_until_ready()
        # Each worker asks for itself.
        eventually(lambda: {client.call().status_code for _ in range(4)}, lambda seen: seen == {200})
        assert client.refresh().status_code == 200
        assert client_of(server).sign_in().call().status_code == 200
        assert "Traceback" not in server.output()

    def test_it_ends_in_good_time_while_it_waits(self, provider: IdentityProvider, server: Server) -> None:
        provider.fail_discovery(503)
        server.launch()
        eventually(lambda: status_of(f"{server.url}/livez"), lambda status: status == 200)
        server.terminate()
        assert server.wait_for_exit() == 0

    def test_a_wrong_configuration_still_stops_the_start(self, provider: IdentityProvider, server: Server) -> None:
        provider.fail_discovery(404)
        server.launch()
        assert server.wait_for_exit() == EXIT_CONFIG
        assert "OIDCProxy cannot be built" in server.output()
        assert "Check FASTMCP_SERVER_AUTH_OIDCPROXY_CONFIG_URL" in server.output()


class TestWhatStopsTheStart:
    def build(self, config_url: str, **more: str) -> None:
        prefix = "FASTMCP_SERVER_AUTH_OIDC_"
        variables = {"CONFIG_URL": config_url, "CLIENT_ID": "an-id", "CLIENT_SECRET": "a-secret", **more}
        environment = Environment({f"{prefix}{name}": value for name, value in variables.items()})
        plan = plan_provider("oidc", environment, base_url="https://mcp.example.com")
        plan.build(client_storage=MemoryStore(), jwt_signing_key=b"k" * 32)

    @pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
    def test_an_answer_that_means_later_is_waited_for(self, provider: IdentityProvider, status: int) -> None:
        provider.fail_discovery(status)
        with pytest.raises(ProviderUnreachable, match=f"{provider.host} answered {status}"):
            self.build(provider.configuration_url)

    @pytest.mark.parametrize("url", ["http://127.0.0.1:9/x", "http://no-such-host.invalid/x"])
    def test_who_does_not_answer_is_waited_for(self, url: str) -> None:
        with pytest.raises(ProviderUnreachable, match="cannot be reached"):
            self.build(url)

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
    def test_an_answer_that_says_no_is_a_problem(self, provider: IdentityProvider, status: int) -> None:
        provider.fail_discovery(status)
        with pytest.raises(ConfigurationError, match=str(status)):
            self.build(provider.configuration_url)

    def test_what_is_no_discovery_document_is_a_problem(self, provider: IdentityProvider) -> None:
        with pytest.raises(ConfigurationError, match="Missing required configuration metadata: issuer"):
            self.build(provider.jwks_uri)

    def test_the_document_of_another_issuer_is_a_problem(self, provider: IdentityProvider) -> None:
        other_name = provider.configuration_url.replace("127.0.0.1", "localhost")
        with pytest.raises(ConfigurationError, match=f"another issuer, {provider.issuer}.*_OIDC_CONFIG_URL"):
            self.build(other_name)
        self.build(other_name, STRICT="false")


class TestTheProviderChangesItsKeys:
    def test_no_call_is_refused_for_it(self, provider: IdentityProvider, new_server: StartServer) -> None:
        server = new_server(HOLDFAST_TOKEN_CACHE="0")
        server.environment |= proxy_environment(provider, server.url)
        before = client_of(server.start()).sign_in()
        assert before.call().status_code == 200
        provider.rotate_keys()
        after = client_of(server).sign_in()
        asked = provider.key_requests()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            calls = pool.map(lambda _: after.call(after.tokens["access_token"]).status_code, range(AT_ONCE))
            assert set(calls) == {200}
        assert before.call().status_code == 200
        assert provider.key_requests() - asked <= 2

        provider.rotate_keys()
        provider.fail_jwks(503)
        newest = client_of(server).sign_in()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            calls = pool.map(lambda _: newest.call(newest.tokens["access_token"]).status_code, range(AT_ONCE))
            assert set(calls) == {503}
        provider.heal()
        assert newest.call().status_code == 200

    async def test_keys_that_strangers_make_up_are_asked_for_once_a_second(self, provider: IdentityProvider) -> None:
        verifier = JWTVerifier(jwks_uri=provider.jwks_uri)
        follow_key_rotation(verifier)
        key = jwk.generate_key("RSA", 2048)
        tokens = [jwt.encode({"alg": "RS256", "kid": f"made up {n}"}, {"sub": "x"}, key) for n in range(100)]
        asked = provider.key_requests()
        with outage.watching() as causes:
            found = await asyncio.gather(*(verifier.verify_token(token) for token in tokens))
        assert found == [None] * 100
        assert provider.key_requests() - asked <= 3
        assert causes == []

    async def test_keys_that_cannot_be_had_are_an_outage_for_all_who_wait(self, provider: IdentityProvider) -> None:
        verifier = JWTVerifier(jwks_uri=provider.jwks_uri)
        follow_key_rotation(verifier)
        key = jwk.generate_key("RSA", 2048)
        token = jwt.encode({"alg": "RS256", "kid": "a key"}, {"sub": "x"}, key)
        provider.fail_jwks(500)

        async def causes_of_a_refusal() -> list[str]:
            with outage.watching() as causes:
                assert await verifier.verify_token(token) is None
            return causes

        causes = await asyncio.gather(*(causes_of_a_refusal() for _ in range(10)))
        assert all(causes)

    def test_an_interval_that_was_set_stays(self) -> None:
        verifier = JWTVerifier(jwks_uri="https://idp.example.com/jwks", jwks_refresh_interval=7)
        follow_key_rotation(verifier)
        assert verifier._jwks_refresh_interval == 7


class TestTheProviderIsAskedAboutEachToken:
    """As GitHub and Google are: their tokens are opaque."""

    def test_once_for_all_who_ask_and_for_as_long_as_the_cache_lasts(
        self, opaque: IdentityProvider, new_server: StartServer
    ) -> None:
        server = new_server()
        server.environment |= introspecting_proxy_environment(opaque, server.url)
        client = client_of(server.start()).sign_in()
        asked = opaque.introspections()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            calls = pool.map(lambda _: client.call(client.tokens["access_token"]).status_code, range(AT_ONCE))
            assert set(calls) == {200}
        assert opaque.introspections() - asked == 1
        client.revoke(client.tokens["access_token"])
        assert client.call().status_code == 401

        other = client_of(server).sign_in()
        opaque.fail_introspection(503)
        refused = other.call()
        opaque.heal()
        assert refused.status_code == 503
        assert other.call().status_code == 200

    def test_without_a_login_of_ours_too(self, opaque: IdentityProvider, new_server: StartServer) -> None:
        with_login = new_server()
        introspecting = introspecting_proxy_environment(opaque, with_login.url)
        introspection = "FASTMCP_SERVER_AUTH_INTROSPECTION_"
        server = new_server(
            **{name: value for name, value in introspecting.items() if name.startswith(introspection)},
            FASTMCP_SERVER_AUTH="remote",
            FASTMCP_SERVER_AUTH_REMOTE_TOKEN_VERIFIER="introspection",
            FASTMCP_SERVER_AUTH_REMOTE_AUTHORIZATION_SERVERS=opaque.issuer,
        ).start()
        token = sign_in_directly(opaque)
        client = client_of(server)
        asked = opaque.introspections()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            calls = pool.map(lambda _: client.call(token).status_code, range(AT_ONCE))
            assert set(calls) == {200}
        assert opaque.introspections() - asked == 1
        assert client.call("a token of nobody").status_code == 401
