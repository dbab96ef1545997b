"""Where codes may be sent: to the user's own machine, to well-known clients and to what was added."""

from typing import Any

import pytest
from mcp.shared.auth import InvalidRedirectUriError, OAuthClientInformationFull
from pydantic import AnyUrl

from harness.registration_site import CALLBACK, CLIENTS, WEBSITE, Site, described
from mcp_holdfast.auth.local.grants import Grants, Issuer
from mcp_holdfast.auth.providers import plan_provider
from mcp_holdfast.auth.registrations import DEFAULT_ALLOW_LIST, RedirectAllowList
from mcp_holdfast.settings import ConfigurationError, Environment, without_credentials
from mcp_holdfast.storage import open_store
from mcp_holdfast.storage.atomic import AtomicStore

ISSUER = Issuer("http://localhost")


class TestRedirectUris:
    @pytest.mark.parametrize(
        "uris",
        [
            [CALLBACK],
            ["http://127.0.0.1/"],
            ["http://[::1]:9/a/b?c=d"],
            ["https://claude.com/api/mcp/auth_callback"],
            ["claude://claude.ai/mcp-auth-callback/sdk"],
            ["https://chatgpt.com/connector_platform_oauth_redirect"],
            ["https://chatgpt.com/connector/oauth/OUbdUMlL15Ct"],
            # What VS Code and Cursor send (microsoft/vscode#278512, erp-mafia/accounted#2225).
            ["https://insiders.vscode.dev/redirect", "https://vscode.dev/redirect", "http://127.0.0.1:33418/"],
            [
                "cursor://anysphere.cursor-mcp/oauth/callback",
                "https://www.cursor.com/agents/mcp/oauth/callback",
                "http://localhost:8787/callback",
            ],
        ],
    )
    async def test_of_programs_and_well_known_clients_are_accepted(self, site: Site, uris: list[str]) -> None:
        response = await site.post(described(redirect_uris=uris))
        assert response.status_code == 201
        assert response.json()["redirect_uris"] == [str(AnyUrl(uri)) for uri in uris]

    @pytest.mark.parametrize(
        "uri",
        [
            "https://evil.example/callback",
            "https://claude.ai/elsewhere",
            "https://claude.ai.evil.example/api/mcp/auth_callback",
            "https://claude.ai:444/api/mcp/auth_callback",
            "https://x@claude.ai/api/mcp/auth_callback",
            "https://chatgpt.com/connector/oauth/%2e%2e/%2e%2e/g",
            "https://chatgpt.com/connector/oauth/..%2f..%2fg",
            "http://claude.ai/api/mcp/auth_callback",
            "http://localhost.evil.example/",
            "http://localhost:80@evil.example/",
            "http:\\\\evil.example\\localhost",
            "http://2130706434/",
            "myapp://oauth/callback",
            "cursor://somebody.else/oauth/callback",
            "javascript:alert(1)",
        ],
    )
    async def test_that_lead_elsewhere_are_refused_with_what_to_do(self, site: Site, uri: str) -> None:
        response = await site.post(described(redirect_uris=[CALLBACK, uri]))
        assert response.status_code == 400
        assert response.json()["error"] == "invalid_redirect_uri"
        assert without_credentials(str(AnyUrl(uri))) in response.json()["error_description"]
        assert "HOLDFAST_REDIRECT_URIS" in response.json()["error_description"]
        assert response.headers["access-control-allow-origin"] == "*"
        assert await site.count(CLIENTS) == 0

    def test_can_be_added(self) -> None:
        more = DEFAULT_ALLOW_LIST.and_also(["https://app.example.com/oauth/*"])
        assert more.allows(AnyUrl("https://app.example.com/oauth/callback"))
        assert more.allows(AnyUrl(WEBSITE))
        assert not more.allows(AnyUrl("https://app.example.com/elsewhere"))

    async def test_registered_before_there_was_a_list_are_not_followed_by_the_local_login(
        self, store: AtomicStore
    ) -> None:
        registered = [AnyUrl("https://old.example/callback"), AnyUrl(CALLBACK)]
        grants = Grants(store, issuer=ISSUER)
        await grants.register(OAuthClientInformationFull(client_id="old", redirect_uris=registered))
        client = await grants.client("old")
        assert client
        assert client.validate_redirect_uri(AnyUrl(CALLBACK)) == AnyUrl(CALLBACK)
        with pytest.raises(InvalidRedirectUriError, match="HOLDFAST_REDIRECT_URIS"):
            client.validate_redirect_uri(registered[0])
        allowing = Grants(
            store, issuer=ISSUER, allow_list=DEFAULT_ALLOW_LIST.and_also(["https://old.example/callback"])
        )
        client = await allowing.client("old")
        assert client
        assert client.validate_redirect_uri(registered[0]) == registered[0]
        with pytest.raises(InvalidRedirectUriError, match="not registered"):
            client.validate_redirect_uri(AnyUrl(WEBSITE))


class TestTheProvidersOwnList:
    own = "FASTMCP_SERVER_AUTH_AZURE_ALLOWED_CLIENT_REDIRECT_URIS"
    azure = {f"FASTMCP_SERVER_AUTH_AZURE_{name}": "x" for name in ("CLIENT_ID", "CLIENT_SECRET", "TENANT_ID")} | {
        "FASTMCP_SERVER_AUTH_AZURE_REQUIRED_SCOPES": "read"
    }

    def patterns(self, **variables: str) -> tuple[list[str], RedirectAllowList]:
        """What the provider is given, and what registrations are held to."""
        plan = plan_provider("azure", Environment(self.azure | variables), base_url="https://mcp.example.com")
        more = DEFAULT_ALLOW_LIST.and_also(["https://more.example/"])
        provider: Any = plan.build(client_storage=open_store("memory"), jwt_signing_key=b"k" * 32, allow_list=more)
        return provider._allowed_client_redirect_uris, plan.allow_list(more)

    def test_is_ours_where_none_is_set(self) -> None:
        given, held_to = self.patterns()
        assert given == list(held_to.patterns)
        assert {WEBSITE, "https://more.example/"} <= set(given)

    def test_replaces_ours_and_is_named_to_clients(self) -> None:
        given, held_to = self.patterns(**{self.own: "https://own.example/callback"})
        assert given == list(held_to.patterns) == ["https://own.example/callback"]
        assert self.own in held_to.refusal(AnyUrl(WEBSITE))

    def test_cannot_stand_beside_ours(self) -> None:
        with pytest.raises(ConfigurationError, match="Keep one of the two"):
            self.patterns(**{self.own: "https://a.example/", "HOLDFAST_REDIRECT_URIS": "https://b.example/"})
