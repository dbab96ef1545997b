"""No page of a login loads anything from another host: nobody else is told who signs in, and none is waited for."""

import re
from urllib.parse import urlsplit

import httpx
import pytest

from harness.oauth import OAuthClient
from rfc.conftest import Login

BROWSER = {"Accept": "text/html,*/*;q=0.8"}
LOADS = re.compile(r"""<(?!a\b)[^>]*\b(?:src|href|srcset|data|poster|action)\s*=\s*["']?([^"'\s>]+)|url\(([^)]*)\)""")


def pages_of(login: Login, client: OAuthClient) -> dict[str, httpx.Response]:
    http = login.http
    expired = {"txn_id": "of nobody", "request": "of nobody"}
    pages = {
        "sign-in or consent": http.get(client.authorize().headers["location"], headers=BROWSER),
        "unknown client": http.get("/authorize", params={"client_id": "x"}, headers=BROWSER),
        "expired": http.get("/consent" if login.provider else "/signin", params=expired, headers=BROWSER),
        "expired form": http.post("/consent" if login.provider else "/signin", data=expired, headers=BROWSER),
    }
    if login.provider:
        pages["callback without a code"] = http.get("/auth/callback", headers=BROWSER)
        pages["callback with an error"] = http.get("/auth/callback", params={"error": "x"}, headers=BROWSER)
        pages["unknown sign-in"] = http.get("/auth/callback", params={"code": "c", "state": "s"}, headers=BROWSER)
    return {name: page for name, page in pages.items() if "html" in page.headers["content-type"]}


def test_loads_only_what_is_its_own(login: Login, client: OAuthClient) -> None:
    pages = pages_of(login, client)
    assert len(pages) >= (6 if login.provider else 3)
    for name, page in pages.items():
        hosts = {urlsplit(found[0] or found[1]).netloc for found in LOADS.findall(page.text)}
        assert hosts <= {"", urlsplit(login.server.url).netloc}, name


def test_has_a_policy_by_which_browsers_would_not(login: Login, client: OAuthClient) -> None:
    for name, page in pages_of(login, client).items():
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy, name
        assert "frame-ancestors 'none'" in policy, name
        sources = re.findall(r"(\S+-src) ([^;]+)", policy)
        assert {source for _, found in sources for source in found.split() if "'" not in source} <= {"data:"}, name


@pytest.mark.parametrize("path", ["/", "/readyz"])
def test_other_answers_are_left_alone(login: Login, path: str) -> None:
    assert "content-security-policy" not in login.http.get(path).headers
