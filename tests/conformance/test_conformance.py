"""The MCP conformance suite, on Holdfast and on stock FastMCP beside it, with the same payload.

The suite takes no access token; programs/bearer.mjs has it send one, so that it goes through authenticated sessions.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from conformance.suite import Results, failures, judge_authorization_server, judge_server, known_failures
from harness.identity_provider import IdentityProvider
from harness.oauth import Approves, OAuthClient, Person
from harness.proxy_login import ProxyPerson, proxy_environment
from harness.server import Server, ServerProcess, free_port
from harness.stock import StockServer, stock_python
from harness.waiting import HANGS_AFTER

PAYLOAD = Path(__file__).with_name("everything_payload.py")


class StockPayload(ServerProcess):
    """Stock FastMCP with the payload and no login, as its own command line runs it."""

    ready_path = "/mcp"

    def command(self) -> Sequence[str]:
        run = [str(stock_python()), "-m", "fastmcp.cli", "run", str(PAYLOAD), "--transport", "http"]
        return [*run, "--port", str(self.port), "--no-banner"]

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}{self.ready_path}", timeout=5).status_code == 406
        except httpx.TransportError:
            return False


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("conformance")


@pytest.fixture(scope="module")
def holdfast(directory: Path) -> Iterator[Server]:
    server = Server(directory / "data", directory / "log", HOLDFAST_SERVER=str(PAYLOAD)).start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def provider(directory: Path) -> Iterator[IdentityProvider]:
    provider = IdentityProvider(directory / "provider").start()
    yield provider
    provider.stop()


@pytest.fixture(scope="module")
def results(holdfast: Server, directory: Path) -> Results:
    with httpx.Client(base_url=holdfast.url, timeout=HANGS_AFTER) as http:
        token = OAuthClient(http).sign_in().tokens["access_token"]
    return judged(holdfast, directory / "holdfast", token)


@pytest.fixture(scope="module")
def stock_results(directory: Path) -> Iterator[Results]:
    server = StockPayload(directory / "stock-log", {}).start()
    yield judged(server, directory / "stock")
    server.stop()


def judged(server: ServerProcess, directory: Path, access_token: str = "") -> Results:
    results = judge_server(f"{server.url}/mcp", directory, access_token)
    # The suite passes checks that expect a refusal where nothing answers at all.
    assert server.answers()
    return results


def test_an_authenticated_session_fails_only_what_is_known_to_fail(results: Results) -> None:
    assert len(results) > 40
    assert failures(results) == known_failures()


@pytest.mark.long
def test_stock_fastmcp_fails_all_of_that_too(results: Results, stock_results: Results) -> None:
    assert results.keys() == stock_results.keys()
    assert failures(results) <= failures(stock_results)


def test_nothing_is_answered_without_a_token(holdfast: Server, directory: Path) -> None:
    results = judged(holdfast, directory / "without-token")
    passed = {check for check, status in results.items() if status == "SUCCESS"}
    assert passed == {"dns-rebinding-protection/localhost-host-rebinding-rejected"}


def test_the_built_in_login_conforms_as_an_authorization_server(holdfast: Server, directory: Path) -> None:
    with httpx.Client(base_url=holdfast.url, timeout=HANGS_AFTER) as http:
        assert failures(judged_login(holdfast.url, Person(http), directory / "local")) == set()


@pytest.mark.parametrize(
    ("kind", "failing"),
    [
        (Server, set()),
        # Its issuer ends with a slash that its URL has not (RFC 8414, section 3.3), so nobody gets any further.
        (
            StockServer,
            {
                "authorization-server-metadata-endpoint/authorization-server-metadata",
                "authorization-code-grant/authorization-code-grant",
            },
        ),
    ],
    ids=["holdfast", "stock"],
)
def test_a_proxy_conforms_as_an_authorization_server(
    kind: type[Server | StockServer], failing: set[str], provider: IdentityProvider, directory: Path
) -> None:
    server = kind(directory / f"{kind.__name__}-data", directory / f"{kind.__name__}-log")
    server.environment |= proxy_environment(provider, server.url)
    try:
        results = judged_login(server.start().url, ProxyPerson(), directory / kind.__name__)
        assert failures(results) == failing
    finally:
        server.stop()


def judged_login(url: str, person: Approves, directory: Path) -> Results:
    port = free_port()
    with httpx.Client(base_url=url, timeout=HANGS_AFTER) as http:
        client = OAuthClient(http)
        client.register(redirect_uris=[f"http://127.0.0.1:{port}/callback"]).raise_for_status()

        def sign_in(page: str) -> None:
            approved = person.approve(http.get(page).headers["location"])
            http.get(approved.headers["location"]).raise_for_status()

        results = judge_authorization_server(url, client.client_id, port, sign_in, directory)
    assert "SKIPPED" not in results.values()
    return results
