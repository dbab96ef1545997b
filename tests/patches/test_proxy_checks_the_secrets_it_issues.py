"""OAuthProxy stores a client as it was told that it is registered: with its secret."""

import httpx
import pytest
from fastmcp.server.auth.oauth_proxy import OAuthProxy
from fastmcp.server.auth.providers.jwt import StaticTokenVerifier
from key_value.aio.stores.memory import MemoryStore
from starlette.applications import Starlette


@pytest.mark.parametrize("method", ["client_secret_post", "client_secret_basic", None])
async def test_who_was_given_a_secret_must_show_it(method: str | None) -> None:
    provider = OAuthProxy(
        upstream_authorization_endpoint="https://idp.example.com/authorize",
        upstream_token_endpoint="https://idp.example.com/token",
        upstream_client_id="upstream",
        upstream_client_secret="secret",
        token_verifier=StaticTokenVerifier({}),
        base_url="http://localhost:8000",
        client_storage=MemoryStore(),
        jwt_signing_key=b"k" * 32,
    )
    metadata = {"redirect_uris": ["http://localhost:1234/callback"], "token_endpoint_auth_method": method}
    form = {"grant_type": "refresh_token", "refresh_token": "any"}
    transport = httpx.ASGITransport(Starlette(routes=provider.get_routes()))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as client:
        registered = (await client.post("/register", json=metadata)).json()
        assert registered["client_secret"]
        answer = await client.post("/token", data={**form, "client_id": registered["client_id"]})
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
