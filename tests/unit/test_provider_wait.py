"""The application that is served until the identity provider can be asked."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from harness.waiting import HANGS_AFTER
from mcp_holdfast.auth.providers import ProviderUnreachable
from mcp_holdfast.http import provider_wait
from mcp_holdfast.http.provider_wait import ProviderWait
from mcp_holdfast.settings import ConfigurationError, Problem


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider_wait, "TRIED_EVERY", 0.01)


class Site:
    """What is to be served, and what its building meets first."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.events: list[str] = []

    def build(self) -> Starlette:
        if self.failures:
            raise self.failures.pop(0)

        async def served(_: Request) -> PlainTextResponse:
            return PlainTextResponse("served")

        return Starlette(routes=[Route("/mcp", served)], lifespan=self._lifespan)

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self.events.append("began")
        yield
        self.events.append("ended")


@asynccontextmanager
async def running(app: ProviderWait) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app._waiting.router.lifespan_context(app._waiting),
        httpx.AsyncClient(transport=transport, base_url="http://test") as http,
    ):
        yield http


async def until_served(http: httpx.AsyncClient) -> None:
    for _ in range(1000):
        if (await http.get("/mcp")).status_code == 200:
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


async def test_it_serves_as_soon_as_it_can_be_built_and_ends_what_it_began() -> None:
    site = Site(*(ProviderUnreachable("idp answered 503") for _ in range(3)))
    async with running(ProviderWait(site.build, "idp answered 503", server_name="Mine")) as http:
        await until_served(http)
        assert site.events == ["began"]
    assert site.events == ["began", "ended"]


async def test_an_answer_that_does_not_fit_is_no_end_but_told_in_the_log_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    wrong = ConfigurationError([Problem("FASTMCP_SERVER_AUTH_OIDC_CONFIG_URL", "answered 404", "Correct it")])
    site = Site(wrong, *(ProviderUnreachable("idp is gone") for _ in range(3)))
    async with running(ProviderWait(site.build, "idp is gone", server_name="Mine")) as http:
        await until_served(http)
    told = [vars(record).get("reason", "") for record in caplog.records]
    assert any("FASTMCP_SERVER_AUTH_OIDC_CONFIG_URL: answered 404" in reason for reason in told)


async def test_anything_else_ends_the_worker() -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    try:
        async with running(ProviderWait(Site(RuntimeError("a defect")).build, "idp is gone", server_name="Mine")):
            await asyncio.wait_for(ended.wait(), HANGS_AFTER)
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
