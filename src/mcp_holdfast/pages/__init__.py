"""Pages for people: HTML without scripts, in one style, that nothing from elsewhere can change or frame."""

import base64
import hashlib

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse

TEMPLATES = Environment(
    loader=PackageLoader("mcp_holdfast.pages"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)
STYLE = TEMPLATES.get_template("style.css").render()
STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()


def page(template: str, *, server_name: str, status: int, form_targets: str = "", **values: object) -> HTMLResponse:
    """Render a template; `form_targets` are the sources that its form may lead to, as in CSP, beside this server."""
    html = TEMPLATES.get_template(template).render(style=STYLE, server_name=server_name, **values)
    policy = (
        f"default-src 'none'; style-src 'sha256-{STYLE_HASH}'; base-uri 'none'; frame-ancestors 'none'; "
        f"form-action 'self' {form_targets}".strip()
    )
    headers = {
        "Content-Security-Policy": policy,
        "X-Frame-Options": "DENY",
        "X-Content-Type-Options": "nosniff",
        # The URLs of these pages carry signed requests and codes; nobody else is to see them.
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }
    return HTMLResponse(html, status, headers)
