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
from harness.journeys import LocalJourney, Lost, ProxyJourney
from harness.proxy_login import proxy_environment
from harness.server import Server, ServerProcess
from harness.stock import StockServer
from harness.waiting import HANGS_AFTER
from promises.conftest import Tell

EVERY = int(os.environ.get("CRASH_EVERY", "1"))
OPERATION_AFTER_A_ROTATION = "put mcp-upstream-tokens"
REFRESH_AT_EVERY_CALL = {"FASTMCP_SERVER_AUTH_OAUTHPROXY_TOKEN_EXPIRY_THRESHOLD_SECONDS": "7200"}


class Point(NamedTuple):
    """Just `before` or `after` an operation of a step; `number` is its own, `occurrence` that of its kind, from 1."""

    step: str
    number: int
    when: str
    operation: str
    occurrence: int


@dataclass
class Setting:
    """A server whose process can be killed at an operation of its store."""

    server: ServerProcess
    crashes: Crashes
    make_journey: Callable[[httpx.Client, str], LocalJourney]
    journeys: int = 0

    @property
    def steps(self) -> list[str]:
        """Stock FastMCP does not end sessions; promise 12 tells of that."""
        names = list(self.make_journey(httpx.Client(), "").steps)
        return names[:-1] if isinstance(self.server, StockServer) else names

    def journey(self, http: httpx.Client) -> LocalJourney:
        self.journeys += 1
        return self.make_journey(http, f"Client {self.journeys}")

    def points(self, *steps: str) -> list[Point]:
        """Every point of these steps, or of all, as a journey without a crash shows them."""
        with httpx.Client(base_url=self.server.url, timeout=HANGS_AFTER) as http:
            journey = self.journey(http)
            points = []
            for name in self.steps:
                self.crashes.count()
                journey.steps[name]()
                done = self.crashes.settle()
                for number, operation in enumerate(done, 1):
                    occurrence = done[:number].count(operation)
                    points += [Point(name, number, when, operation, occurrence) for when in WHEN]
            assert journey.is_over() == (self.steps[-1] == "revoke")
        return [point for point in points if not steps or point.step in steps]

    def survive(self, point: Point) -> str:
        """Kill the server at a point and go on; says what was lost, or nothing."""
        with httpx.Client(base_url=self.server.url, timeout=HANGS_AFTER) as http:
            journey = self.journey(http)
            self.crashes.count()
            try:
                for name in self.steps:
                    if name == point.step:
                        # What the server tidies up after its last answer is not part of this step.
                        self.crashes.settle()
                        self.crashes.kill_at(point.operation, point.occurrence, point.when)
                    journey.steps[name]()
                    if name == point.step:
                        self.crashes.settle()
                    if name == "refresh":
                        journey.call()
                        journey.refresh()
            except Lost as lost:
                return str(lost)
            finally:
                self.crashes.stop()
            goes_on = self.steps[-1] == "revoke" and not journey.is_over()
            return "a revoked session goes on" if goes_on else ""

    def lost_at(self, points: list[Point]) -> dict[Point, str]:
        return {point: reason for point in points if (reason := self.survive(point))}


WHEN = ("before", "after")


@pytest.fixture
def make_setting(tmp_path: Path) -> Iterator[Callable[..., Setting]]:
    servers: list[ServerProcess] = []

    def make(
        journey: type[LocalJourney],
        backend: str,
        provider: IdentityProvider | None = None,
        target: str = "holdfast",
        **more: str,
    ) -> Setting:
        crashes = Crashes(tmp_path)
        environment = {"EXA_MCP_STORAGE_BACKEND": backend, "HOLDFAST_LEASE": "2", "HOLDFAST_TOKEN_CACHE": "0", **more}
        kind = StockServer if target == "stock" else Server
        server = kind(tmp_path / "data", tmp_path / "server.log", **crashes.environment, **environment)
        if provider is not None:
            server.environment |= proxy_environment(provider, server.url)
        servers.append(server)
        return Setting(server.start(), crashes, journey)

    yield make
    for server in servers:
        server.stop()


@pytest.mark.parametrize("backend", ["filetree", "disk"])
@pytest.mark.parametrize("target", ["holdfast"])
def test_a_session_of_the_built_in_login(make_setting: Callable[..., Setting], tell: Tell, backend: str) -> None:
    setting = make_setting(LocalJourney, backend)
    try_all(f"1. Killed at every operation: built-in login, {backend}", setting, setting.points(), tell)


@pytest.mark.parametrize("backend", ["filetree", "disk"])
def test_a_session_of_a_provider_that_revokes_on_reuse(
    make_setting: Callable[..., Setting], tell: Tell, provider: IdentityProvider, backend: str, target: str
) -> None:
    setting = make_setting(ProxyJourney, chosen(backend, target), provider, target)
    try_all(f"1. Killed at every operation: identity provider, {backend}", setting, setting.points(), tell)


@pytest.mark.parametrize("backend", ["filetree", "disk"])
def test_a_call_that_refreshes_at_the_provider(
    make_setting: Callable[..., Setting], tell: Tell, provider: IdentityProvider, backend: str, target: str
) -> None:
    setting = make_setting(ProxyJourney, chosen(backend, target), provider, target, **REFRESH_AT_EVERY_CALL)
    points = setting.points("call")
    try_all(f"1. Killed at every operation: a call that refreshes, {backend}", setting, points, tell)


def chosen(backend: str, target: str) -> str:
    if target == "stock" and backend != "filetree":
        pytest.skip("stock FastMCP has one default store, its file tree")
    return backend


def try_all(promise: str, setting: Setting, points: list[Point], tell: Tell) -> None:
    tried = points[::EVERY]
    lost = setting.lost_at(tried)
    unforeseen = [point for point in lost if not follows_a_rotation(point)]
    for point, reason in lost.items():
        print(f"{point.when} operation {point.number} of {point.step} ({point.operation}): {reason}")
    tell(
        promise,
        f"{len(points)} points, {len(tried)} tried, {len(tried) - len(lost)} recovered, "
        f"{len(lost) - len(unforeseen)} lost between a rotation upstream and our first write of it, "
        f"{len(unforeseen)} lost elsewhere {[f'{p.when} {p.step} {p.number} {p.operation}' for p in unforeseen[:5]]}",
        bool(tried) and not unforeseen,
    )


def follows_a_rotation(point: Point) -> bool:
    """Whether the identity provider has just rotated and nobody could have written that down yet."""
    at_a_refresh = point.step in {"refresh", "call"}
    return at_a_refresh and point.when == "before" and point.operation == OPERATION_AFTER_A_ROTATION
