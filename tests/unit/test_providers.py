"""FASTMCP_SERVER_AUTH and its parameters: the provider that was meant, or a message that says what is wrong."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
from fastmcp.server.auth import AuthProvider, OAuthProxy, RemoteAuthProvider
from fastmcp.server.auth.providers.introspection import IntrospectionTokenVerifier
from fastmcp.server.auth.providers.jwt import JWTVerifier
from key_value.aio.stores.memory import MemoryStore
from pydantic import AnyHttpUrl, SecretStr
from starlette.applications import Starlette

from mcp_holdfast.auth.providers import SHIPPED, SHORT_NAMES, ProviderPlan, plan_provider, provider_of
from mcp_holdfast.auth.providers.names import find_provider
from mcp_holdfast.auth.providers.parameters import Unresolved, convert, parameters_of
from mcp_holdfast.auth.registrations import DEFAULT_ALLOW_LIST
from mcp_holdfast.settings import ConfigurationError, Environment, Problem, Settings, load_settings, read_environment

BASE_URL = "https://mcp.example.com"
KEY = b"k" * 32
AZURE = "fastmcp.server.auth.providers.azure.AzureProvider"
GITHUB = "fastmcp.server.auth.providers.github.GitHubProvider"
AZURE_MINIMUM = {"CLIENT_ID": "client", "CLIENT_SECRET": "a-secret", "TENANT_ID": "tenant", "REQUIRED_SCOPES": "read"}
PROXY = {
    "EXA_AUTH_UPSTREAM_AUTHORIZATION_ENDPOINT": "https://idp.example.com/authorize",
    "EXA_AUTH_UPSTREAM_TOKEN_ENDPOINT": "https://idp.example.com/token",
    "EXA_AUTH_UPSTREAM_CLIENT_ID": "client",
    "EXA_AUTH_UPSTREAM_CLIENT_SECRET": "a-secret",
}
JWKS = {"EXA_AUTH_JWKS_URI": "https://idp.example.com/jwks"}


def plan(name: str, variables: dict[str, str]) -> ProviderPlan:
    return plan_provider(name, Environment(variables), base_url=BASE_URL)


def build(name: str, variables: dict[str, str], store: MemoryStore | None = None) -> AuthProvider:
    return plan(name, variables).build(client_storage=store or MemoryStore(), jwt_signing_key=KEY)


def azure(**changes: str) -> dict[str, str]:
    return {f"FASTMCP_SERVER_AUTH_AZURE_{name}": value for name, value in {**AZURE_MINIMUM, **changes}.items()}


def problems(name: str, variables: dict[str, str]) -> tuple[Problem, ...]:
    with pytest.raises(ConfigurationError) as error:
        build(name, variables)
    return error.value.problems


def only_problem(name: str, variables: dict[str, str]) -> Problem:
    (problem,) = problems(name, variables)
    return problem


class TestNames:
    @pytest.mark.parametrize("path", SHIPPED)
    def test_every_annotation_resolves(self, path: str) -> None:
        parameters = parameters_of(find_provider(path).provider_class)
        assert [name for name, parameter in parameters.items() if parameter.annotation is Unresolved] == []

    @pytest.mark.parametrize("word", SHORT_NAMES)
    def test_a_short_name_means_its_class_and_begins_its_variables(self, word: str) -> None:
        for name in (word, word.upper()):
            named = find_provider(name)
            assert named == find_provider(word)
            assert named.provider_class is find_provider(SHORT_NAMES[word]).provider_class
            assert named.prefixes[0] == f"FASTMCP_SERVER_AUTH_{word.upper()}_"
            assert f"FASTMCP_SERVER_AUTH_{named.provider_class.__name__.upper()}_" in named.prefixes

    @pytest.mark.parametrize(
        ("word", "name"),
        [
            ("auth0", "Auth0Provider"),
            ("authkit", "AuthKitProvider"),
            ("aws_cognito", "AWSCognitoProvider"),
            ("azure", "AzureProvider"),
            ("clerk", "ClerkProvider"),
            ("cognito", "AWSCognitoProvider"),
            ("descope", "DescopeProvider"),
            ("discord", "DiscordProvider"),
            ("entra", "AzureProvider"),
            ("github", "GitHubProvider"),
            ("google", "GoogleProvider"),
            ("huggingface", "HuggingFaceProvider"),
            ("introspection", "IntrospectionTokenVerifier"),
            ("jwt", "JWTVerifier"),
            ("keycloak", "KeycloakAuthProvider"),
            ("multi", "MultiAuth"),
            ("oauth", "OAuthProxy"),
            ("oci", "OCIProvider"),
            ("oidc", "OIDCProxy"),
            ("propelauth", "PropelAuthProvider"),
            ("remote", "RemoteAuthProvider"),
            ("scalekit", "ScalekitProvider"),
            ("supabase", "SupabaseProvider"),
            ("workos", "WorkOSProvider"),
        ],
    )
    def test_every_service_has_a_short_name(self, word: str, name: str) -> None:
        assert find_provider(word).provider_class.__name__ == name

    @pytest.mark.parametrize(
        "prefix",
        [
            "AUTH0",
            "AUTHKITPROVIDER",
            "AWS_COGNITO",
            "AZURE",
            "DESCOPEPROVIDER",
            "DISCORD",
            "GITHUB",
            "GOOGLE",
            "INTROSPECTION",
            "JWT",
            "OCI",
            "SCALEKITPROVIDER",
            "SUPABASE",
            "WORKOS",
        ],
    )
    def test_the_prefixes_of_fastmcp_2_14_are_those_of_the_same_classes(self, prefix: str) -> None:
        path = SHORT_NAMES[prefix.lower()]
        assert f"FASTMCP_SERVER_AUTH_{prefix}_" in find_provider(path).prefixes

    @pytest.mark.parametrize(
        ("path", "prefix"),
        [
            ("fastmcp.server.auth.providers.auth0.Auth0Provider", "FASTMCP_SERVER_AUTH_AUTH0_"),
            ("fastmcp.server.auth.providers.aws.AWSCognitoProvider", "FASTMCP_SERVER_AUTH_AWS_COGNITO_"),
            ("fastmcp.server.auth.providers.azure.AzureProvider", "FASTMCP_SERVER_AUTH_AZURE_"),
            ("fastmcp.server.auth.providers.google.GoogleProvider", "FASTMCP_SERVER_AUTH_GOOGLE_"),
            ("fastmcp.server.auth.providers.workos.AuthKitProvider", "FASTMCP_SERVER_AUTH_AUTHKITPROVIDER_"),
            ("exa.fastmcp.server.auth.providers.jwt.JWTVerifier", "EXA_AUTH_"),
            ("exa.fastmcp.server.auth.providers.introspection.IntrospectionTokenVerifier", "EXA_AUTH_"),
            ("exa.fastmcp.server.auth.auth.RemoteAuthProvider", "EXA_AUTH_"),
            ("exa.fastmcp.server.auth.oauth_proxy.OAuthProxy", "EXA_AUTH_"),
            ("exa.fastmcp.server.auth.oauth_proxy.proxy.OAuthProxy", "EXA_AUTH_"),
        ],
    )
    def test_the_names_and_prefixes_of_exasol_are_those_of_the_same_classes(self, path: str, prefix: str) -> None:
        named = find_provider(path)
        assert named.provider_class.__name__ == path.rpartition(".")[2]
        assert prefix in named.prefixes

    @pytest.mark.parametrize(
        ("path", "name"),
        [
            ("fastmcp.server.auth.oauth_proxy.OAuthProxy", "OAuthProxy"),
            ("fastmcp.server.auth.oauth_proxy.proxy.OAuthProxy", "OAuthProxy"),
            ("fastmcp.server.auth.OAuthProxy", "OAuthProxy"),
            ("fastmcp.server.auth.oidc_proxy.OIDCProxy", "OIDCProxy"),
            ("fastmcp.server.auth.auth.RemoteAuthProvider", "RemoteAuthProvider"),
            ("fastmcp.server.auth.RemoteAuthProvider", "RemoteAuthProvider"),
            ("fastmcp.server.auth.JWTVerifier", "JWTVerifier"),
        ],
    )
    def test_paths_of_fastmcp_2_14_resolve(self, path: str, name: str) -> None:
        assert find_provider(path).provider_class.__name__ == name


class TestCombinations:
    GITHUB: ClassVar = {"FASTMCP_SERVER_AUTH_GITHUB_CLIENT_ID": "c", "FASTMCP_SERVER_AUTH_GITHUB_CLIENT_SECRET": "s"}
    VERIFIER: ClassVar = {"FASTMCP_SERVER_AUTH_JWT_JWKS_URI": "https://idp.example.com/jwks"}
    SERVER: ClassVar = {"FASTMCP_SERVER_AUTH_MULTI_SERVER": "github"}

    def test_each_part_reads_variables_of_its_own(self) -> None:
        given = self.SERVER | self.GITHUB | self.VERIFIER | {"FASTMCP_SERVER_AUTH_MULTI_VERIFIERS": "jwt"}
        store = MemoryStore()
        built: Any = build("multi", given, store)
        assert built.server._upstream_client_id == "c"
        assert built.server._client_storage is store
        assert [verifier.jwks_uri for verifier in built.verifiers] == ["https://idp.example.com/jwks"]

    def test_a_misspelt_variable_of_a_part_is_refused(self) -> None:
        given = self.SERVER | self.GITHUB | {"FASTMCP_SERVER_AUTH_GITHUB_REQUIRED_SCOPE": "user"}
        problem = only_problem("multi", given)
        assert problem.what == "is not a parameter of MultiAuth with GitHubProvider"
        assert problem.remedy == "Did you mean FASTMCP_SERVER_AUTH_GITHUB_REQUIRED_SCOPES?"

    def test_what_a_part_lacks_is_asked_for(self) -> None:
        found = problems("multi", self.SERVER)
        assert [problem.variable for problem in found] == [
            "FASTMCP_SERVER_AUTH_GITHUB_CLIENT_ID",
            "FASTMCP_SERVER_AUTH_GITHUB_CLIENT_SECRET",
        ]

    def test_nothing_to_combine_is_told_with_an_example(self) -> None:
        problem = only_problem("multi", {})
        assert problem.variable == "FASTMCP_SERVER_AUTH_MULTI_SERVER"
        assert "FASTMCP_SERVER_AUTH_MULTI_SERVER=azure" in problem.remedy
        assert "FASTMCP_SERVER_AUTH_JWT_JWKS_URI" in problem.remedy

    @pytest.mark.parametrize(
        ("variable", "value", "what"),
        [
            ("VERIFIERS", "jwt,github", "github only logs people in; a TokenVerifier is wanted here"),
            ("VERIFIERS", "jwt,jwtverifier", "JWTVerifier is named twice"),
            ("VERIFIERS", "jwt,jvt", "jvt is not a provider"),
            ("VERIFIERS", ",", "names nothing"),
            ("SERVER", "github,jwt", "names several providers, and takes one"),
            ("SERVER", "multi", "multi cannot be a part of another provider"),
            ("SERVER", "gitub", "gitub is not a provider"),
        ],
    )
    def test_what_cannot_be_a_part_is_refused(self, variable: str, value: str, what: str) -> None:
        name = f"FASTMCP_SERVER_AUTH_MULTI_{variable}"
        found = problems("multi", self.GITHUB | self.VERIFIER | {name: value})
        assert [problem.variable for problem in found if problem.what.startswith(what)] == [name]

    def test_a_part_that_lets_anyone_in_needs_leave(self) -> None:
        given = self.SERVER | self.GITHUB | {"FASTMCP_SERVER_AUTH_MULTI_VERIFIERS": "debugtokenverifier"}
        assert only_problem("multi", given).what == "DebugTokenVerifier lets anyone in"

    def test_the_redirect_uris_are_those_of_the_login(self) -> None:
        own = {"FASTMCP_SERVER_AUTH_GITHUB_ALLOWED_CLIENT_REDIRECT_URIS": "https://a.example.com/cb"}
        planned = plan("multi", self.SERVER | self.GITHUB | own)
        assert planned.allow_list(DEFAULT_ALLOW_LIST).patterns == ("https://a.example.com/cb",)
        built: Any = planned.build(client_storage=MemoryStore(), jwt_signing_key=KEY)
        assert built.server._allowed_client_redirect_uris == ["https://a.example.com/cb"]

    def test_any_verifier_can_be_named_for_a_proxy(self) -> None:
        prefix = "FASTMCP_SERVER_AUTH_OAUTH_"
        upstream = {name.replace("EXA_AUTH_", prefix): value for name, value in PROXY.items()}
        built: Any = build("oauth", upstream | {f"{prefix}TOKEN_VERIFIER": "GoogleTokenVerifier"})
        assert type(built._token_validator).__name__ == "GoogleTokenVerifier"


class TestLifetimes:
    def test_settings_of_holdfast_reach_every_proxy(self) -> None:
        planned = plan_provider(
            AZURE, Environment(azure()), base_url=BASE_URL, access_token_lifetime=7200, refresh_ahead=45
        )
        built: Any = planned.build(client_storage=MemoryStore(), jwt_signing_key=KEY)
        assert built._fastmcp_access_token_expiry_seconds == 7200
        assert built._token_expiry_threshold_seconds == 45

    def test_unless_a_lifetime_is_set_it_is_the_identity_providers(self) -> None:
        built: Any = build(AZURE, azure())
        assert built._fastmcp_access_token_expiry_seconds is None

    @pytest.mark.parametrize(
        ("parameter", "setting"),
        [
            ("FASTMCP_ACCESS_TOKEN_EXPIRY_SECONDS", "HOLDFAST_ACCESS_TOKEN_LIFETIME"),
            ("TOKEN_EXPIRY_THRESHOLD_SECONDS", "HOLDFAST_REFRESH_AHEAD"),
        ],
    )
    def test_two_ways_to_say_it_must_agree(self, parameter: str, setting: str) -> None:
        build(AZURE, azure(**{parameter: "600"}) | {setting: "600"})
        problem = only_problem(AZURE, azure(**{parameter: "600"}) | {setting: "900"})
        assert problem.variable == f"FASTMCP_SERVER_AUTH_AZURE_{parameter}"
        assert problem.remedy == f"Keep only {setting}"


class TestEffectiveConfiguration:
    def effective(self, name: str, variables: dict[str, str]) -> dict[str, tuple[str, str]]:
        environment, _ = read_environment(variables)
        planned = plan_provider(name, environment, base_url=BASE_URL, access_token_lifetime=60)
        return {row.variable: (row.value, row.source) for row in planned.effective(environment)}

    def test_every_parameter_is_told_with_its_source(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("geheim")
        prefix = "FASTMCP_SERVER_AUTH_AZURE_"
        given = azure(REQUIRED_SCOPES="read,write", ENABLE_CIMD="off", BASE_AUTHORITY="https://a:geheim@b")
        del given[f"{prefix}CLIENT_SECRET"]
        given |= {f"{prefix}CLIENT_SECRET_FILE": str(tmp_path / "secret"), "OAUTH_ISSUER_URL": BASE_URL}
        found = self.effective("azure", given)
        assert found[f"{prefix}CLIENT_ID"] == ("client", "environment")
        assert found[f"{prefix}CLIENT_SECRET"] == ("***", f"{prefix}CLIENT_SECRET_FILE={tmp_path}/secret")
        assert found[f"{prefix}REQUIRED_SCOPES"] == ("read, write", "environment")
        assert found[f"{prefix}ENABLE_CIMD"] == ("false", "environment")
        assert found[f"{prefix}BASE_AUTHORITY"] == ("https://***@b", "environment")
        assert found[f"{prefix}REQUIRE_AUTHORIZATION_CONSENT"] == ("true", "default")
        assert found[f"{prefix}BASE_URL"] == (BASE_URL, "OAUTH_ISSUER_URL")
        assert found[f"{prefix}FASTMCP_ACCESS_TOKEN_EXPIRY_SECONDS"] == ("60", "HOLDFAST_ACCESS_TOKEN_LIFETIME")
        assert "geheim" not in str(found)

    def test_of_mappings_only_the_keys_are_told(self) -> None:
        given = {"FASTMCP_SERVER_AUTH_GOOGLE_CLIENT_ID": "c", "FASTMCP_SERVER_AUTH_GOOGLE_CLIENT_SECRET": "s"}
        given["FASTMCP_SERVER_AUTH_GOOGLE_EXTRA_AUTHORIZE_PARAMS"] = '{"hd": "geheim"}'
        found = self.effective("google", given)
        assert found["FASTMCP_SERVER_AUTH_GOOGLE_EXTRA_AUTHORIZE_PARAMS"] == ("hd: ***", "environment")

    def test_tokens_are_told_by_nothing(self) -> None:
        found = self.effective(
            "statictokenverifier",
            {
                "FASTMCP_SERVER_AUTH_STATICTOKENVERIFIER_TOKENS": '{"geheim": {"client_id": "c"}}',
            },
        )
        assert found["FASTMCP_SERVER_AUTH_STATICTOKENVERIFIER_TOKENS"] == ("***", "environment")

    def test_the_parts_are_told_too(self) -> None:
        given = {
            "FASTMCP_SERVER_AUTH_MULTI_VERIFIERS": "jwt",
            "FASTMCP_SERVER_AUTH_JWT_PUBLIC_KEY": "geheim",
        }
        found = self.effective("multi", given)
        assert found["FASTMCP_SERVER_AUTH_MULTI_VERIFIERS"] == ("JWTVerifier", "environment")
        assert found["FASTMCP_SERVER_AUTH_JWT_PUBLIC_KEY"] == ("***", "environment")


class TestWhatHoldfastProvides:
    def test_the_store_and_the_signing_key_are_passed_explicitly(self) -> None:
        store = MemoryStore()
        built = build(AZURE, azure(), store)
        assert isinstance(built, OAuthProxy)
        assert built._client_storage is store
        assert built._jwt_signing_key == KEY

    def test_a_signing_key_of_the_provider_wins(self) -> None:
        planned = plan(AZURE, azure(JWT_SIGNING_KEY="my own, long enough, key"))
        assert planned.arguments["jwt_signing_key"] == "my own, long enough, key"
        built: Any = planned.build(client_storage=MemoryStore(), jwt_signing_key=KEY)
        assert built._jwt_signing_key != KEY

    def test_the_public_url_is_the_servers(self) -> None:
        assert str(build(AZURE, azure()).base_url) == f"{BASE_URL}/"

    def test_a_public_url_of_the_provider_is_used(self) -> None:
        assert str(build(AZURE, azure(BASE_URL="https://other.example.com")).base_url) == "https://other.example.com/"

    def test_two_public_urls_that_differ_are_refused(self) -> None:
        variables = azure(BASE_URL="https://other.example.com") | {"HOLDFAST_BASE_URL": BASE_URL}
        problem = only_problem(AZURE, variables)
        assert problem.variable == "FASTMCP_SERVER_AUTH_AZURE_BASE_URL"
        assert "differs from HOLDFAST_BASE_URL" in problem.what

    @pytest.mark.parametrize("name", ["CLIENT_STORAGE", "HTTP_CLIENT"])
    def test_objects_cannot_be_given_in_a_variable(self, name: str) -> None:
        problem = only_problem(AZURE, azure(**{name: "memory"}))
        assert problem.variable == f"FASTMCP_SERVER_AUTH_AZURE_{name}"
        assert problem.remedy == "Remove it"


class TestTokensOfOtherApplications:
    """Who is given one at another application must not be able to use it here unnoticed (RFC 9700, section 4.10.2)."""

    def warnings(self, name: str, **variables: str) -> list[str]:
        given = {f"FASTMCP_SERVER_AUTH_{variable}": value for variable, value in variables.items()}
        return list(plan(name, given).warnings())

    def test_are_warned_of_where_no_audience_is_named(self) -> None:
        (warning,) = self.warnings("jwt", JWT_JWKS_URI="https://idp.example.com/jwks")
        assert warning.startswith("FASTMCP_SERVER_AUTH_JWT_AUDIENCE is not set, so whoever has a token")
        assert self.warnings("jwt", JWT_JWKS_URI="https://idp.example.com/jwks", JWT_AUDIENCE="here") == []

    def test_are_warned_of_where_none_can_be_named(self) -> None:
        variables = {"TOKEN_VERIFIER": "githubtokenverifier", "AUTHORIZATION_SERVERS": "https://idp.example.com"}
        variables = {f"REMOTEAUTHPROVIDER_{name}": value for name, value in variables.items()}
        (warning,) = self.warnings("remoteauthprovider", **variables)
        assert warning.startswith("GitHubTokenVerifier cannot tell what a token was issued for")

    def test_are_nothing_to_a_proxy_but_to_what_stands_beside_it(self) -> None:
        login = {"GITHUB_CLIENT_ID": "an-id", "GITHUB_CLIENT_SECRET": "s"}
        assert self.warnings("github", **login) == []
        beside = {
            "MULTIAUTH_SERVER": "github",
            "MULTIAUTH_VERIFIERS": "jwt",
            "JWT_JWKS_URI": "https://idp.example.com/",
        }
        (warning,) = self.warnings("multiauth", **login, **beside)
        assert "JWT_AUDIENCE is not set" in warning


class TestConversion:
    @pytest.mark.parametrize("text", ["true", "TRUE", "True", "1", "yes", "y", "on", "t", " true "])
    def test_consent_in_every_spelling_is_really_true(self, text: str) -> None:
        built = build(AZURE, azure(REQUIRE_AUTHORIZATION_CONSENT=text))
        assert isinstance(built, OAuthProxy)
        assert built._require_authorization_consent is True

    @pytest.mark.parametrize("text", ["external", "EXTERNAL", "remember"])
    def test_consent_by_name_stays_that_name(self, text: str) -> None:
        assert plan(AZURE, azure(REQUIRE_AUTHORIZATION_CONSENT=text)).arguments["require_authorization_consent"] == (
            text.lower()
        )

    @pytest.mark.parametrize("text", ["maybe", "'true'", "none", "2"])
    def test_any_other_consent_is_refused(self, text: str) -> None:
        problem = only_problem(AZURE, azure(REQUIRE_AUTHORIZATION_CONSENT=text))
        assert problem.remedy == "Write true, false, remember or external"

    @pytest.mark.parametrize(("text", "value"), [("false", False), ("0", False), ("external", "external")])
    def test_consent_is_turned_off_only_aloud(self, text: str, value: object) -> None:
        planned = plan(AZURE, azure(REQUIRE_AUTHORIZATION_CONSENT=text))
        assert planned.arguments["require_authorization_consent"] == value
        (warning,) = planned.warnings()
        assert "FASTMCP_SERVER_AUTH_AZURE_REQUIRE_AUTHORIZATION_CONSENT turns the consent page off" in warning
        assert list(plan(AZURE, azure()).warnings()) == []

    @pytest.mark.parametrize(
        ("text", "seconds"), [("1h", 3600), (" 90 ", 90), ("2m", 120), ("1 d", 86400), ("45S", 45), ("0", 0)]
    )
    def test_durations_may_have_a_unit(self, text: str, seconds: int) -> None:
        planned = plan(AZURE, azure(TOKEN_EXPIRY_THRESHOLD_SECONDS=text))
        assert planned.arguments["token_expiry_threshold_seconds"] == seconds

    @pytest.mark.parametrize(("text", "seconds"), [("0.5", 0.5), ("1m", 60.0), ("3", 3.0)])
    def test_a_duration_may_be_a_fraction_where_the_provider_takes_one(self, text: str, seconds: float) -> None:
        variables = {"FASTMCP_SERVER_AUTH_JWT_JWKS_URI": "https://a.example"}
        planned = plan("jwt", variables | {"FASTMCP_SERVER_AUTH_JWT_JWKS_REFRESH_INTERVAL": text})
        assert planned.arguments["jwks_refresh_interval"] == seconds

    @pytest.mark.parametrize("text", ["soon", "-5", "1.5", "1h30m", "1y", "0x10", "1e3"])
    def test_what_is_no_duration_is_refused(self, text: str) -> None:
        problem = only_problem(AZURE, azure(TOKEN_EXPIRY_THRESHOLD_SECONDS=text))
        assert problem.what == "is not a duration"
        assert "1h" in problem.remedy

    @pytest.mark.parametrize("text", ["a,b", "a b", "a, b", " a  b ", "a\nb", '["a", "b"]', '"a","b"', '"a b"'])
    def test_lists_are_separated_by_commas_or_spaces_or_json(self, text: str) -> None:
        assert plan(AZURE, azure(REQUIRED_SCOPES=text)).arguments["required_scopes"] == ["a", "b"]

    @pytest.mark.parametrize(
        "secret", ["a,b", '"quoted"', "50%25 %s %(x)s", " spaces ", "it's", "{not json", "[", "a b"]
    )
    def test_secrets_and_strings_are_taken_as_they_are(self, secret: str) -> None:
        planned = plan(AZURE, azure(CLIENT_SECRET=secret, TENANT_ID=secret))
        assert planned.arguments["client_secret"] == planned.arguments["tenant_id"] == secret

    @pytest.mark.parametrize(
        ("text", "annotation", "value"),
        [
            ("30", int | None, 30),
            ("0.5", float, 0.5),
            ("api://one", str | list[str] | None, "api://one"),
            ("one,two", str | list[str] | None, ["one", "two"]),
            ('["one"]', list[str] | str | None, ["one"]),
            ('{"prompt": "consent"}', dict[str, str] | None, {"prompt": "consent"}),
            ("prompt,consent,hd,example.com", dict[str, str], {"prompt": "consent", "hd": "example.com"}),
            ('prompt,"select_account, consent"', dict[str, str], {"prompt": "select_account, consent"}),
            ("https://a.example.com", AnyHttpUrl | str, "https://a.example.com"),
            ("https://a.example.com", AnyHttpUrl | None, AnyHttpUrl("https://a.example.com")),
            ("a,secret", SecretStr, SecretStr("a,secret")),
        ],
    )
    def test_a_text_becomes_what_the_annotation_says(self, text: str, annotation: Any, value: Any) -> None:
        converted = convert(text, annotation)
        assert converted == value
        assert type(converted) is type(value)

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("ENABLE_CIMD", "perhaps", "is not true or false"),
            ("REQUIRED_SCOPES", '["read"', "looks like JSON but is not"),
            ("REQUIRED_SCOPES", ",", "names nothing"),
            ("RESOURCE_BASE_URL", "mcp.example.com", "is wrong: input should be a valid URL"),
        ],
    )
    def test_a_wrong_value_is_named_with_its_reason(self, name: str, text: str, message: str) -> None:
        problem = only_problem(AZURE, azure(**{name: text}))
        assert problem.variable == f"FASTMCP_SERVER_AUTH_AZURE_{name}"
        assert message in problem.what
        assert problem.remedy

    @pytest.mark.parametrize(
        ("text", "message"), [("a,b,c", "neither a JSON object nor"), ('{"a": 1}', "valid string")]
    )
    def test_a_wrong_mapping_is_named_with_its_reason(self, text: str, message: str) -> None:
        variables = {"FASTMCP_SERVER_AUTH_GOOGLE_CLIENT_ID": "c", "FASTMCP_SERVER_AUTH_GOOGLE_CLIENT_SECRET": "s"}
        problem = only_problem("google", variables | {"FASTMCP_SERVER_AUTH_GOOGLE_EXTRA_AUTHORIZE_PARAMS": text})
        assert message in problem.what


class TestRefusals:
    def test_all_problems_are_told_at_once(self) -> None:
        variables = {
            "FASTMCP_SERVER_AUTH_AZURE_CLIENT_ID": "c",
            "FASTMCP_SERVER_AUTH_AZURE_ENABLE_CIMD": "perhaps",
            "FASTMCP_SERVER_AUTH_AZURE_TENANTID": "t",
        }
        assert {problem.variable for problem in problems(AZURE, variables)} == {
            "FASTMCP_SERVER_AUTH_AZURE_TENANT_ID",
            "FASTMCP_SERVER_AUTH_AZURE_REQUIRED_SCOPES",
            "FASTMCP_SERVER_AUTH_AZURE_ENABLE_CIMD",
            "FASTMCP_SERVER_AUTH_AZURE_TENANTID",
        }

    @pytest.mark.parametrize("prefix", ["FASTMCP_SERVER_AUTH_GITHUB_", "FASTMCP_SERVER_AUTH_GITHUBPROVIDER_"])
    def test_a_missing_parameter_is_asked_for_with_the_prefix_in_use(self, prefix: str) -> None:
        assert only_problem(GITHUB, {f"{prefix}CLIENT_ID": "c"}).variable == f"{prefix}CLIENT_SECRET"

    def test_one_parameter_under_two_prefixes_must_agree(self) -> None:
        variables = azure() | {"FASTMCP_SERVER_AUTH_AZUREPROVIDER_TENANT_ID": "another"}
        problem = only_problem(AZURE, variables)
        assert "FASTMCP_SERVER_AUTH_AZURE_TENANT_ID and FASTMCP_SERVER_AUTH_AZUREPROVIDER_TENANT_ID" in problem.what

    def test_an_unknown_parameter_is_refused_with_the_nearest(self) -> None:
        problem = only_problem(AZURE, azure(ALLOWED_CLIENT_REDIRECT_URI="http://localhost:*"))
        assert problem.remedy == "Did you mean FASTMCP_SERVER_AUTH_AZURE_ALLOWED_CLIENT_REDIRECT_URIS?"

    def test_a_variable_of_no_provider_is_refused(self) -> None:
        variables = azure() | {"FASTMCP_SERVER_AUTH_ALLOWED_CLIENT_REDIRECT_URIS": "http://localhost:*"}
        problem = only_problem(AZURE, variables)
        assert problem.what == "belongs to no provider"
        assert problem.remedy == "Did you mean FASTMCP_SERVER_AUTH_AZURE_ALLOWED_CLIENT_REDIRECT_URIS?"

    def test_the_variables_of_another_provider_may_stay(self) -> None:
        build(AZURE, azure() | {"FASTMCP_SERVER_AUTH_GOOGLE_CLIENT_ID": "c", "EXA_AUTH_JWKS_URI": "https://a.example"})

    @pytest.mark.parametrize(
        ("name", "what", "remedy"),
        [
            ("azur", "azur is not a provider", "Did you mean azure?"),
            (
                "fastmcp.server.auth.providers.azur.AzureProvider",
                "there is no module fastmcp.server.auth.providers.azur",
                f"Did you mean {AZURE}?",
            ),
            (
                "fastmcp.server.auth.providers.azure.AzurProvider",
                "module fastmcp.server.auth.providers.azure has no AzurProvider",
                f"Did you mean {AZURE}?",
            ),
            ("json.JSONDecoder", "json.JSONDecoder is not a FastMCP auth provider class", "Give a full class path"),
            ("fastmcp.server.auth.AuthProvider", "is only a base class of providers", ""),
            ("fastmcp.server.auth.TokenVerifier", "is only a base class of providers", ""),
        ],
    )
    def test_what_is_no_provider_is_named(self, name: str, what: str, remedy: str) -> None:
        problem = only_problem(name, {})
        assert problem.variable == "FASTMCP_SERVER_AUTH"
        assert what in problem.what
        assert remedy in problem.remedy

    def test_a_module_that_fails_to_import_is_named_with_its_error(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "broken_provider.py").write_text("import a_package_that_is_not_there")
        monkeypatch.syspath_prepend(tmp_path)
        problem = only_problem("broken_provider.Mine", {})
        assert problem.what == (
            "importing broken_provider fails: ModuleNotFoundError: No module named 'a_package_that_is_not_there'"
        )

    def test_what_the_constructor_refuses_is_told_with_the_variables_to_check(self) -> None:
        problem = only_problem("jwt", {"FASTMCP_SERVER_AUTH_JWT_ALGORITHM": "RS256"})
        assert problem.what == "JWTVerifier cannot be built: Either public_key or jwks_uri must be provided"
        assert problem.remedy == "Check FASTMCP_SERVER_AUTH_JWT_PUBLIC_KEY, FASTMCP_SERVER_AUTH_JWT_JWKS_URI"

    @pytest.mark.parametrize("name", ["debug.DebugTokenVerifier", "in_memory.InMemoryOAuthProvider"])
    def test_a_provider_that_lets_anyone_in_needs_leave(self, name: str) -> None:
        path = f"fastmcp.server.auth.providers.{name}"
        assert "lets anyone in" in only_problem(path, {}).what
        build(path, {"HOLDFAST_ALLOW_ANONYMOUS": "yes"})

    def test_the_origin_of_a_wrong_value_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "cimd").write_text("perhaps\n")
        given = azure() | {"FASTMCP_SERVER_AUTH_AZURE_ENABLE_CIMD_FILE": str(tmp_path / "cimd")}
        environment, _ = read_environment(given)
        with pytest.raises(ConfigurationError, match="from FASTMCP_SERVER_AUTH_AZURE_ENABLE_CIMD_FILE="):
            plan_provider(AZURE, environment, base_url=BASE_URL)

    @pytest.mark.parametrize("name", ["ISSUER_URL", "RESOURCE_BASE_URL"])
    def test_a_parameter_that_several_hosts_would_share_is_refused(self, name: str) -> None:
        environment = Environment(azure() | {f"FASTMCP_SERVER_AUTH_AZURE_{name}": "https://one.example.com"})
        one, two = "https://one.example.com", "https://two.example.com"
        assert provider_of(Settings(provider="azure", base_urls=(one,)), environment)
        with pytest.raises(ConfigurationError, match=f"{name}: is one URL, and HOLDFAST_BASE_URL names several hosts"):
            provider_of(Settings(provider="azure", base_urls=(one, two)), environment)


class TestSecrecy:
    def test_a_secret_is_in_no_message_and_no_repr(self) -> None:
        secret = "-----BEGIN PUBLIC KEY----- geheim"
        variables = {"FASTMCP_SERVER_AUTH_JWT_PUBLIC_KEY": secret, "FASTMCP_SERVER_AUTH_JWT_ALGORITHM": "HS256"}
        assert "geheim" not in repr(plan("jwt", variables))
        assert "geheim" not in str(only_problem("jwt", variables))

    def test_a_secret_that_the_constructor_repeats_is_masked(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = (
            "from fastmcp.server.auth import TokenVerifier\n"
            "class Talkative(TokenVerifier):\n"
            "    def __init__(self, client_secret: str, extra: dict[str, str]):\n"
            "        raise ValueError(f'{client_secret} and {extra} do not fit')\n"
        )
        (tmp_path / "talkative_provider.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path)
        prefix = "FASTMCP_SERVER_AUTH_TALKATIVE_"
        variables = {f"{prefix}CLIENT_SECRET": "geheim", f"{prefix}EXTRA": '{"assertion": "heimlich"}'}
        problem = only_problem("talkative_provider.Talkative", variables)
        assert problem.what == "Talkative cannot be built: *** and {'***': '***'} do not fit"


class TestOwnProviders:
    SOURCE = """
from __future__ import annotations
from typing import TYPE_CHECKING
from fastmcp.server.auth.providers.jwt import JWTVerifier
if TYPE_CHECKING:
    from collections.abc import Sequence
    from no_such_package import Nothing

class Mine(JWTVerifier):
    def __init__(self, hosts: Sequence[str], strict: bool = False, nothing: Nothing = None, plain=5, **kwargs):
        super().__init__(jwks_uri="https://idp.example.com/jwks", **kwargs)
        self.seen = (hosts, strict, plain)
"""

    @pytest.fixture(autouse=True)
    def _module(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        (tmp_path / "my_provider.py").write_text(self.SOURCE)
        monkeypatch.syspath_prepend(tmp_path)
        yield
        sys.modules.pop("my_provider", None)

    def test_names_imported_for_type_checkers_resolve_and_forwarded_parameters_count(self) -> None:
        prefix = "FASTMCP_SERVER_AUTH_MINE_"
        variables = {"HOSTS": "a b", "STRICT": "on", "PLAIN": "7", "AUDIENCE": "one two"}
        built: Any = build("my_provider.Mine", {f"{prefix}{name}": value for name, value in variables.items()})
        assert built.seen == (["a", "b"], True, 7)
        assert built.audience == ["one", "two"]

    def test_only_the_parameter_that_does_not_resolve_is_out_of_reach(self) -> None:
        prefix = "FASTMCP_SERVER_AUTH_MINE_"
        problem = only_problem("my_provider.Mine", {f"{prefix}HOSTS": "a", f"{prefix}NOTHING": "x"})
        assert problem.variable == f"{prefix}NOTHING"
        assert problem.what == "has a type that is not known here"


class TestExasolsGenericProviders:
    @pytest.mark.parametrize(
        "name",
        [
            "exa.fastmcp.server.auth.oauth_proxy.OAuthProxy",
            "exa.fastmcp.server.auth.oauth_proxy.proxy.OAuthProxy",
            "fastmcp.server.auth.oauth_proxy.OAuthProxy",
        ],
    )
    def test_the_proxy_resolves_by_its_old_and_new_paths(self, name: str) -> None:
        built = build(name, PROXY | JWKS | {"EXA_AUTH_REQUIRED_SCOPES": "read,write"})
        assert isinstance(built, OAuthProxy)
        assert isinstance(built._token_validator, JWTVerifier)
        assert built._token_validator.required_scopes == ["read", "write"]

    def test_a_verifier_alone(self) -> None:
        built = build("exa.fastmcp.server.auth.providers.jwt.JWTVerifier", JWKS | {"EXA_AUTH_AUDIENCE": "one"})
        assert isinstance(built, JWTVerifier)
        assert built.audience == "one"

    def test_the_verifier_follows_from_the_parameters_given(self) -> None:
        variables = {
            "EXA_AUTH_AUTHORIZATION_SERVERS": "https://idp.example.com",
            "EXA_AUTH_INTROSPECTION_URL": "https://idp.example.com/introspect",
            "EXA_AUTH_CLIENT_ID": "c",
            "EXA_AUTH_CLIENT_SECRET": "s,with,commas",
        }
        built = build("exa.fastmcp.server.auth.auth.RemoteAuthProvider", variables)
        assert isinstance(built, RemoteAuthProvider)
        assert isinstance(built.token_verifier, IntrospectionTokenVerifier)
        assert built.token_verifier.client_secret == "s,with,commas"

    def test_no_verifier_is_a_problem(self) -> None:
        problem = only_problem("exa.fastmcp.server.auth.oauth_proxy.OAuthProxy", PROXY)
        assert problem.variable == "EXA_AUTH_JWKS_URI"
        assert "EXA_AUTH_INTROSPECTION_URL" in problem.remedy

    def test_half_a_verifier_is_a_problem(self) -> None:
        variables = PROXY | {"EXA_AUTH_INTROSPECTION_URL": "https://idp.example.com/introspect"}
        found = problems("exa.fastmcp.server.auth.oauth_proxy.OAuthProxy", variables)
        assert [problem.variable for problem in found] == ["EXA_AUTH_CLIENT_ID", "EXA_AUTH_CLIENT_SECRET"]

    def test_a_problem_shared_by_proxy_and_verifier_is_told_once(self) -> None:
        variables = PROXY | JWKS | {"EXA_AUTH_BASE_URL": "no url"}
        only_problem("exa.fastmcp.server.auth.oauth_proxy.OAuthProxy", variables)

    def test_an_unknown_parameter_is_refused(self) -> None:
        variables = PROXY | JWKS | {"EXA_AUTH_UPSTREAM_CLIENTID": "c"}
        problem = only_problem("exa.fastmcp.server.auth.oauth_proxy.OAuthProxy", variables)
        assert problem.what == "is not a parameter of OAuthProxy with JWTVerifier"
        assert problem.remedy == "Did you mean EXA_AUTH_UPSTREAM_CLIENT_ID?"

    @pytest.mark.parametrize("issuer", ["https://a.example.com", "https://a.example.com/", "https://a.example.com/b"])
    async def test_the_authorization_server_is_named_as_it_was_written(self, issuer: str) -> None:
        """Clients compare it letter by letter (RFC 8414, section 3.3)."""
        variables = {"EXA_AUTH_AUTHORIZATION_SERVERS": issuer, **JWKS}
        built = build("exa.fastmcp.server.auth.auth.RemoteAuthProvider", variables)
        transport = httpx.ASGITransport(Starlette(routes=built.get_routes("/mcp")))
        async with httpx.AsyncClient(transport=transport, base_url=BASE_URL) as http:
            metadata = (await http.get("/.well-known/oauth-protected-resource/mcp")).json()
        assert metadata["authorization_servers"] == [issuer]


def test_documents_of_clients_cannot_be_on_and_off() -> None:
    given = azure(ENABLE_CIMD="off") | {"FASTMCP_SERVER_AUTH": AZURE, "HOLDFAST_CIMD": "on"}
    settings, found = load_settings(Environment(given))
    assert found == []
    with pytest.raises(
        ConfigurationError, match="HOLDFAST_CIMD: is on, but FASTMCP_SERVER_AUTH_AZURE_ENABLE_CIMD is false"
    ):
        provider_of(settings, Environment(given))
    provider_of(settings.model_copy(update={"cimd": "auto"}), Environment(given))
