"""Answers to a registration: the expiry of a secret, the code for redirect URIs, and that nobody keeps a copy."""

from typing import Any

import httpx
import pytest
from fastmcp.server.auth.providers.in_memory import InMemoryOAuthProvider
from mcp.server.auth.settings import ClientRegistrationOptions
from starlette.applications import Starlette

REDIRECT_URIS = ["http://localhost:1234/callback"]


async def register(*, lifetime: int | None = None, **metadata: Any) -> httpx.Response:
    options = ClientRegistrationOptions(enabled=True, client_secret_expiry_seconds=lifetime)
    provider = InMemoryOAuthProvider(base_url="http://localhost:8000", client_registration_options=options)
    transport = httpx.ASGITransport(Starlette(routes=provider.get_routes()))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as client:
        return await client.post("/register", json={"redirect_uris": REDIRECT_URIS, **metadata})


async def test_a_secret_that_does_not_expire_says_so() -> None:
    assert (await register()).json()["client_secret_expires_at"] == 0


async def test_a_client_without_a_secret_is_told_nothing_of_its_expiry() -> None:
    registered = (await register(lifetime=60, token_endpoint_auth_method="none")).json()
    assert "client_secret_expires_at" not in registered


@pytest.mark.parametrize("uris", [["no URL"], [], "http://localhost:1234/callback"])
async def test_what_is_wrong_with_redirect_uris_has_a_code_of_its_own(uris: Any) -> None:
    refused = await register(redirect_uris=uris)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_redirect_uri")


async def test_nobody_may_keep_a_copy_of_the_credentials() -> None:
    assert (await register()).headers.get("cache-control") == "no-store"
