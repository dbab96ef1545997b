"""Each page of a sign-in says what happened and what to do, and is sent so that nothing can change or frame it."""

import html
import json
import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from harness.faults import StoreFaults
from harness.identity_provider import NODE
from harness.oauth import answer_parameters, hidden_fields
from harness.proxy_login import ProxyPerson, browser
from pages.conftest import SERVER_NAME
from pages.situations import (
    EXPIRED,
    INCOMPLETE,
    LOCAL_APPLICATION,
    NOBODY,
    SITUATIONS,
    Sites,
    Visit,
    authorization,
    callback,
    link,
    question,
)

HTML = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
MARKUP = "\"'><script>alert(1)</script><img src=https://evil.example/x>&amp;"
HTML_VALIDATE = Path(__file__).parent / "node_modules/html-validate/bin/html-validate.mjs"


def opened(visit: Visit) -> httpx.Response:
    return visit.http.get(visit.url, headers=HTML)


def heading_of(page: httpx.Response) -> str:
    (heading,) = re.findall(r"<h1>(.*?)</h1>", page.text)
    return html.unescape(heading)


def assert_is_one_of_our_pages(page: httpx.Response, status: int, heading: str) -> None:
    assert page.status_code == status, page.text
    assert heading_of(page).startswith(heading)
    assert '<html lang="en">' in page.text
    assert f"· {SERVER_NAME}</title>" in html.unescape(page.text)
    assert f'<p class="server">{html.escape(SERVER_NAME)}</p>' in page.text
    assert "<script" not in page.text
    assert not re.search(r"<[^<>]*\s(?:src|href|srcset|action|style|on\w+)=(?!\"signin\")", page.text)
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert page.headers["x-frame-options"] == "DENY"
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["content-type"] == "text/html; charset=utf-8"


def assert_is_an_error_page(page: httpx.Response, status: int, heading: str) -> None:
    assert_is_one_of_our_pages(page, status, heading)
    assert heading_of(page) == heading
    assert "<h2>What to do</h2>" in page.text
    assert "<li>" in page.text


def line_of(visit: Visit, page: httpx.Response) -> str:
    """The line of the log that the reference of a page leads to."""
    reference = re.search(r"reference <strong>(\w+)</strong>", page.text)
    assert reference
    (line,) = (line for line in visit.server.output().splitlines() if f"reference={reference[1]}" in line)
    return line


@pytest.fixture(scope="module")
def pages(all_sites: Sites) -> dict[str, tuple[Visit, httpx.Response]]:
    """The page of each situation."""
    found = {}
    for name, situation in SITUATIONS.items():
        visit = situation.reach(all_sites)
        found[name] = visit, opened(visit)
        all_sites.provider.heal()
    return found


@pytest.mark.parametrize("name", SITUATIONS)
def test_says_what_happened_and_what_to_do(pages: dict[str, tuple[Visit, httpx.Response]], name: str) -> None:
    situation = SITUATIONS[name]
    visit, page = pages[name]
    assert_is_one_of_our_pages(page, situation.status, situation.heading)
    assert situation.text in page.text
    if page.is_success:
        return
    assert_is_an_error_page(page, situation.status, situation.heading)
    line = line_of(visit, page)
    assert f"path={urlsplit(visit.url).path}" in line
    if situation.status == 503:
        assert int(page.headers["retry-after"]) > 0
    else:
        assert f"status={situation.status} page={situation.heading}" in line


def test_is_valid_html(pages: dict[str, tuple[Visit, httpx.Response]], tmp_path: Path) -> None:
    for name, (_, page) in pages.items():
        (tmp_path / f"{name}.html").write_text(page.text)
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({"root": True, "extends": ["html-validate:standard", "html-validate:a11y"]}))
    command: list[str | Path] = [NODE, HTML_VALIDATE, "--config", settings, "--max-warnings", "0"]
    found = subprocess.run([*command, *tmp_path.glob("*.html")], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


class TestPrograms:
    """What is no browser gets what it always got."""

    @pytest.mark.parametrize("accept", ["*/*", "application/json", "application/json, text/plain, */*"])
    @pytest.mark.parametrize("wrong", [{"client_id": NOBODY}, {"redirect_uri": "https://evil.example/"}])
    def test_are_answered_in_json_at_the_authorization_endpoint(
        self, sites: Sites, accept: str, wrong: dict[str, str]
    ) -> None:
        for server in (sites.local, sites.proxy):
            visit = authorization(server, **wrong)
            answer = visit.http.get(visit.url, headers={"Accept": accept})
            assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")

    @pytest.mark.parametrize("path", ["/token", "/register", "/revoke"])
    def test_are_answered_in_json_where_no_person_is(self, sites: Sites, path: str) -> None:
        for server in (sites.local, sites.proxy):
            answer = httpx.post(f"{server.url}{path}", data={"client_id": NOBODY}, headers=HTML)
            assert 400 <= answer.status_code < 500
            assert "error" in answer.json()


class TestWhatTheClientIsToldItself:
    """RFC 6749, section 4.1.2.1."""

    def test_of_a_wrong_request(self, sites: Sites) -> None:
        for server in (sites.local, sites.proxy):
            answer = opened(authorization(server, response_type="token"))
            assert answer.headers["location"].startswith(LOCAL_APPLICATION)
            assert answer_parameters(answer)["error"] == "unsupported_response_type"

    def test_of_a_denial(self, sites: Sites) -> None:
        visit = question(sites.proxy)
        form = hidden_fields(opened(visit).text)
        answer = visit.http.post(visit.url, data={**form, "action": "deny"}, headers=HTML)
        assert answer.headers["location"].startswith(LOCAL_APPLICATION)
        assert answer_parameters(answer).items() >= {"error": "access_denied", "state": "a state"}.items()

    def test_of_a_denial_at_the_identity_provider(self, sites: Sites) -> None:
        visit = callback(sites)
        denied = httpx.URL(visit.url).copy_remove_param("code").copy_set_param("error", "access_denied")
        answer = visit.http.get(denied, headers=HTML)
        assert answer.headers["location"].startswith(LOCAL_APPLICATION)
        assert answer_parameters(answer)["error"] == "access_denied"


class TestStrangersWords:
    @pytest.mark.parametrize("kind", ["local", "proxy"])
    def test_are_text_on_the_page_that_asks(self, sites: Sites, kind: str) -> None:
        page = opened(question(getattr(sites, kind), name=MARKUP))
        assert_is_one_of_our_pages(page, 200, "Allow an application")
        assert f"<dd>{html.escape(MARKUP).replace('&quot;', '&#34;').replace('&#x27;', '&#39;')}</dd>" in page.text

    def test_are_on_no_page_of_an_error(self, sites: Sites) -> None:
        visits = [
            authorization(sites.proxy, client_id=MARKUP),
            authorization(sites.local, client_id=MARKUP),
            authorization(sites.proxy, redirect_uri=f"https://evil.example/{MARKUP}"),
            authorization(sites.proxy, client_id=NOBODY, state=MARKUP),
            link(sites.proxy, "/consent", txn_id=MARKUP),
            link(sites.proxy, "/auth/callback", error=MARKUP, error_description=MARKUP, state=MARKUP),
            link(sites.proxy, "/auth/callback", code=MARKUP, state=MARKUP),
            link(sites.local, "/signin", request=MARKUP),
        ]
        for visit in visits:
            page = opened(visit)
            assert page.status_code == 400
            assert "evil.example" not in page.text
            assert "alert(1)" not in page.text

    def test_are_in_the_log_on_the_line_of_the_page(self, sites: Sites) -> None:
        visit = link(sites.proxy, "/auth/callback", error="x\ny", error_description="AADSTS50105: not assigned")
        assert line_of(visit, opened(visit)).endswith(r"details=x\x0ay AADSTS50105: not assigned")

    def test_make_no_long_lines_in_the_log(self, sites: Sites) -> None:
        visit = link(sites.proxy, "/auth/callback", error_description="n" * 5000, error="x")
        assert len(line_of(visit, opened(visit))) < 600


class TestConsent:
    """How FastMCP makes sure that the person who was asked is the one who answers."""

    def test_tells_who_asks_for_what_and_where_the_browser_goes(self, sites: Sites) -> None:
        text = opened(question(sites.proxy, scope="openid offline_access")).text
        assert "<dd>Claude Code</dd>" in text
        assert "a program on this computer (localhost:3118)" in text
        assert "openid, offline_access" in text
        assert "Take care" not in text

    def test_names_a_website_by_its_host(self, sites: Sites) -> None:
        page = opened(question(sites.proxy, "https://mcp.example.com/callback"))
        assert "<dd>mcp.example.com</dd>" in page.text
        assert "Take care" not in page.text

    def test_needs_the_token_of_its_form(self, sites: Sites) -> None:
        visit = question(sites.proxy)
        form = hidden_fields(opened(visit).text)
        answer = visit.http.post(visit.url, data={**form, "csrf_token": "another", "action": "approve"}, headers=HTML)
        assert_is_an_error_page(answer, 400, EXPIRED)

    def test_needs_the_cookie_of_its_form(self, sites: Sites) -> None:
        visit = question(sites.proxy)
        form = hidden_fields(opened(visit).text)
        answer = browser().post(visit.url, data={**form, "action": "approve"}, headers=HTML)
        assert_is_an_error_page(answer, 403, "This sign-in was begun in another browser")

    def test_needs_an_answer(self, sites: Sites) -> None:
        visit = question(sites.proxy)
        form = hidden_fields(opened(visit).text)
        assert_is_an_error_page(visit.http.post(visit.url, data=form, headers=HTML), 400, EXPIRED)

    def test_is_good_for_one_sign_in(self, sites: Sites) -> None:
        visit = question(sites.proxy)
        person = ProxyPerson(quick=True, http=visit.http)
        assert answer_parameters(person.approve(visit.url))["code"]
        assert_is_an_error_page(opened(visit), 400, EXPIRED)


class TestOtherRequests:
    @pytest.mark.parametrize("path", ["/consent", "/signin"])
    def test_a_huge_form_is_not_read(self, sites: Sites, path: str) -> None:
        server = sites.proxy if path == "/consent" else sites.local
        answer = httpx.post(f"{server.url}{path}", data={"x": "x" * 100_000}, headers=HTML)
        assert_is_an_error_page(answer, 413, "The request is too long")

    @pytest.mark.parametrize("path", ["/consent", "/signin"])
    def test_a_file_is_not_read(self, sites: Sites, path: str) -> None:
        server = sites.proxy if path == "/consent" else sites.local
        answer = httpx.post(f"{server.url}{path}", files={"x": b"x"}, headers=HTML)
        assert answer.status_code == 400
        assert "connect again" in answer.text

    def test_a_method_that_is_not_known_is_refused(self, sites: Sites) -> None:
        answer = httpx.post(f"{sites.proxy.url}/auth/callback", data={"code": "x"}, headers=HTML)
        assert_is_an_error_page(answer, 405, INCOMPLETE)
        assert "GET" in answer.headers["allow"]

    def test_a_path_of_the_other_login_is_the_payloads_own(self, sites: Sites) -> None:
        for url in (f"{sites.local.url}/consent", f"{sites.proxy.url}/signin"):
            answer = httpx.get(url, headers=HTML)
            assert (answer.status_code, answer.text) == (404, "Not Found")


class TestTheStoreFails:
    @pytest.mark.parametrize("kind", ["local", "proxy"])
    def test_at_the_beginning(self, sites: Sites, store_faults: StoreFaults, kind: str) -> None:
        visit = authorization(getattr(sites, kind))
        store_faults.fail()
        assert_says_later(visit)

    def test_at_the_consent_page(self, sites: Sites, store_faults: StoreFaults) -> None:
        visit = question(sites.proxy)
        store_faults.fail()
        assert_says_later(visit)
        store_faults.heal()
        assert opened(visit).status_code == 200

    def test_when_the_answer_is_sent(self, sites: Sites, store_faults: StoreFaults) -> None:
        visit = question(sites.proxy)
        form = {**hidden_fields(opened(visit).text), "action": "approve"}
        store_faults.fail()
        assert visit.http.post(visit.url, data=form, headers=HTML).status_code == 503
        store_faults.heal()
        assert visit.http.post(visit.url, data=form, headers=HTML).status_code == 302

    def test_on_the_way_back(self, sites: Sites, store_faults: StoreFaults) -> None:
        visit = callback(sites)
        store_faults.fail()
        assert_says_later(visit)
        store_faults.heal()
        assert answer_parameters(opened(visit))["code"]


def assert_says_later(visit: Visit) -> None:
    page = opened(visit)
    assert_is_an_error_page(page, 503, "The server cannot reach what it needs right now")
    assert int(page.headers["retry-after"]) > 0
    assert "causes=" in line_of(visit, page)
