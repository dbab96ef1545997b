"""Requests to an identity provider: those that could not be answered are noted, and callers get what they got."""

import asyncio
import gzip
import json
import socket
from collections.abc import AsyncIterator

import httpx
import pytest
from authlib.integrations.base_client import OAuthError  # type: ignore[import-untyped]
from authlib.integrations.httpx_client import AsyncOAuth2Client  # type: ignore[import-untyped]
from fastmcp import Client, FastMCP
from fastmcp.server.auth.cimd import CIMDFetcher, CIMDValidationError

from harness.scraping import Scrape
from harness.server import free_port
from harness.stub_identity_provider import StubIdentityProvider
from mcp_holdfast import outage
from mcp_holdfast.auth.upstream import PERSIST_FOR, watch_outgoing_requests
from mcp_holdfast.storage.journal import keeping_journal


@pytest.fixture
async def outgoing() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=5) as client:
        yield client


class TestOutgoingRequests:
    @pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
    @pytest.mark.parametrize("method", ["GET", "POST"])
    async def test_an_answer_that_is_none_is_noted(
        self, idp: StubIdentityProvider, outgoing: httpx.AsyncClient, causes: list[str], method: str, status: int
    ) -> None:
        idp.answer(status)
        response = await outgoing.request(method, f"{idp.url}/token?secret=1", content=b"token=secret")
        assert response.status_code == status
        assert causes == [f"127.0.0.1 answered {status}"]

    @pytest.mark.parametrize(
        ("method", "status", "error"),
        [
            ("GET", 200, None),
            ("GET", 401, "invalid_client"),
            ("GET", 403, None),
            ("GET", 404, None),
            ("POST", 200, None),
            ("POST", 400, "invalid_grant"),
            ("POST", 401, None),
            ("POST", 400, ["odd"]),
        ],
    )
    async def test_an_answer_about_a_token_is_not_noted(
        self,
        idp: StubIdentityProvider,
        outgoing: httpx.AsyncClient,
        causes: list[str],
        method: str,
        status: int,
        error: object,
    ) -> None:
        idp.answer(status, {"error": error})
        assert (await outgoing.request(method, idp.url)).json() == {"error": error}
        assert causes == []

    async def test_a_limit_of_github_is_noted(
        self, idp: StubIdentityProvider, outgoing: httpx.AsyncClient, causes: list[str]
    ) -> None:
        idp.answer(403, X_RateLimit_Remaining="0")
        await outgoing.get(idp.url)
        assert len(causes) == 1

    @pytest.mark.parametrize("status", [400, 401])
    @pytest.mark.parametrize("error", ["temporarily_unavailable", "server_error", "slow_down", "invalid_client"])
    async def test_an_error_that_is_not_about_the_token_is_noted(
        self, idp: StubIdentityProvider, outgoing: httpx.AsyncClient, causes: list[str], status: int, error: str
    ) -> None:
        body = {"error": error, "error_description": "secret"}
        idp.answer(status, body)
        response = await outgoing.post(idp.url)
        assert response.json() == body
        assert response.elapsed.total_seconds() > 0
        assert causes == [f"127.0.0.1 answered {status} {error}"]

    async def test_the_body_can_still_be_read_in_every_way(
        self, idp: StubIdentityProvider, outgoing: httpx.AsyncClient, causes: list[str]
    ) -> None:
        idp.answer(400, Content_Encoding="gzip")
        content = json.dumps({"error": "server_error"}).encode()
        idp.body = gzip.compress(content)
        assert (await outgoing.post(idp.url)).content == content
        async with outgoing.stream("POST", idp.url) as response:
            assert b"".join([part async for part in response.aiter_raw()]) == idp.body
        assert len(causes) == 2

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe\x00", b"null"])
    async def test_a_body_that_is_no_json_is_left_to_the_caller(
        self, idp: StubIdentityProvider, outgoing: httpx.AsyncClient, causes: list[str], body: bytes
    ) -> None:
        idp.answer(400)
        idp.body = body
        assert (await outgoing.post(idp.url)).content == body
        assert causes == []

    async def test_a_dead_host_is_noted(self, idp: StubIdentityProvider, outgoing: httpx.AsyncClient) -> None:
        with outage.watching() as causes, pytest.raises(httpx.ConnectError):
            await outgoing.get(f"http://127.0.0.1:{free_port()}/userinfo?secret=1")
        assert causes == ["127.0.0.1 could not be reached: ConnectError"]

    @pytest.mark.parametrize("status", [200, 400])
    async def test_a_connection_that_fails_within_the_body_is_noted(
        self, idp: StubIdentityProvider, outgoing: httpx.AsyncClient, causes: list[str], status: int
    ) -> None:
        idp.answer(status, {"error": "invalid_grant"})
        idp.cut_short = True
        with pytest.raises(httpx.RemoteProtocolError):
            await outgoing.post(idp.url)
        assert causes == ["127.0.0.1 could not be reached: RemoteProtocolError"]

    async def test_a_malformed_request_is_no_outage(self, idp: StubIdentityProvider, causes: list[str]) -> None:
        async with httpx.AsyncClient() as client:
            with pytest.raises(httpx.LocalProtocolError):
                await client.get(idp.url, headers={"Authorization": "Bearer with\nnewline"})
        assert causes == []

    async def test_what_was_issued_must_be_stored(self, idp: StubIdentityProvider, outgoing: httpx.AsyncClient) -> None:
        loop = asyncio.get_running_loop()
        with keeping_journal(hold_deletes=True) as journal:
            await outgoing.get(idp.url)
            assert journal.must_persist_until == 0
            await outgoing.post(idp.url)
        assert journal.must_persist_until == pytest.approx(loop.time() + PERSIST_FOR, abs=2)

    async def test_is_counted_by_what_it_asks_for_and_what_became_of_it(
        self, idp: StubIdentityProvider, outgoing: httpx.AsyncClient
    ) -> None:
        before = Scrape.here()
        idp.answer(200, {"error": None})
        await outgoing.post(idp.url, data={"grant_type": "authorization_code", "code": "secret"})
        idp.answer(400, {"error": "invalid_grant"})
        await outgoing.post(idp.url, data={"grant_type": "refresh_token", "refresh_token": "secret"})
        idp.answer(400, {"error": "invalid_client"})
        await outgoing.post(idp.url, data={"grant_type": "refresh_token"})
        idp.answer(503)
        await outgoing.get(idp.url, params={"grant_type": "refresh_token"})
        with pytest.raises(httpx.ConnectError):
            await outgoing.post(f"http://127.0.0.1:{free_port()}", data={"grant_type": "a stranger's"})
        assert Scrape.here().increases_since(before, "upstream_requests_total") == {
            ("code", "answered"): 1,
            ("refresh", "refused"): 1,
            ("refresh", "later"): 1,
            ("other", "later"): 1,
            ("other", "unreachable"): 1,
        }

    async def test_authlib_is_covered(self, idp: StubIdentityProvider, causes: list[str]) -> None:
        async with AsyncOAuth2Client("client", "secret") as client:
            idp.answer(400, {"error": "invalid_grant"})
            with pytest.raises(OAuthError):
                await client.refresh_token(f"{idp.url}/token", refresh_token="token")
            assert causes == []
            idp.answer(401, {"error": "invalid_client"})
            with pytest.raises(OAuthError, match="invalid_client"):
                await client.refresh_token(f"{idp.url}/token", refresh_token="token")
        assert causes == ["127.0.0.1 answered 401 invalid_client"]

    async def test_what_a_tool_cannot_reach_is_its_own_affair(
        self, idp: StubIdentityProvider, causes: list[str]
    ) -> None:
        server: FastMCP = FastMCP("test")
        idp.answer(503)

        @server.tool
        async def call() -> int:
            async with httpx.AsyncClient() as client:
                return (await client.get(idp.url)).status_code

        async with Client(server) as client:
            assert (await client.call_tool("call")).data == 503
        assert causes == []


@pytest.mark.parametrize(
    ("number", "noted"),
    [
        (socket.EAI_AGAIN, ["client.example could not be looked up"]),
        (socket.EAI_FAIL, ["client.example could not be looked up"]),
        (socket.EAI_NONAME, []),
        (socket.EAI_NODATA, []),
    ],
    ids=["no answer", "a failure", "no such host", "no address"],
)
async def test_a_clients_document_whose_host_cannot_be_looked_up_now_is_noted(
    monkeypatch: pytest.MonkeyPatch, causes: list[str], number: int, noted: list[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(number, "as a resolver says it")

    watch_outgoing_requests()
    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(CIMDValidationError):
        await CIMDFetcher().fetch("https://client.example/metadata.json")
    assert causes == noted
