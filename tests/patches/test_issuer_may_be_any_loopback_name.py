"""An issuer without https may have any name of this machine, and no other (RFC 8414, section 2)."""

import pytest
from mcp.server.auth.routes import validate_issuer_url
from pydantic import AnyHttpUrl


@pytest.mark.parametrize("host", ["one.localhost", "[::1]"])
def test_a_loopback_name_needs_no_https_and_any_other_does(host: str) -> None:
    for local in (host, "localhost", "127.0.0.1"):
        validate_issuer_url(AnyHttpUrl(f"http://{local}:8000/path"))
    for remote in ("mcp.example.com", "localhost.example.com", "notlocalhost", "[2001:db8::1]"):
        with pytest.raises(ValueError, match="must be HTTPS"):
            validate_issuer_url(AnyHttpUrl(f"http://{remote}:8000"))
