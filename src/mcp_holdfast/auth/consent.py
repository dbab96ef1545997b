"""The page on which FastMCP's proxies ask whether a client may sign in, in the style of the other pages.

What it asks, and how it makes sure who answers (the transaction, its CSRF token, the cookies), stays FastMCP's: only
the two functions are replaced with which it renders the page and sends it.
"""

from collections.abc import Sequence

from fastmcp.server.auth.oauth_proxy import consent
from starlette.responses import HTMLResponse

from mcp_holdfast.auth.destinations import Destination
from mcp_holdfast.pages import html_of, response_of


def show_consent_in_our_style() -> None:
    """From now on, show our page; to be called at the start."""
    consent.create_consent_html = _consent_html  # type: ignore[assignment, attr-defined]
    consent.create_secure_html_response = _response  # type: ignore[attr-defined]


def _consent_html(
    *,
    redirect_uri: str,
    scopes: Sequence[str],
    txn_id: str,
    csrf_token: str,
    client_name: str | None,
    server_name: str | None,
    cimd_domain: str | None,
    **_: object,
) -> str:
    """Take what FastMCP's function of this purpose takes.

    Left out are pictures, links, and the client's id, which it chose or was given: it tells a person nothing. So is
    `consent_csp_policy`: the policy of our pages holds.
    """
    return html_of(
        "consent.html",
        server_name=server_name or "this server",
        client_name=client_name,
        published_at=cimd_domain,
        destination=Destination(redirect_uri),
        scopes=scopes,
        transaction=txn_id,
        csrf_token=csrf_token,
    )


def _response(html: str, status_code: int = 200) -> HTMLResponse:
    """Let the form lead anywhere: browsers apply `form-action` to each redirect that follows.

    Those of an identity provider may lead to others of its hosts, which nobody here knows.
    """
    return response_of(html, status_code, form_targets=None)
