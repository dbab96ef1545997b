"""A server, who signs people in there, and a person with a browser."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser

from harness import caller_payload
from harness.chromium import Answer, Chromium, chromium
from harness.identity_provider import IdentityProvider
from harness.metadata import discover
from harness.oauth import OAuthClient, tool_result
from harness.outside import Outside
from harness.server import Server


@dataclass(frozen=True)
class Site:
    """A server that nobody has signed in to yet."""

    server: Server
    http: httpx.Client
    person: Chromium

    def sign_in(self, answers: Sequence[Answer], **parameters: str) -> OAuthClient:
        """Register a client with whoever issues its tokens, and let the person answer the pages that it leads to."""
        client = OAuthClient(self.http, endpoints=discover(self.http))
        client.register(client_name="Claude Code").raise_for_status()
        client.redeem(self.person.sign_in(client.authorization_url(**parameters), answers)).raise_for_status()
        return client


MakeServer = Callable[[], Server]
OpenSite = Callable[..., Site]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def running() -> Iterator[ExitStack]:
    """What ends with the test."""
    with ExitStack() as running:
        yield running


@pytest.fixture
def server(tmp_path: Path, running: ExitStack) -> Server:
    """Not started yet; its payload tells what it learns of its caller."""
    server = Server(tmp_path / "data", tmp_path / "log", HOLDFAST_SERVER=f"{caller_payload.__file__}:mcp")
    running.callback(server.stop)
    return server


@pytest.fixture
def open_site(server: Server, browser: Browser, running: ExitStack, tmp_path: Path) -> OpenSite:
    """Start the server with the settings of a page, and whatever is outside."""

    def open_site(settings: Mapping[str, str], outside: Outside) -> Site:
        secret = tmp_path / "client_secret"
        secret.write_text(IdentityProvider.client_secret)
        server.environment |= {
            **settings,
            **{name: str(secret) for name in settings if name.endswith("_SECRET_FILE")},
            **outside.of_servers,
            "HOLDFAST_BASE_URL": server.url,
            # Outlives the identity provider's, which is then seen to be refreshed behind it.
            "HOLDFAST_ACCESS_TOKEN_LIFETIME": "1h",
        }
        http = running.enter_context(outside.http(server.url))
        return Site(server.start(), http, Chromium(browser, tmp_path, outside.browsing.url))

    return open_site


def caller(client: OAuthClient) -> dict[str, Any]:
    """What the payload learns of its caller."""
    return tool_result(client.call_tool("caller"))
