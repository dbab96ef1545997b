"""A server at which strangers register clients, in the process of the test: a provider of FastMCP's with our limits."""

import json
from typing import Any

import httpx
from fastmcp import FastMCP
from fastmcp.server.auth.oauth_proxy import OAuthProxy
from fastmcp.server.auth.providers.jwt import StaticTokenVerifier

from mcp_holdfast.auth.registrations import DEFAULT_ALLOW_LIST, Registrations
from mcp_holdfast.http.registration import RegistrationLimits
from mcp_holdfast.storage.atomic import AtomicStore
from mcp_holdfast.storage.journal import JournaledStore

CLIENTS = "mcp-oauth-proxy-clients"
CALLBACK = "http://localhost:4711/callback"
WEBSITE = "https://claude.ai/api/mcp/auth_callback"
DAY = 86400.0


class Site:
    """A server with a few slots and hardly any limit of rate, unless told otherwise."""

    def __init__(self, store: AtomicStore, *, slots: int = 50, lifetime: float = DAY, **limits: int) -> None:
        self.store = store
        self.provider = OAuthProxy(
            upstream_authorization_endpoint="https://idp.example.com/authorize",
            upstream_token_endpoint="https://idp.example.com/token",
            upstream_client_id="upstream",
            upstream_client_secret="secret",
            token_verifier=StaticTokenVerifier({}),
            base_url="http://localhost",
            client_storage=JournaledStore(store),
            jwt_signing_key=b"k" * 32,
            require_authorization_consent="external",
        )
        self.bare = FastMCP("Test", auth=self.provider).http_app(path="/mcp")
        self.registrations = self.restarted(slots=slots, lifetime=lifetime)
        limits = {"per_minute": 1_000_000, "per_minute_of_all": 1_000_000, **limits}
        self.app = RegistrationLimits(
            self.bare, registrations=self.registrations, allow_list=DEFAULT_ALLOW_LIST, scopes=None, **limits
        )

    def restarted(self, *, slots: int = 50, lifetime: float = DAY) -> Registrations:
        return Registrations(self.store, clients=self.provider, most_unused=slots, lifetime=lifetime)

    async def post(
        self, body: Any, *, address: str = "192.0.2.1", path: str = "/register", **headers: str
    ) -> httpx.Response:
        transport = httpx.ASGITransport(self.app, client=(address, 1234))
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            return await http.post(path, content=content, headers=headers)

    async def register(self, *, address: str = "192.0.2.1", **metadata: Any) -> str:
        response = await self.post(described(**metadata), address=address)
        assert response.status_code == 201, response.text
        return str(response.json()["client_id"])

    async def lives(self, client_id: str) -> bool:
        return await self.provider.get_client(client_id) is not None

    async def count(self, collection: str) -> int:
        return len([key async for key, _ in self.store.entries(collection)])

    async def expiry(self, collection: str, key: str) -> float | None:
        _, ttl = await self.store.ttl(key, collection=collection)
        return ttl


def described(**metadata: Any) -> dict[str, Any]:
    return {
        "client_name": "A client",
        "redirect_uris": [WEBSITE],
        "token_endpoint_auth_method": "none",
        **metadata,
    }
