"""Promise 1: killed just before or after any operation of its store, the server goes on and nobody signs in again.

Every operation of every step is numbered and tried; CRASH_EVERY=n tries each n-th only (`make test` does). A worker is
killed, and the process that follows it finds only what is in the store.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from harness.crashes import Crashes
from harness.identity_provider import IdentityProvider
from harness.proxy_login import proxy_environment
from harness.server import Server
from promises.journeys import LocalJourney, Lost, ProxyJourney

EVERY = int(os.environ.get("CRASH_EVERY", "1"))
OPERATION_AFTER_A_ROTATION = "put mcp-upstream-tokens"
REFRESH_AT_EVERY_CALL = {"FASTMCP_SERVER_AUTH_OAUTHPROXY_TOKEN_EXPIRY_THRESHOLD_SECONDS": "7200"}

pytestmark = pytest.mark.timeout(7200)


class Point(NamedTuple):
    """Just `before` or `after` an operation of a step, counted from 1."""

    step: str
    number: int
    when: str
    operation: str


@dataclass
class Setting:
    """A server whose process can be killed at an operation of its store."""

    server: Server
    crashes: Crashes
    make_journey: Callable[[httpx.Client, str], LocalJourney]
    journeys: int = 0

    def journey(self, http: httpx.Client) -> LocalJourney:
        self.journeys += 1
        return self.make_journey(http, f"Client {self.journeys}")

    def points(self, *steps: str) -> list[Point]:
        """Every point of these steps, or of all, as a journey without a crash shows them."""
        with httpx.Client(base_url=self.server.url, timeout=60) as http:
            journey = self.journey(http)
            points = []
            for name, take in journey.steps.items():
                self.crashes.count()
                take()
                operations = enumerate(self.crashes.settle(), 1)
                points += [Point(name, number, when, operation) for number, operation in operations for when in WHEN]
            assert journey.is_over()
        return [point for point in points if not steps or point.step in steps]

    def survive(self, point: Point) -> str:
        """Kill the server at a point and go on; says what was lost, or nothing."""
        with httpx.Client(base_url=self.server.url, timeout=60) as http:
            journey = self.journey(http)
            self.crashes.count()
            try:
                for name, take in journey.steps.items():
                    if name == point.step:
                        # What the server tidies up after its last answer is not part of this step.
                        self.crashes.settle()
                        self.crashes.kill_at(point.number, point.when)
                    take()
                    if name == point.step:
                        self.crashes.settle()
                    if name == "refresh":
                        journey.call()
                        journey.refresh()
            except Lost as lost:
                return str(lost)
            finally:
                self.crashes.stop()
            return "" if journey.is_over() else "a revoked session goes on"

    def lost_at(self, points: list[Point]) -> dict[Point, str]:
        return {point: reason for point in points if (reason := self.survive(point))}


WHEN = ("before", "after")


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentityProvider]:
    provider = IdentityProvider(tmp_path_factory.mktemp("identity-provider")).start()
    yield provider
    provider.stop()


@pytest.fixture
def make_setting(tmp_path: Path) -> Iterator[Callable[..., Setting]]:
    servers = []

    def make(journey: type[LocalJourney], backend: str, provider: IdentityProvider | None, **more: str) -> Setting:
        crashes = Crashes(tmp_path)
        server = Server(
            tmp_path / "data",
            tmp_path / "server.log",
            **crashes.environment,
            EXA_MCP_STORAGE_BACKEND=backend,
            HOLDFAST_LEASE="2",
            HOLDFAST_TOKEN_CACHE="0",
            **more,
        )
        if provider is not None:
            server.environment |= proxy_environment(provider, server.url)
        servers.append(server)
        return Setting(server.start(), crashes, journey)

    yield make
    for server in servers:
        server.stop()


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Callable[..., None]:
    def tell(points: list[Point], tried: list[Point], lost: dict[Point, str]) -> None:
        with capsys.disabled():
            print(f"\n{request.node.name}: {len(points)} points, {len(tried)} tried, {len(lost)} lost a session")
            for point, reason in lost.items():
                print(f"  {point.when} operation {point.number} of {point.step} ({point.operation}): {reason}")

    return tell


@pytest.mark.parametrize("backend", ["filetree", "disk"])
def test_of_a_session_of_the_built_in_login(
    make_setting: Callable[..., Setting], tell: Callable[..., None], backend: str
) -> None:
    setting = make_setting(LocalJourney, backend, None)
    points = setting.points()
    lost = setting.lost_at(points[::EVERY])
    tell(points, points[::EVERY], lost)
    assert lost == {}


@pytest.mark.parametrize("backend", ["filetree", "disk"])
def test_of_a_session_of_an_identity_provider_that_revokes_on_reuse(
    make_setting: Callable[..., Setting], tell: Callable[..., None], provider: IdentityProvider, backend: str
) -> None:
    setting = make_setting(ProxyJourney, backend, provider)
    points = setting.points()
    lost = setting.lost_at(points[::EVERY])
    tell(points, points[::EVERY], lost)
    assert all(follows_a_rotation(point) for point in lost)


@pytest.mark.parametrize("backend", ["filetree", "disk"])
def test_of_a_call_that_refreshes_at_the_identity_provider(
    make_setting: Callable[..., Setting], tell: Callable[..., None], provider: IdentityProvider, backend: str
) -> None:
    setting = make_setting(ProxyJourney, backend, provider, **REFRESH_AT_EVERY_CALL)
    points = setting.points("call")
    lost = setting.lost_at(points[::EVERY])
    tell(points, points[::EVERY], lost)
    assert all(follows_a_rotation(point) for point in lost)


def follows_a_rotation(point: Point) -> bool:
    """Whether the identity provider has just rotated and nobody could have written that down yet."""
    at_a_refresh = point.step in {"refresh", "call"}
    return at_a_refresh and point.when == "before" and point.operation == OPERATION_AFTER_A_ROTATION
