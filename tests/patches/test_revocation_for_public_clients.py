import httpx
import pytest
from fastmcp.server.auth.providers.in_memory import InMemoryOAuthProvider
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import RevocationOptions
from mcp.shared.auth import OAuthClientInformationFull
from pydantic import AnyUrl
from starlette.applications import Starlette


@pytest.mark.parametrize("hint", [{}, {"token_type_hint": "access_token"}], ids=["without hint", "with hint"])
async def test_a_client_without_a_secret_can_revoke_its_token(hint: dict[str, str]) -> None:
    provider = InMemoryOAuthProvider(
        base_url="http://localhost:8000", revocation_options=RevocationOptions(enabled=True)
    )
    await provider.register_client(
        OAuthClientInformationFull(
            client_id="public",
            redirect_uris=[AnyUrl("http://localhost:1234/callback")],
            token_endpoint_auth_method="none",
        )
    )
    provider.access_tokens["issued"] = AccessToken(token="issued", client_id="public", scopes=[])
    app = Starlette(routes=provider.get_routes())

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost:8000") as client:
        answer = await client.post("/revoke", data={"token": "issued", "client_id": "public", **hint})

    assert answer.status_code == 200, answer.text
    assert await provider.load_access_token("issued") is None
