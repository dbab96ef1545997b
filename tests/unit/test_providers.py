"""FASTMCP_SERVER_AUTH and its parameters: the provider that was meant, or a message that says what is wrong."""

import importlib
import inspect
import json
import logging
import pkgutil
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from fastmcp.server.auth import AuthProvider, OAuthProxy, RemoteAuthProvider, oidc_proxy, providers
from fastmcp.server.auth.oidc_proxy import OIDCProxy
from fastmcp.server.auth.providers.introspection import IntrospectionTokenVerifier
from fastmcp.server.auth.providers.jwt import JWTVerifier
from key_value.aio.stores.memory import MemoryStore
from pydantic import AnyHttpUrl, SecretStr
from starlette.applications import Starlette

from mcp_holdfast.auth.parameters import Unresolved, convert, parameters_of
from mcp_holdfast.auth.providers import SHORT_NAMES, ProviderPlan, plan_provider
from mcp_holdfast.settings import ConfigurationError, Environment, Problem, read_environment

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


def provider_classes() -> list[type[AuthProvider]]:
    modules = [
        importlib.import_module(f"{providers.__name__}.{m.name}") for m in pkgutil.iter_modules(providers.__path__)
    ]
    classes = [
        member
        for module in modules
        for member in vars(module).values()
        if inspect.isclass(member) and issubclass(member, AuthProvider) and member.__module__ == module.__name__
    ]
    return [*classes, OIDCProxy]


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


@pytest.fixture
def discovery_url() -> Iterator[str]:
    """An identity provider's OpenID Connect discovery document, served over HTTP."""

    class Discovery(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer = f"http://127.0.0.1:{server.server_port}"
            document = {
                "issuer": issuer,
                "authorization_endpoint": f"{issuer}/authorize",
                "token_endpoint": f"{issuer}/token",
                "jwks_uri": f"{issuer}/jwks",
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
            }
            body = json.dumps(document).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Discovery) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/.well-known/openid-configuration"
        server.shutdown()
        thread.join()


class TestEveryShippedProvider:
    @pytest.mark.parametrize("cls", provider_classes(), ids=lambda cls: cls.__name__)
    def test_every_annotation_resolves(self, cls: type[AuthProvider]) -> None:
        assert [name for name, parameter in parameters_of(cls).items() if parameter.annotation is Unresolved] == []

    @pytest.mark.parametrize("cls", provider_classes(), ids=lambda cls: cls.__name__)
    def test_builds_from_the_variables_that_it_requires(
        self, cls: type[AuthProvider], discovery_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        values = {
            **dict.fromkeys(("CLIENT_ID", "EXPECTED_CLIENT_ID", "RESOURCE_ID", "INTROSPECTION_CLIENT_ID"), "an-id"),
            **dict.fromkeys(("CLIENT_SECRET", "INTROSPECTION_CLIENT_SECRET", "AUDIENCE"), "a-value"),
            "CONFIG_URL": discovery_url,
            "TENANT_ID": "tenant",
            "REQUIRED_SCOPES": "read",
            "USER_POOL_ID": "eu-central-1_pool",
            "TOKENS": '{"a-token": {"client_id": "c", "scopes": ["read"]}}',
            "DOMAIN": "x.clerk.accounts.dev",
        }
        values |= dict.fromkeys(
            ("AUTHKIT_DOMAIN", "AUTH_URL", "ENVIRONMENT_URL", "INTROSPECTION_URL", "PROJECT_URL", "REALM_URL"),
            "https://idp.example.com",
        )
        prefix = f"FASTMCP_SERVER_AUTH_{cls.__name__.upper()}_"
        needed = [name.upper() for name, p in parameters_of(cls).items() if p.required and name != "base_url"]
        # Optional by their annotations, but the constructors ask for them.
        needed += {"DescopeProvider": ["CONFIG_URL"]}.get(cls.__name__, [])
        variables = {f"{prefix}{name}": values[name] for name in needed}
        if cls.__name__ in {"JWTVerifier", "AWSCognitoTokenVerifier"}:
            variables[f"{prefix}JWKS_URI"] = "https://idp.example.com/jwks"
        if cls.__name__ == "DescopeProvider":
            variables[f"{prefix}CONFIG_URL"] = (
                "https://api.descope.com/v1/apps/agentic/P1/M1/.well-known/openid-configuration"
            )
        if cls.__name__ == "AzureProvider":
            variables[f"{prefix}CLIENT_SECRET"] = "a-secret"
        if cls.__name__ == "AWSCognitoProvider":  # its discovery URL is Amazon's, whatever is set
            real = oidc_proxy.OIDCConfiguration.get_oidc_configuration
            monkeypatch.setattr(
                oidc_proxy.OIDCConfiguration,
                "get_oidc_configuration",
                lambda _url, **options: real(AnyHttpUrl(discovery_url), **options),
            )
        variables["HOLDFAST_ALLOW_ANONYMOUS"] = "true"  # the debug verifier and the in-memory provider let anyone in

        built = build(f"{cls.__module__}.{cls.__name__}", variables)

        assert type(built) is cls

    @pytest.mark.parametrize("word", SHORT_NAMES)
    def test_the_word_of_fastmcp_2_14_names_the_class_and_its_variables(self, word: str) -> None:
        with pytest.raises(ConfigurationError) as error:
            plan_provider(word, Environment({f"FASTMCP_SERVER_AUTH_{word.upper()}_NONSENSE": "x"}), base_url=BASE_URL)
        names = [problem.variable for problem in error.value.problems]
        assert f"FASTMCP_SERVER_AUTH_{word.upper()}_NONSENSE" in names
        assert all(name.startswith(f"FASTMCP_SERVER_AUTH_{word.upper()}_") for name in names)


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

    def test_consent_is_turned_off_only_aloud(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING, "mcp_holdfast"):
            planned = plan(AZURE, azure(REQUIRE_AUTHORIZATION_CONSENT="false"))
        assert planned.arguments["require_authorization_consent"] is False
        assert "FASTMCP_SERVER_AUTH_AZURE_REQUIRE_AUTHORIZATION_CONSENT turns the consent page off" in caplog.text

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
            ("TOKEN_EXPIRY_THRESHOLD_SECONDS", "soon", "is wrong: input should be a valid integer"),
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

    def test_an_unreachable_openid_provider_is_a_problem(self) -> None:
        prefix = "FASTMCP_SERVER_AUTH_OIDCPROXY_"
        variables = {f"{prefix}CONFIG_URL": "http://127.0.0.1:9/none", f"{prefix}CLIENT_ID": "c"}
        problem = only_problem("fastmcp.server.auth.oidc_proxy.OIDCProxy", variables)
        assert "OIDCProxy cannot be built" in problem.what
        assert f"{prefix}CONFIG_URL" in problem.remedy

    def test_the_origin_of_a_wrong_value_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "cimd").write_text("perhaps\n")
        given = azure() | {"FASTMCP_SERVER_AUTH_AZURE_ENABLE_CIMD_FILE": str(tmp_path / "cimd")}
        environment, _ = read_environment(given)
        with pytest.raises(ConfigurationError, match="from FASTMCP_SERVER_AUTH_AZURE_ENABLE_CIMD_FILE="):
            plan_provider(AZURE, environment, base_url=BASE_URL)


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
