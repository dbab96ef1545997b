"""Pages for people: HTML without scripts, in one style, that nothing from elsewhere can change or frame."""

import base64
import hashlib

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse

from mcp_holdfast.pages.errors import ErrorPage

TEMPLATES = Environment(
    loader=PackageLoader("mcp_holdfast.pages"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)
STYLE = TEMPLATES.get_template("style.css").render()
STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()


def page(
    template: str, *, server_name: str, status: int, form_targets: str | None = "", **values: object
) -> HTMLResponse:
    """Render a template; `form_targets` as in `response_of`."""
    return response_of(html_of(template, server_name=server_name, **values), status, form_targets=form_targets)


def error_page(error: ErrorPage, *, server_name: str, status: int, reference: str) -> HTMLResponse:
    """Render what went wrong; `reference` is to be found in the log."""
    return page("error.html", server_name=server_name, status=status, error=error, reference=reference)


def html_of(template: str, *, server_name: str, **values: object) -> str:
    return TEMPLATES.get_template(template).render(style=STYLE, server_name=server_name, **values)


def response_of(html: str, status: int, *, form_targets: str | None = "") -> HTMLResponse:
    """Send one of our pages with the headers that all of them have.

    `form_targets` are the sources that its form may lead to, as in CSP, beside this server; None is any.
    """
    policy = f"default-src 'none'; style-src 'sha256-{STYLE_HASH}'; base-uri 'none'; frame-ancestors 'none'"
    if form_targets is not None:
        policy += f"; form-action 'self' {form_targets}".rstrip()
    headers = {
        "Content-Security-Policy": policy,
        "X-Frame-Options": "DENY",
        "X-Content-Type-Options": "nosniff",
        # The URLs of these pages carry signed requests and codes; nobody else is to see them.
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }
    return HTMLResponse(html, status, headers)
