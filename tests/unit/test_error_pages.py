"""Errors of a sign-in that a real server shows only under load or when it is wrong itself."""

from collections.abc import Awaitable, Callable

import httpx
import pytest
from fastmcp.server.auth.oauth_proxy import consent
from fastmcp.server.auth.providers.in_memory import InMemoryOAuthProvider
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcp_holdfast import outage
from mcp_holdfast.auth.consent import show_consent_in_our_style
from mcp_holdfast.auth.destinations import Destination
from mcp_holdfast.auth.refusals import Refusals
from mcp_holdfast.http.errors import ErrorPages
from mcp_holdfast.http.limits import AuthorizationLimits
from mcp_holdfast.http.outage import OutageAnswer

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
Answer = Callable[[Request], Awaitable[Response]]


def pages_round(app: ASGIApp) -> ErrorPages:
    return ErrorPages(app, server_name="Test", refusals=Refusals(InMemoryOAuthProvider(base_url="http://localhost")))


def application(answer: Answer) -> Starlette:
    return Starlette(routes=[Route("/authorize", answer, methods=["GET", "POST"])])


async def ask(app: ASGIApp, **headers: str) -> httpx.Response:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.get("/authorize", headers=headers)


async def succeed(_: Request) -> Response:
    return PlainTextResponse("done")


async def crash(_: Request) -> Response:
    raise RuntimeError("secret")


async def fail_to_reach_something(_: Request) -> Response:
    outage.note("the store failed at get: OSError EIO")
    return JSONResponse({"error": "server_error"}, 500)


async def crash_at_once(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("secret")


class TestTooManySignIns:
    async def test_are_told_when_to_come_back(self) -> None:
        app = pages_round(AuthorizationLimits(application(succeed), per_minute=2))
        answers = [await ask(app, **BROWSER) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        seconds = int(answers[2].headers["retry-after"])
        assert f"<li>Wait {seconds} seconds.</li>" in answers[2].text
        assert "Too many sign-ins" in answers[2].text
        assert answers[2].headers["cache-control"] == "no-store"

    async def test_are_told_in_json_where_a_program_asks(self) -> None:
        app = pages_round(AuthorizationLimits(application(succeed), per_minute=1))
        assert (await ask(app)).text == "done"
        refused = await ask(app)
        assert (refused.status_code, refused.json()["error"]) == (429, "invalid_request")


class TestAMistakeOfOurs:
    @pytest.mark.parametrize("app", [application(crash), crash_at_once], ids=["in a route", "in a layer"])
    async def test_is_a_page_that_gives_nothing_away(self, app: ASGIApp) -> None:
        page = await ask(pages_round(app), **BROWSER)
        assert page.status_code == 500
        assert "Something went wrong on the server" in page.text
        assert "secret" not in page.text

    @pytest.mark.parametrize("app", [application(crash), crash_at_once], ids=["in a route", "in a layer"])
    async def test_is_still_raised_for_the_log(self, app: ASGIApp) -> None:
        transport = httpx.ASGITransport(pages_round(app))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            for headers in ({}, BROWSER):
                with pytest.raises(RuntimeError, match="secret"):
                    await client.get("/authorize", headers=headers)

    async def test_for_which_something_could_not_be_reached_is_an_outage(self) -> None:
        app = OutageAnswer(pages_round(application(fail_to_reach_something)), server_name="Test")
        page = await ask(app, **BROWSER)
        assert page.status_code == 503
        assert "Nothing is lost" in page.text


async def test_who_has_gone_is_sent_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def send_nothing(scope: Scope, receive: Receive, send: Send) -> None:
        """What our layers do for a browser that hung up."""

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    scope = {"type": "http", "method": "GET", "path": "/authorize", "query_string": b"", "headers": []}
    await pages_round(send_nothing)(scope, receive, send)
    assert sent == []
    assert "error page" not in caplog.text


def test_nobody_signs_in_where_no_provider_is_ours() -> None:
    assert Refusals(None).paths == frozenset()


@pytest.mark.parametrize(
    ("uri", "description", "warns"),
    [
        ("http://localhost:3118/callback", "a program on this computer (localhost:3118)", False),
        ("http://127.0.0.1/callback", "a program on this computer (127.0.0.1)", False),
        ("http://[::1]:4711/callback", "a program on this computer ([::1]:4711)", False),
        ("https://claude.ai/api/mcp/auth_callback", "claude.ai", False),
        ("https://claude.ai@evil.example/callback", "evil.example", False),
        ("http://intranet.example:8080/callback", "intranet.example:8080", True),
        ("cursor://anysphere.cursor-mcp/callback", "the app that opens cursor: links", True),
    ],
)
def test_a_destination_is_told_so_that_a_person_can_judge_it(uri: str, description: str, *, warns: bool) -> None:
    destination = Destination(uri)
    assert destination.description == description
    assert bool(destination.warning) == warns


def test_the_consent_page_names_the_host_that_vouches_for_an_application(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("create_consent_html", "create_secure_html_response"):
        monkeypatch.setattr(consent, name, None)
    show_consent_in_our_style()
    page = consent.create_consent_html(  # type: ignore[attr-defined]
        client_id="https://app.example.com/client.json",
        redirect_uri="http://localhost:3118/callback",
        scopes=["read", "write"],
        txn_id="transaction",
        csrf_token="token",
        client_name=None,
        server_name=None,
        server_icon_url="https://elsewhere.example/icon.png",
        server_website_url="https://elsewhere.example/",
        csp_policy="",
        is_cimd_client=True,
        cimd_domain="app.example.com",
    )
    assert "<dd>app.example.com</dd>" in page
    assert "(scopes: read, write)" in page
    assert "it gave no name" in page
    assert "elsewhere.example" not in page
