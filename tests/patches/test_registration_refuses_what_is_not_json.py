"""A registration that is not JSON gets 400 invalid_client_metadata."""

from typing import Any

import httpx
import pytest
from mcp.server.auth.handlers.register import RegistrationHandler
from mcp.server.auth.settings import ClientRegistrationOptions
from starlette.applications import Starlette
from starlette.routing import Route


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"9" * 5000])
async def test_a_body_that_is_not_json_is_refused(body: bytes) -> None:
    provider: Any = None  # not reached
    handler = RegistrationHandler(provider, ClientRegistrationOptions(enabled=True))
    app = Starlette(routes=[Route("/register", handler.handle, methods=["POST"])])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        response = await client.post("/register", content=body)
    assert response.status_code == 400
    assert response.json()["error"] == "invalid_client_metadata"
