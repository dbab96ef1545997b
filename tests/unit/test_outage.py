"""What cannot be reached right now: noticed in the store and in outgoing requests, and answered with "later"."""

import asyncio
import errno
import gzip
import json
import logging
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from authlib.integrations.base_client import OAuthError  # type: ignore[import-untyped]
from authlib.integrations.httpx_client import AsyncOAuth2Client  # type: ignore[import-untyped]
from fastmcp import Client, FastMCP
from fastmcp.server.auth.oauth_proxy import OAuthProxy
from fastmcp.server.auth.providers.jwt import JWTVerifier, RSAKeyPair
from key_value.aio._utils.managed_entry import ManagedEntry
from key_value.aio.errors import InvalidTTLError, StoreConnectionError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from harness.server import free_port
from mcp_holdfast import outage
from mcp_holdfast.auth.exchange import CallbackEndpoint
from mcp_holdfast.auth.shield import Shield
from mcp_holdfast.auth.upstream import PERSIST_FOR, watch_outgoing_requests
from mcp_holdfast.http.outage import OutageAnswer
from mcp_holdfast.storage.atomic import AtomicStore, Leases
from mcp_holdfast.storage.backends import Memory
from mcp_holdfast.storage.deadlines import PromptStore, StoreUnavailable
from mcp_holdfast.storage.journal import JournaledStore, keeping_journal

DEADLINE = 0.2


class FaultyStore(Memory):
    """Each operation takes one of `errors`, None to go well; it hangs in a thread, as files do, until `open` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[Exception | None] = []
        self.open = threading.Event()
        self.open.set()
        self.operations = 0

    async def _suffer(self) -> None:
        self.operations += 1
        if not self.open.is_set():
            await asyncio.to_thread(self.open.wait)
        if self.errors and (error := self.errors.pop(0)) is not None:
            raise error

    async def _get_managed_entry(self, *, key: str, collection: str) -> ManagedEntry | None:
        await self._suffer()
        return await super()._get_managed_entry(key=key, collection=collection)

    async def _put_managed_entry(self, *, key: str, collection: str, managed_entry: ManagedEntry) -> None:
        await self._suffer()
        await super()._put_managed_entry(key=key, collection=collection, managed_entry=managed_entry)

    async def _delete_managed_entry(self, *, key: str, collection: str) -> bool:
        await self._suffer()
        return await super()._delete_managed_entry(key=key, collection=collection)


@pytest.fixture
async def below() -> AsyncIterator[FaultyStore]:
    store = FaultyStore()
    yield store
    # Before the event loop ends, which waits for its threads.
    store.open.set()


@pytest.fixture
def store(below: FaultyStore) -> PromptStore:
    return PromptStore(below, deadline=DEADLINE, most_left_behind=3)


@pytest.fixture
def causes() -> Iterator[list[str]]:
    with outage.watching() as causes:
        yield causes


async def everything_has_ended(store: PromptStore) -> None:
    if store._left_behind:
        await asyncio.wait(store._left_behind, timeout=5)
    assert not store._left_behind


class TestStore:
    async def test_does_what_the_store_below_it_does(self) -> None:
        store = PromptStore(Memory())
        assert isinstance(store, AtomicStore)
        await store.put("a", {"n": 1}, collection="one", ttl=100)
        await store.put_many(["b", "c"], [{"n": 2}, {"n": 3}], collection="one")
        assert await store.get("a", collection="one") == {"n": 1}
        assert (await store.ttl("a", collection="one"))[1] == pytest.approx(100, abs=5)
        assert await store.get_many(["b", "x"], collection="one") == [{"n": 2}, None]
        assert await store.ttl_many(["c"], collection="one") == [({"n": 3}, None)]
        assert await store.add("a", {"n": 4}, collection="one") is False
        assert await store.add("d", {"n": 4}, collection="one", ttl=10) is True
        assert {key async for key, _ in store.entries("one")} == {"a", "b", "c", "d"}
        assert await store.delete("a", collection="one") is True
        assert await store.delete_many(["b", "x"], collection="one") == 1

    @pytest.mark.parametrize(
        "error",
        [
            OSError(errno.ENOSPC, "No space left", "/data/oauth-proxy/clients/the-key.json"),
            sqlite3.OperationalError("disk I/O error"),
            StoreConnectionError("the-key"),
        ],
    )
    async def test_a_failed_write_is_an_outage_and_not_repeated(
        self, store: PromptStore, below: FaultyStore, causes: list[str], error: Exception
    ) -> None:
        below.errors = [error]
        with pytest.raises(StoreUnavailable) as raised:
            await store.put("the-key", {"secret": "value"})
        assert len(causes) == 1
        assert type(error).__name__ in causes[0]
        assert "the-key" not in causes[0] + str(raised.value)
        assert below.operations == 1

    async def test_a_failed_read_is_tried_once_more(
        self, store: PromptStore, below: FaultyStore, causes: list[str]
    ) -> None:
        await store.put("key", {"n": 1})
        below.errors = [OSError(errno.ESTALE, "Stale file handle")]
        assert await store.get("key") == {"n": 1}
        assert causes == []
        below.errors = [OSError(errno.EIO, "I/O error") for _ in range(3)]
        with pytest.raises(StoreUnavailable):
            await store.get("key")
        assert len(below.errors) == 1
        assert causes == ["the store failed at get: OSError EIO"]

    @pytest.mark.parametrize("error", [TypeError("x"), ValueError("x"), AssertionError(), sqlite3.ProgrammingError()])
    async def test_a_mistake_is_no_outage(
        self, store: PromptStore, below: FaultyStore, causes: list[str], error: Exception
    ) -> None:
        below.errors = [error]
        with pytest.raises(type(error)):
            await store.get("key")
        with pytest.raises(InvalidTTLError):
            await store.put("key", {}, ttl=-1)
        assert causes == []

    async def test_a_hang_ends_at_the_deadline_and_its_write_is_done_later(
        self, store: PromptStore, below: FaultyStore, causes: list[str]
    ) -> None:
        below.open.clear()
        async with asyncio.timeout(5 * DEADLINE):
            with pytest.raises(StoreUnavailable, match=r"put within 0\.2 s"):
                await store.put("key", {"n": 1})
        assert len(causes) == 1
        below.open.set()
        await everything_has_ended(store)
        assert await store.get("key") == {"n": 1}

    async def test_a_read_that_hung_is_not_repeated(self, store: PromptStore, below: FaultyStore) -> None:
        below.open.clear()
        with pytest.raises(StoreUnavailable):
            await store.get("key")
        assert below.operations == 1

    async def test_a_listing_that_hangs_ends_too(self, store: PromptStore, below: FaultyStore) -> None:
        await store.put("key", {"n": 1}, collection="one")
        below.open.clear()
        with pytest.raises(StoreUnavailable):
            assert [key async for key, _ in store.entries("one")]

    async def test_a_cancelled_caller_does_not_cancel_the_operation(
        self, store: PromptStore, below: FaultyStore
    ) -> None:
        below.open.clear()
        caller = asyncio.create_task(store.put("key", {"n": 1}))
        await asyncio.sleep(DEADLINE / 4)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        below.open.set()
        await everything_has_ended(store)
        assert await store.get("key") == {"n": 1}

    async def test_what_is_late_does_not_replace_what_is_newer(self, store: PromptStore, below: FaultyStore) -> None:
        below.open.clear()
        with pytest.raises(StoreUnavailable):
            await store.put("key", {"n": "old"})
        with pytest.raises(StoreUnavailable):
            await store.put("key", {"n": "never begun"})
        assert below.operations == 1
        newer = asyncio.create_task(store.put("key", {"n": "new"}))
        await asyncio.sleep(DEADLINE / 4)
        below.open.set()
        await newer
        assert await store.get("key") == {"n": "new"}

    async def test_no_more_wait_for_a_hung_store_than_allowed(
        self, store: PromptStore, below: FaultyStore, causes: list[str]
    ) -> None:
        below.open.clear()
        await asyncio.gather(*(store.get(str(n)) for n in range(3)), return_exceptions=True)
        begun = below.operations
        async with asyncio.timeout(DEADLINE / 2):
            for _ in range(100):
                with pytest.raises(StoreUnavailable):
                    await store.get("key")
        assert below.operations == begun
        assert len(causes) == 103
        below.open.set()
        await everything_has_ended(store)
        assert await store.get("key") is None

    async def test_a_late_failure_is_only_logged(
        self, store: PromptStore, below: FaultyStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        below.open.clear()
        below.errors = [OSError(errno.EIO, "I/O error", "/data/the-key")]
        with pytest.raises(StoreUnavailable):
            await store.put("the-key", {"n": 1})
        with caplog.at_level(logging.INFO):
            below.open.set()
            await everything_has_ended(store)
        assert [record.__dict__["result"] for record in caplog.records] == ["OSError EIO"]
        assert "the-key" not in caplog.text


class IdentityProvider:
    """A real HTTP server that gives the answer it was told; `cut_short` ends the connection before the body does."""

    def __init__(self) -> None:
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body = b"{}"
        self.cut_short = False
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", 0)))
                self.send_response(provider.status)
                headers = {"Content-Type": "application/json", **provider.headers}
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(provider.body) + provider.cut_short))
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(provider.body)

            do_GET = do_POST  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Keep the test's output clean."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def answer(self, status: int, body: object = None, **headers: str) -> None:
        self.status, self.headers = status, {name.replace("_", "-"): value for name, value in headers.items()}
        self.body = json.dumps(body or {}).encode()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def idp() -> Iterator[IdentityProvider]:
    watch_outgoing_requests()
    provider = IdentityProvider()
    yield provider
    provider.close()


@pytest.fixture
async def outgoing() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=5) as client:
        yield client


class TestOutgoingRequests:
    @pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
    @pytest.mark.parametrize("method", ["GET", "POST"])
    async def test_an_answer_that_is_none_is_noted(
        self, idp: IdentityProvider, outgoing: httpx.AsyncClient, causes: list[str], method: str, status: int
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
        idp: IdentityProvider,
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
        self, idp: IdentityProvider, outgoing: httpx.AsyncClient, causes: list[str]
    ) -> None:
        idp.answer(403, X_RateLimit_Remaining="0")
        await outgoing.get(idp.url)
        assert len(causes) == 1

    @pytest.mark.parametrize("status", [400, 401])
    @pytest.mark.parametrize("error", ["temporarily_unavailable", "server_error", "slow_down", "invalid_client"])
    async def test_an_error_that_is_not_about_the_token_is_noted(
        self, idp: IdentityProvider, outgoing: httpx.AsyncClient, causes: list[str], status: int, error: str
    ) -> None:
        body = {"error": error, "error_description": "secret"}
        idp.answer(status, body)
        response = await outgoing.post(idp.url)
        assert response.json() == body
        assert response.elapsed.total_seconds() > 0
        assert causes == [f"127.0.0.1 answered {status} {error}"]

    async def test_the_body_can_still_be_read_in_every_way(
        self, idp: IdentityProvider, outgoing: httpx.AsyncClient, causes: list[str]
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
        self, idp: IdentityProvider, outgoing: httpx.AsyncClient, causes: list[str], body: bytes
    ) -> None:
        idp.answer(400)
        idp.body = body
        assert (await outgoing.post(idp.url)).content == body
        assert causes == []

    async def test_a_dead_host_is_noted(self, idp: IdentityProvider, outgoing: httpx.AsyncClient) -> None:
        with outage.watching() as causes, pytest.raises(httpx.ConnectError):
            await outgoing.get(f"http://127.0.0.1:{free_port()}/userinfo?secret=1")
        assert causes == ["127.0.0.1 could not be reached: ConnectError"]

    @pytest.mark.parametrize("status", [200, 400])
    async def test_a_connection_that_fails_within_the_body_is_noted(
        self, idp: IdentityProvider, outgoing: httpx.AsyncClient, causes: list[str], status: int
    ) -> None:
        idp.answer(status, {"error": "invalid_grant"})
        idp.cut_short = True
        with pytest.raises(httpx.RemoteProtocolError):
            await outgoing.post(idp.url)
        assert causes == ["127.0.0.1 could not be reached: RemoteProtocolError"]

    async def test_a_malformed_request_is_no_outage(self, idp: IdentityProvider, causes: list[str]) -> None:
        async with httpx.AsyncClient() as client:
            with pytest.raises(httpx.LocalProtocolError):
                await client.get(idp.url, headers={"Authorization": "Bearer with\nnewline"})
        assert causes == []

    async def test_what_was_issued_must_be_stored(self, idp: IdentityProvider, outgoing: httpx.AsyncClient) -> None:
        loop = asyncio.get_running_loop()
        with keeping_journal(hold_deletes=True) as journal:
            await outgoing.get(idp.url)
            assert journal.must_persist_until == 0
            await outgoing.post(idp.url)
        assert journal.must_persist_until == pytest.approx(loop.time() + PERSIST_FOR, abs=2)

    async def test_authlib_is_covered(self, idp: IdentityProvider, causes: list[str]) -> None:
        async with AsyncOAuth2Client("client", "secret") as client:
            idp.answer(400, {"error": "invalid_grant"})
            with pytest.raises(OAuthError):
                await client.refresh_token(f"{idp.url}/token", refresh_token="token")
            assert causes == []
            idp.answer(401, {"error": "invalid_client"})
            with pytest.raises(OAuthError, match="invalid_client"):
                await client.refresh_token(f"{idp.url}/token", refresh_token="token")
        assert causes == ["127.0.0.1 answered 401 invalid_client"]

    async def test_what_a_tool_cannot_reach_is_its_own_affair(self, idp: IdentityProvider, causes: list[str]) -> None:
        server: FastMCP = FastMCP("test")
        idp.answer(503)

        @server.tool
        async def call() -> int:
            async with httpx.AsyncClient() as client:
                return (await client.get(idp.url)).status_code

        async with Client(server) as client:
            assert (await client.call_tool("call")).data == 503
        assert causes == []


BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


def app_that(answer: Callable[[Request], Response], *, path: str = "/{path:path}") -> OutageAnswer:
    async def endpoint(request: Request) -> Response:
        return answer(request)

    inner = Starlette(routes=[Route(path, endpoint, methods=["GET", "POST"])])
    return OutageAnswer(inner, server_name="Test", callback_path="/auth/callback")


async def ask(app: OutageAnswer, path: str, method: str = "GET", **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        return await client.request(method, path, headers=headers)


def failing(answer: Callable[[], Response]) -> OutageAnswer:
    """Build an application for which something cannot be reached in each request."""

    def note_and_answer(_: Request) -> Response:
        outage.note("the store failed at get: OSError EIO")
        return answer()

    return app_that(note_and_answer)


def crash() -> Response:
    raise RuntimeError("secret")


class TestAnswer:
    @pytest.mark.parametrize("path", ["/token", "/register", "/revoke", "/authorize", "/consent", "/signin"])
    @pytest.mark.parametrize("status", [400, 401, 403, 404, 500])
    async def test_an_error_of_the_login_becomes_503(
        self, caplog: pytest.LogCaptureFixture, path: str, status: int
    ) -> None:
        inner = {"error": "invalid_grant", "internal": "secret"}
        response = await ask(failing(lambda: JSONResponse(inner, status)), f"{path}?code=secret", "POST")
        assert response.status_code == 503
        assert response.json()["error"] == "temporarily_unavailable"
        assert response.headers["retry-after"] == "2"
        assert response.headers["cache-control"] == "no-store"
        (record,) = (record for record in caplog.records if record.name == "mcp_holdfast.http.outage")
        assert record.__dict__["causes"] == "the store failed at get: OSError EIO"
        assert record.__dict__["path"] == path
        assert "secret" not in response.text + caplog.text

    @pytest.mark.parametrize("path", ["/token", "/mcp", "/auth/callback", "/.well-known/oauth-authorization-server"])
    async def test_an_exception_becomes_503(self, path: str) -> None:
        assert (await ask(failing(crash), path)).status_code == 503

    async def test_an_exception_without_an_outage_stays_what_it_was(self) -> None:
        with pytest.raises(RuntimeError):
            await ask(app_that(lambda _: crash()), "/token")

    @pytest.mark.parametrize("path", ["/token", "/mcp"])
    async def test_an_error_without_an_outage_stays_what_it_was(self, path: str) -> None:
        response = await ask(app_that(lambda _: JSONResponse({"error": "invalid_grant"}, 401)), path)
        assert (response.status_code, response.json()) == (401, {"error": "invalid_grant"})

    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("/token", 200),
            ("/token", 429),
            ("/token", 503),
            ("/signin", 303),
            ("/mcp", 200),
            ("/mcp", 202),
            ("/mcp", 400),
            ("/mcp", 404),
            ("/mcp", 503),
            ("/the-payload's-own", 502),
            ("/readyz", 503),
            ("/readyz", 500),
            ("/livez", 500),
        ],
    )
    async def test_what_is_no_failure_or_deliberate_passes_unchanged(self, path: str, status: int) -> None:
        response = await ask(failing(lambda: PlainTextResponse("as it was", status)), path)
        assert (response.status_code, response.text) == (status, "as it was")

    @pytest.mark.parametrize("status", [401, 403, 500])
    async def test_a_token_that_could_not_be_checked_is_not_refused(self, status: int) -> None:
        response = await ask(failing(lambda: PlainTextResponse("no", status)), "/mcp", "POST")
        assert response.status_code == 503
        assert "www-authenticate" not in response.headers

    @pytest.mark.parametrize("path", ["/authorize", "/consent", "/signin", "/auth/callback"])
    async def test_people_get_a_page(self, path: str) -> None:
        response = await ask(failing(lambda: PlainTextResponse("no", 500)), path, **BROWSER)
        assert response.status_code == 503
        assert response.headers["content-type"].startswith("text/html")
        assert response.headers["retry-after"] == "2"
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert "cannot reach what it needs right now" in response.text
        assert ("MCP client" in response.text) == (path == "/auth/callback")

    @pytest.mark.parametrize("accept", ["", "*/*", "application/json", "application/json, text/html;q=0.5"])
    async def test_machines_get_json(self, accept: str) -> None:
        response = await ask(failing(lambda: PlainTextResponse("no", 500)), "/authorize", Accept=accept)
        assert response.headers["content-type"] == "application/json"

    async def test_a_browser_gets_json_where_no_people_are_asked(self) -> None:
        response = await ask(failing(lambda: PlainTextResponse("no", 500)), "/token", "POST", **BROWSER)
        assert response.json()["error"] == "temporarily_unavailable"

    async def test_an_outage_is_not_handed_on_to_the_client_as_an_error(self) -> None:
        def send_back(error: str) -> OutageAnswer:
            return failing(lambda: RedirectResponse(f"http://localhost/callback?error={error}&state=x", 302))

        assert (await ask(send_back("server_error"), "/authorize")).status_code == 503
        assert (await ask(send_back("access_denied"), "/authorize")).status_code == 302

    async def test_a_stream_is_not_held_up_and_not_replaced(self) -> None:
        sent: list[str] = []

        async def events() -> AsyncIterator[str]:
            yield "first"
            assert sent[-1] == "http.response.body"
            outage.note("something")
            raise RuntimeError

        async def send(message: Any) -> None:
            sent.append(message["type"])

        async def receive() -> Any:
            await asyncio.Event().wait()

        scope = {"type": "http", "method": "GET", "path": "/mcp", "headers": [], "query_string": b""}
        with pytest.raises(RuntimeError):
            await app_that(lambda _: StreamingResponse(events()))(scope, receive, send)
        assert sent == ["http.response.start", "http.response.body"]

    async def test_other_protocols_pass(self) -> None:
        async def inner(scope: Any, receive: Any, send: Any) -> None:
            await send(scope["type"])

        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        app = OutageAnswer(inner, server_name="Test")
        await app({"type": "lifespan"}, None, send)  # type: ignore[arg-type]
        assert sent == ["lifespan"]


REDIRECT_URI = "http://localhost:18999/callback"


class Proxy:
    """A whole FastMCP server with OAuthProxy, in this process, in front of the identity provider."""

    def __init__(self, idp: IdentityProvider, store: AtomicStore, keys: RSAKeyPair) -> None:
        self.idp, self.keys = idp, keys
        provider = OAuthProxy(
            upstream_authorization_endpoint=f"{idp.url}/authorize",
            upstream_token_endpoint=f"{idp.url}/token",
            upstream_revocation_endpoint=f"{idp.url}/revoke",
            upstream_client_id="upstream",
            upstream_client_secret="secret",
            token_verifier=JWTVerifier(public_key=keys.public_key),
            base_url="http://localhost",
            client_storage=JournaledStore(store),
            jwt_signing_key=b"k" * 32,
            require_authorization_consent="external",
        )
        mcp = FastMCP("Test", auth=provider).http_app(path="/mcp")
        leases = Leases(store, lifetime=30)
        callback = CallbackEndpoint(mcp, path="/auth/callback", store=store, leases=leases, shield=Shield())
        app = OutageAnswer(callback, server_name="Test")
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")

    def issue(self) -> None:
        token = self.keys.create_token()
        self.idp.answer(200, {"access_token": token, "refresh_token": "r", "expires_in": 600, "token_type": "Bearer"})

    async def register(self) -> httpx.Response:
        body = {"redirect_uris": [REDIRECT_URI], "token_endpoint_auth_method": "none"}
        return await self.http.post("/register", json=body)

    async def authorize(self, client_id: str) -> httpx.Response:
        query = {"response_type": "code", "client_id": client_id, "redirect_uri": REDIRECT_URI, "state": "s"}
        # The challenge of the verifier in RFC 7636, appendix B.
        query |= {"code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM", "code_challenge_method": "S256"}
        return await self.http.get("/authorize", params=query)

    async def redeem(self, client_id: str, code: str) -> httpx.Response:
        form = {"grant_type": "authorization_code", "client_id": client_id, "code": code}
        form |= {"redirect_uri": REDIRECT_URI, "code_verifier": "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"}
        return await self.http.post("/token", data=form)

    async def refresh(self, client_id: str, token: str) -> httpx.Response:
        form = {"grant_type": "refresh_token", "client_id": client_id, "refresh_token": token}
        return await self.http.post("/token", data=form)

    async def call(self, token: str) -> int:
        return (await self.http.get("/mcp", headers={"Authorization": f"Bearer {token}"})).status_code


def parameter(response: httpx.Response, name: str) -> str:
    assert response.status_code == 302, response.text
    return parse_qs(urlsplit(response.headers["location"]).query)[name][0]


@pytest.fixture
async def proxy(idp: IdentityProvider, store: PromptStore) -> AsyncIterator[Proxy]:
    proxy = Proxy(idp, store, RSAKeyPair.generate())
    yield proxy
    await proxy.http.aclose()


class TestWithFastMCPsProxy:
    async def test_an_outage_of_the_identity_provider_ends_no_sign_in_and_no_session(
        self, proxy: Proxy, idp: IdentityProvider
    ) -> None:
        client_id = (await proxy.register()).json()["client_id"]
        callback = {"code": "upstream", "state": parameter(await proxy.authorize(client_id), "state")}
        idp.answer(503)
        page = await proxy.http.get("/auth/callback", params=callback, headers=BROWSER)
        assert page.status_code == 503
        assert "reload this page" in page.text
        proxy.issue()
        code = parameter(await proxy.http.get("/auth/callback", params=callback), "code")
        tokens = (await proxy.redeem(client_id, code)).json()
        for status, error in [(503, ""), (429, ""), (401, "invalid_client"), (400, "temporarily_unavailable")]:
            idp.answer(status, {"error": error})
            later = await proxy.refresh(client_id, tokens["refresh_token"])
            assert (later.status_code, later.json()["error"]) == (503, "temporarily_unavailable")
        idp.answer(400, {"error": "invalid_grant"})
        assert (await proxy.refresh(client_id, tokens["refresh_token"])).json()["error"] == "invalid_grant"
        proxy.issue()
        assert (await proxy.refresh(client_id, tokens["refresh_token"])).status_code == 200

    async def test_what_the_identity_provider_issued_is_stored_though_the_store_fails_for_a_while(
        self, proxy: Proxy, below: FaultyStore
    ) -> None:
        client_id = (await proxy.register()).json()["client_id"]
        state = parameter(await proxy.authorize(client_id), "state")
        proxy.issue()
        before_the_redemption = [None] * 4
        below.errors = [*before_the_redemption, *(OSError(errno.EIO, "I/O error") for _ in range(5))]
        callback = await proxy.http.get("/auth/callback", params={"code": "upstream", "state": state})
        assert below.errors == []
        assert (await proxy.redeem(client_id, parameter(callback, "code"))).status_code == 200

    async def test_an_outage_of_the_store_ends_no_session(self, proxy: Proxy, below: FaultyStore) -> None:
        def break_down() -> None:
            below.errors = [OSError(errno.EIO, "I/O error", "/data/a/file") for _ in range(100)]

        client_id = (await proxy.register()).json()["client_id"]
        state = parameter(await proxy.authorize(client_id), "state")
        proxy.issue()
        callback = await proxy.http.get("/auth/callback", params={"code": "upstream", "state": state})
        tokens = (await proxy.redeem(client_id, parameter(callback, "code"))).json()
        break_down()
        answers = [await proxy.register(), await proxy.authorize(client_id)]
        answers += [await proxy.refresh(client_id, tokens["refresh_token"])]
        answers += [await proxy.http.get("/auth/callback", params={"code": "upstream", "state": state})]
        answers += [await proxy.http.post("/revoke", data={"client_id": client_id, "token": tokens["refresh_token"]})]
        assert [answer.status_code for answer in answers] == [503] * 5
        assert not any("/data" in answer.text for answer in answers)
        assert await proxy.call(tokens["access_token"]) == 503
        below.errors = []
        assert await proxy.call("no token of ours") == 401
        assert (await proxy.refresh(client_id, tokens["refresh_token"])).status_code == 200


async def test_a_token_whose_keys_cannot_be_fetched_is_not_refused(idp: IdentityProvider) -> None:
    verifier = JWTVerifier(jwks_uri=f"{idp.url}/keys")
    app = OutageAnswer(FastMCP("Test", auth=verifier).http_app(path="/mcp"), server_name="Test")
    token = {"Authorization": f"Bearer {RSAKeyPair.generate().create_token()}"}
    idp.answer(503)
    assert (await ask(app, "/mcp", **token)).status_code == 503
    idp.answer(200, {"keys": []})
    assert (await ask(app, "/mcp", **token)).status_code == 401
