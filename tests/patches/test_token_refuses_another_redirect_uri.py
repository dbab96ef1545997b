"""A code with another redirect_uri than it was asked for with is invalid_grant (RFC 6749, section 5.2)."""

import time

import httpx
from fastmcp.server.auth.providers.in_memory import InMemoryOAuthProvider
from mcp.server.auth.provider import AuthorizationCode
from mcp.shared.auth import OAuthClientInformationFull
from pydantic import AnyUrl
from starlette.applications import Starlette

REDIRECT_URI = "http://localhost:1234/callback"


async def test_a_code_of_another_redirect_uri_is_an_invalid_grant() -> None:
    provider = InMemoryOAuthProvider(base_url="http://localhost:8000")
    await provider.register_client(
        OAuthClientInformationFull(
            client_id="public", redirect_uris=[AnyUrl(REDIRECT_URI)], token_endpoint_auth_method="none"
        )
    )
    provider.auth_codes["a code"] = AuthorizationCode(
        code="a code",
        scopes=[],
        expires_at=time.time() + 60,
        client_id="public",
        code_challenge="of some verifier",
        redirect_uri=AnyUrl(REDIRECT_URI),
        redirect_uri_provided_explicitly=True,
    )
    form = {
        "grant_type": "authorization_code",
        "code": "a code",
        "client_id": "public",
        "code_verifier": "v" * 43,
        "redirect_uri": f"{REDIRECT_URI}/elsewhere",
    }
    transport = httpx.ASGITransport(Starlette(routes=provider.get_routes()))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as client:
        answer = await client.post("/token", data=form)
    assert answer.json()["error"] == "invalid_grant", answer.text
    assert "redirect_uri" in answer.json()["error_description"]
