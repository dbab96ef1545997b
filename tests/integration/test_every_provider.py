"""Every provider class that FastMCP ships, built from variables as people write them: what arrived in the instance."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import pytest
from fastmcp.server import auth
from fastmcp.server.auth import AuthProvider, OAuthProxy, TokenVerifier, oidc_proxy
from key_value.aio.stores.memory import MemoryStore
from pydantic import AnyHttpUrl, SecretStr, TypeAdapter

from harness.identity_provider import IdentityProvider
from mcp_holdfast.auth.providers import SHIPPED, plan_provider
from mcp_holdfast.auth.providers.names import BASE_CLASSES, prefix_of
from mcp_holdfast.auth.providers.parameters import AS_WRITTEN
from mcp_holdfast.settings import Environment

BASE_URL = "https://mcp.example.com"
CLIENT = {"CLIENT_ID": "an-id", "CLIENT_SECRET": "a,secret%"}
UPSTREAM = {"_upstream_client_id": "an-id", "_upstream_client_secret": SecretStr("a,secret%")}
PROXY = {
    "ALLOWED_CLIENT_REDIRECT_URIS": "https://a.example.com/cb, https://b.example.com/cb",
    "CONSENT_CSP_POLICY": "default-src 'self', x",
    "FALLBACK_REFRESH_TOKEN_EXPIRY_SECONDS": "30d",
    "FASTMCP_ACCESS_TOKEN_EXPIRY_SECONDS": "1d",
    "FORWARD_RESOURCE": "Off",
    "REDIRECT_PATH": "/back",
    "REQUIRE_AUTHORIZATION_CONSENT": "Remember",
    "RESOURCE_BASE_URL": "https://resource.example.com",
    "TOKEN_EXPIRY_THRESHOLD_SECONDS": "2m",
}
"""What all proxies take."""

PROXY_GOT = {
    "_allowed_client_redirect_uris": ["https://a.example.com/cb", "https://b.example.com/cb"],
    "_consent_csp_policy": "default-src 'self', x",
    "_fallback_refresh_token_expiry_seconds": 30 * 86400,
    "_fastmcp_access_token_expiry_seconds": 86400,
    "_forward_resource": False,
    "_redirect_path": "/back",
    "_require_authorization_consent": "remember",
    "base_url": AnyHttpUrl(BASE_URL),
    "resource_base_url": AnyHttpUrl("https://resource.example.com"),
    "_token_expiry_threshold_seconds": 120,
}
IDP = "https://idp.example.com"
JWKS = {"JWKS_URI": f"{IDP}/jwks", "ISSUER": "one two", "AUDIENCE": '["a", "b"]', "JWKS_REFRESH_INTERVAL": "0.5"}
JWKS_GOT = {"jwks_uri": f"{IDP}/jwks", "issuer": ["one", "two"], "audience": ["a", "b"], "_jwks_refresh_interval": 0.5}
METADATA = {"RESOURCE_NAME": "A, b", "RESOURCE_DOCUMENTATION": "https://docs.example.com", "SCOPES_SUPPORTED": "r w"}
METADATA_GOT = {
    "resource_name": "A, b",
    "resource_documentation": AnyHttpUrl("https://docs.example.com"),
    "_scopes_supported": ["r", "w"],
}


@dataclass(frozen=True)
class Case:
    """The variables of a provider without their prefix, and what its attributes are to be then."""

    variables: Mapping[str, str]
    got: Mapping[str, Any]
    others: Mapping[str, str] = field(default_factory=dict)


CASES: Mapping[str, Case] = {
    "MultiAuth": Case(
        {"SERVER": "github", "VERIFIERS": "jwt, introspection", "REQUIRED_SCOPES": "user"},
        {
            "server._upstream_client_id": "an-id",
            "verifiers.0.jwks_uri": f"{IDP}/jwks",
            "verifiers.1.client_secret": "s",
            "required_scopes": ["user"],
        },
        {f"FASTMCP_SERVER_AUTH_GITHUB_{name}": value for name, value in CLIENT.items()}
        | {
            "FASTMCP_SERVER_AUTH_JWT_JWKS_URI": f"{IDP}/jwks",
            "FASTMCP_SERVER_AUTH_INTROSPECTION_INTROSPECTION_URL": f"{IDP}/introspect",
            "FASTMCP_SERVER_AUTH_INTROSPECTION_CLIENT_ID": "c",
            "FASTMCP_SERVER_AUTH_INTROSPECTION_CLIENT_SECRET": "s",
        },
    ),
    "RemoteAuthProvider": Case(
        {"TOKEN_VERIFIER": "githubtokenverifier", "AUTHORIZATION_SERVERS": f"{IDP} https://b.example.com", **METADATA},
        {
            "token_verifier.timeout_seconds": 7,
            "authorization_servers": TypeAdapter(list[AnyHttpUrl], config=AS_WRITTEN).validate_python(
                [IDP, "https://b.example.com"]
            ),
            **METADATA_GOT,
        },
        {"FASTMCP_SERVER_AUTH_GITHUBTOKENVERIFIER_TIMEOUT_SECONDS": "7s"},
    ),
    "OAuthProxy": Case(
        {
            "UPSTREAM_AUTHORIZATION_ENDPOINT": f"{IDP}/authorize",
            "UPSTREAM_TOKEN_ENDPOINT": f"{IDP}/token",
            "UPSTREAM_REVOCATION_ENDPOINT": f"{IDP}/revoke",
            "UPSTREAM_CLIENT_ID": "an-id",
            "UPSTREAM_CLIENT_SECRET": "a,secret%",
            "EXTRA_AUTHORIZE_PARAMS": '{"prompt": "consent"}',
            "EXTRA_TOKEN_PARAMS": "resource,one",
            "FORWARD_PKCE": "no",
            "TOKEN_ENDPOINT_AUTH_METHOD": "client_secret_post",
            "FALLBACK_ACCESS_TOKEN_EXPIRY_SECONDS": "15m",
            **PROXY,
        },
        {
            "_upstream_authorization_endpoint": f"{IDP}/authorize",
            "_upstream_token_endpoint": f"{IDP}/token",
            "_upstream_revocation_endpoint": f"{IDP}/revoke",
            "_extra_authorize_params": {"prompt": "consent"},
            "_extra_token_params": {"resource": "one"},
            "_forward_pkce": False,
            "_token_endpoint_auth_method": "client_secret_post",
            "_fallback_access_token_expiry_seconds": 900,
            "_token_validator.public_key": "-----BEGIN, PUBLIC",
            **UPSTREAM,
        },
        {"FASTMCP_SERVER_AUTH_JWTVERIFIER_PUBLIC_KEY": "-----BEGIN, PUBLIC"},
    ),
    "OIDCProxy": Case(
        {**CLIENT, "CONFIG_URL": "DISCOVERY", "REQUIRED_SCOPES": "openid", "VERIFY_ID_TOKEN": "yes", **PROXY},
        {"_verify_id_token": True, "required_scopes": ["openid"], "_token_validator.audience": "an-id", **UPSTREAM},
    ),
    "Auth0Provider": Case(
        {**CLIENT, "CONFIG_URL": "DISCOVERY", "AUDIENCE": "https://api.example.com", **PROXY},
        {"_extra_token_params": {"audience": "https://api.example.com"}, "required_scopes": ["openid"], **UPSTREAM},
    ),
    "AWSCognitoProvider": Case(
        {**CLIENT, "USER_POOL_ID": "eu-west-1_pool", "AWS_REGION": "eu-west-1", **PROXY},
        {
            "user_pool_id": "eu-west-1_pool",
            "aws_region": "eu-west-1",
            "_token_validator._expected_client_id": "an-id",
            **UPSTREAM,
        },
    ),
    "AWSCognitoTokenVerifier": Case(JWKS, {**JWKS_GOT, "audience": None, "_expected_client_id": ["a", "b"]}),
    "AzureJWTVerifier": Case(
        {"CLIENT_ID": "an-id", "TENANT_ID": "tenant", "REQUIRED_SCOPES": "read write"},
        {"audience": ["an-id", "api://an-id"], "required_scopes": ["read", "write"]},
    ),
    "AzureProvider": Case(
        {
            **CLIENT,
            "TENANT_ID": "tenant",
            "REQUIRED_SCOPES": "read,write",
            "ADDITIONAL_AUTHORIZE_SCOPES": "User.Read offline_access",
            "BASE_AUTHORITY": "login.microsoftonline.us",
            "ENABLE_CIMD": "0",
            **PROXY,
        },
        {
            "_upstream_token_endpoint": "https://login.microsoftonline.us/tenant/oauth2/v2.0/token",
            "_token_validator.required_scopes": ["read", "write"],
            "additional_authorize_scopes": ["User.Read", "offline_access"],
            "_cimd_manager": None,
            **UPSTREAM,
        },
    ),
    "ClerkProvider": Case(
        {**CLIENT, "DOMAIN": "x.clerk.accounts.dev", "TIMEOUT_SECONDS": "1m", "VALID_SCOPES": "a b", **PROXY},
        {"_token_validator.domain": "x.clerk.accounts.dev", "_token_validator.timeout_seconds": 60, **UPSTREAM},
    ),
    "ClerkTokenVerifier": Case(
        {"DOMAIN": "x.clerk.accounts.dev", **CLIENT}, {"domain": "x.clerk.accounts.dev", "_client_secret": "a,secret%"}
    ),
    "DebugTokenVerifier": Case({"SCOPES": "a,b", "CLIENT_ID": "c"}, {"scopes": ["a", "b"], "client_id": "c"}),
    "DescopeProvider": Case(
        {"CONFIG_URL": "https://api.descope.com/v1/apps/agentic/P1/M1/.well-known/openid-configuration", **METADATA},
        {"project_id": "P1", "token_verifier.audience": "P1", **METADATA_GOT},
    ),
    "DiscordProvider": Case(
        {**CLIENT, "REQUIRED_SCOPES": "identify,email", **PROXY},
        {"_token_validator.expected_client_id": "an-id", "required_scopes": ["identify", "email"], **UPSTREAM},
    ),
    "DiscordTokenVerifier": Case({"EXPECTED_CLIENT_ID": "an-id"}, {"expected_client_id": "an-id"}),
    "GitHubProvider": Case(
        {**CLIENT, "CACHE_TTL_SECONDS": "5m", "TIMEOUT_SECONDS": "20", **PROXY},
        {"_token_validator._cache._ttl": 300, "_token_validator.timeout_seconds": 20, **UPSTREAM},
    ),
    "GitHubTokenVerifier": Case({"REQUIRED_SCOPES": "user"}, {"required_scopes": ["user"]}),
    "GoogleProvider": Case(
        {**CLIENT, "EXTRA_AUTHORIZE_PARAMS": '{"hd": "example.com"}', **PROXY},
        {"_extra_authorize_params": {"access_type": "offline", "prompt": "consent", "hd": "example.com"}, **UPSTREAM},
    ),
    "GoogleTokenVerifier": Case({"TIMEOUT_SECONDS": "3"}, {"timeout_seconds": 3}),
    "HuggingFaceProvider": Case({**CLIENT, "TIMEOUT_SECONDS": "3", **PROXY}, UPSTREAM),
    "HuggingFaceTokenVerifier": Case({"TIMEOUT_SECONDS": "3"}, {"timeout_seconds": 3}),
    "InMemoryOAuthProvider": Case(
        {"CLIENT_REGISTRATION_OPTIONS": '{"enabled": true, "valid_scopes": ["a"]}'},
        {"client_registration_options.enabled": True, "client_registration_options.valid_scopes": ["a"]},
    ),
    "IntrospectionTokenVerifier": Case(
        {"INTROSPECTION_URL": f"{IDP}/introspect", **CLIENT, "CLIENT_AUTH_METHOD": "client_secret_post"},
        {"client_secret": "a,secret%", "client_auth_method": "client_secret_post", "client_id": "an-id"},
    ),
    "JWTVerifier": Case({**JWKS, "SSRF_SAFE": "TRUE"}, {**JWKS_GOT, "ssrf_safe": True}),
    "StaticTokenVerifier": Case(
        {"TOKENS": '{"a-token": {"client_id": "c", "scopes": ["read"]}}'},
        {"tokens": {"a-token": {"client_id": "c", "scopes": ["read"]}}},
    ),
    "KeycloakAuthProvider": Case(
        {"REALM_URL": f"{IDP}/realms/one", "AUDIENCE": "a b", "REQUIRED_SCOPES": "read,write"},
        {"token_verifier.audience": ["a", "b"], "token_verifier.required_scopes": ["read", "write"]},
    ),
    "OCIProvider": Case(
        {**CLIENT, "CONFIG_URL": "DISCOVERY", "AUDIENCE": "one", **PROXY},
        {"_extra_authorize_params": {"audience": "one"}, **UPSTREAM},
    ),
    "PropelAuthProvider": Case(
        {
            "AUTH_URL": f"{IDP}/",
            "INTROSPECTION_CLIENT_ID": "c",
            "INTROSPECTION_CLIENT_SECRET": "s,s",
            "TOKEN_INTROSPECTION_OVERRIDES": '{"timeout_seconds": 4}',
            **METADATA,
        },
        {"token_verifier.client_secret": "s,s", "token_verifier.timeout_seconds": 4, **METADATA_GOT},
    ),
    "ScalekitProvider": Case(
        {"ENVIRONMENT_URL": IDP, "RESOURCE_ID": "res_1", **METADATA},
        {"environment_url": IDP, "token_verifier.audience": "res_1", **METADATA_GOT},
    ),
    "SupabaseProvider": Case(
        {"PROJECT_URL": IDP, "ALGORITHM": "rs256", "AUTH_ROUTE": "/a/b", **METADATA},
        {"token_verifier.algorithm": "RS256", "auth_route": "a/b", **METADATA_GOT},
    ),
    "AuthKitProvider": Case(
        {"AUTHKIT_DOMAIN": "https://x.authkit.app", **METADATA},
        {"token_verifier.issuer": "https://x.authkit.app", **METADATA_GOT},
    ),
    "WorkOSProvider": Case(
        {**CLIENT, "AUTHKIT_DOMAIN": "x.authkit.app", "REQUIRED_SCOPES": "openid", **PROXY},
        {"_token_validator.authkit_domain": "https://x.authkit.app", "required_scopes": ["openid"], **UPSTREAM},
    ),
    "WorkOSTokenVerifier": Case({"AUTHKIT_DOMAIN": f"{IDP}/"}, {"authkit_domain": IDP}),
}


def class_name(path: str) -> str:
    return path.rpartition(".")[2]


def shipped_classes() -> set[type[AuthProvider]]:
    names = [module.name for module in pkgutil.walk_packages(auth.__path__, f"{auth.__name__}.")]
    members = [member for name in names for member in vars(importlib.import_module(name)).values()]
    classes = {member for member in members if inspect.isclass(member) and issubclass(member, AuthProvider)}
    return classes - set(BASE_CLASSES)


def attribute(instance: Any, path: str) -> Any:
    for name in path.split("."):
        instance = instance[int(name)] if name.isdigit() else attrgetter(name)(instance)
    return instance


@pytest.fixture(scope="module")
def discovery_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    provider = IdentityProvider(tmp_path_factory.mktemp("identity-provider")).start()
    yield provider.configuration_url
    provider.stop()


def test_no_class_is_missing() -> None:
    shipped = {cls.__name__ for cls in shipped_classes()}
    assert set(CASES) == shipped
    assert {class_name(path) for path in SHIPPED} == shipped


def build(name: str, case: Case, prefix: str, discovery_url: str) -> AuthProvider:
    variables = {f"{prefix}{variable}": value for variable, value in case.variables.items()}
    variables = {variable: discovery_url if value == "DISCOVERY" else value for variable, value in variables.items()}
    # The debug verifier and the in-memory provider let anyone in.
    environment = Environment({**variables, **case.others, "HOLDFAST_ALLOW_ANONYMOUS": "true"})
    plan = plan_provider(name, environment, base_url=BASE_URL)
    return plan.build(client_storage=MemoryStore(), jwt_signing_key=b"k" * 32)


@pytest.mark.parametrize("path", SHIPPED, ids=class_name)
def test_it_is_built_and_has_what_was_set(path: str, discovery_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[class_name(path)]
    real = oidc_proxy.OIDCConfiguration.get_oidc_configuration

    def from_the_test_provider(url: AnyHttpUrl, **options: Any) -> oidc_proxy.OIDCConfiguration:
        # Cognito's is always Amazon's.
        assert str(url) == discovery_url or url.host == "cognito-idp.eu-west-1.amazonaws.com"
        return real(AnyHttpUrl(discovery_url), **options)

    monkeypatch.setattr(oidc_proxy.OIDCConfiguration, "get_oidc_configuration", from_the_test_provider)
    built = build(path, case, prefix_of(class_name(path)), discovery_url)
    assert type(built).__name__ == class_name(path)
    expected = {**(PROXY_GOT if isinstance(built, OAuthProxy) else {}), **case.got}
    if not isinstance(built, TokenVerifier):
        expected["base_url"] = AnyHttpUrl(BASE_URL)
    assert {name: attribute(built, name) for name in expected} == expected
