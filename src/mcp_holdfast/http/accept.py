"""What a client would like to read."""

import re
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import Scope


def prefers_html(scope: Scope) -> bool:
    """Whether the Accept header ranks HTML above JSON, as those of browsers do (RFC 9110, section 12.5.1)."""
    accept = Headers(scope=scope).get("accept", "")
    html = _quality(accept, ("text/html", "text/*", "*/*"))
    return html > _quality(accept, ("application/json", "application/*", "*/*"))


def _quality(accept: str, ranges: Sequence[str]) -> float:
    """The weight of the first of these media ranges that the header has; 0 where it has none."""
    weights = {}
    for item in accept.lower().split(","):
        media_range, *parameters = (part.strip() for part in item.split(";"))
        given = next((parameter[2:] for parameter in parameters if parameter.startswith("q=")), "1")
        weights[media_range] = float(given) if re.fullmatch(r"[01](\.\d{0,3})?", given) else 0.0
    return next((weights[media_range] for media_range in ranges if media_range in weights), 0.0)
