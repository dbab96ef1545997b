"""Requests for which something could not be reached: their answer is "later", and it ends no session."""

import asyncio
import errno
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from fastmcp import FastMCP
from fastmcp.server.auth.oauth_proxy import OAuthProxy
from fastmcp.server.auth.providers.jwt import JWTVerifier, RSAKeyPair
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from harness.faulty_store import FaultyStore
from harness.stub_identity_provider import StubIdentityProvider
from mcp_holdfast import outage
from mcp_holdfast.auth.exchange import CallbackEndpoint
from mcp_holdfast.auth.shield import Shield
from mcp_holdfast.http.outage import OutageAnswer
from mcp_holdfast.storage.atomic import AtomicStore, Leases
from mcp_holdfast.storage.deadlines import PromptStore
from mcp_holdfast.storage.journal import JournaledStore

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
    async def test_people_get_a_page(self, caplog: pytest.LogCaptureFixture, path: str) -> None:
        response = await ask(failing(lambda: PlainTextResponse("no", 500)), path, **BROWSER)
        assert response.status_code == 503
        assert response.headers["content-type"].startswith("text/html")
        assert response.headers["retry-after"] == "2"
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert "cannot reach what it needs right now" in response.text
        assert "go back to your application" in response.text
        (record,) = (record for record in caplog.records if record.name == "mcp_holdfast.http.outage")
        assert record.__dict__["reference"] in response.text

    async def test_a_stranger_makes_no_long_lines_in_the_log(self, caplog: pytest.LogCaptureFixture) -> None:
        assert (await ask(failing(crash), f"/{'x' * 60_000}")).status_code == 503
        (record,) = [record for record in caplog.records if record.message == "answered 503"]
        assert len(vars(record)["path"]) == 200

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

    def __init__(self, idp: StubIdentityProvider, store: AtomicStore, keys: RSAKeyPair) -> None:
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
def below() -> FaultyStore:
    return FaultyStore()


@pytest.fixture
async def proxy(idp: StubIdentityProvider, below: FaultyStore) -> AsyncIterator[Proxy]:
    proxy = Proxy(idp, PromptStore(below), RSAKeyPair.generate())
    yield proxy
    await proxy.http.aclose()


class TestWithFastMCPsProxy:
    async def test_an_outage_of_the_identity_provider_ends_no_sign_in_and_no_session(
        self, proxy: Proxy, idp: StubIdentityProvider
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


async def test_a_token_whose_keys_cannot_be_fetched_is_not_refused(idp: StubIdentityProvider) -> None:
    verifier = JWTVerifier(jwks_uri=f"{idp.url}/keys")
    app = OutageAnswer(FastMCP("Test", auth=verifier).http_app(path="/mcp"), server_name="Test")
    token = {"Authorization": f"Bearer {RSAKeyPair.generate().create_token()}"}
    idp.answer(503)
    assert (await ask(app, "/mcp", **token)).status_code == 503
    idp.answer(200, {"keys": []})
    assert (await ask(app, "/mcp", **token)).status_code == 401
