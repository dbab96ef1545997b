"""A refresh token that is not good is refused with 400 (RFC 6749, section 5.2)."""

import httpx
from fastmcp.server.auth.providers.in_memory import InMemoryOAuthProvider
from mcp.shared.auth import OAuthClientInformationFull
from pydantic import AnyUrl
from starlette.applications import Starlette


async def test_a_refresh_token_that_is_not_good_is_400() -> None:
    provider = InMemoryOAuthProvider(base_url="http://localhost:8000")
    await provider.register_client(
        OAuthClientInformationFull(
            client_id="public",
            redirect_uris=[AnyUrl("http://localhost:1234/callback")],
            token_endpoint_auth_method="none",
        )
    )
    form = {"grant_type": "refresh_token", "refresh_token": "of nobody", "client_id": "public"}
    transport = httpx.ASGITransport(Starlette(routes=provider.get_routes()))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as client:
        answer = await client.post("/token", data=form)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
