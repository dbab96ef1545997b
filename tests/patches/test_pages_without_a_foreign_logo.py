"""A page of a server without an icon shows none, instead of one from another host."""

import pytest
from fastmcp.server.auth.handlers.authorize import create_unregistered_client_html
from fastmcp.server.auth.oauth_proxy.ui import create_consent_html, create_error_html

PAGES = {
    "consent": create_consent_html("client", "http://localhost:1234/callback", ["openid"], "transaction", "token"),
    "error": create_error_html("An error", "What happened"),
    "unknown client": create_unregistered_client_html("client", "/register", "/.well-known/"),
}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_no_picture(page: str) -> None:
    assert "<img" not in PAGES[page]
