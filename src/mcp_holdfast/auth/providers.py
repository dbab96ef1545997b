"""From the environment to the provider that FASTMCP_SERVER_AUTH names: completely, or not at all."""

import difflib
import importlib
import inspect
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastmcp.server.auth import AuthProvider, OAuthProvider, OAuthProxy, RemoteAuthProvider, TokenVerifier
from fastmcp.server.auth.providers.debug import DebugTokenVerifier
from fastmcp.server.auth.providers.in_memory import InMemoryOAuthProvider
from fastmcp.server.auth.providers.introspection import IntrospectionTokenVerifier
from fastmcp.server.auth.providers.jwt import JWTVerifier
from key_value.aio.adapters.pydantic import PydanticAdapter
from key_value.aio.protocols import AsyncKeyValue
from pydantic import SecretStr, ValidationError

from mcp_holdfast.auth.parameters import MalformedError, Parameter, convert, parameters_of
from mcp_holdfast.auth.registrations import DEFAULT_ALLOW_LIST, RedirectAllowList
from mcp_holdfast.settings import ConfigurationError, Environment, Problem

log = logging.getLogger(__name__)

SELECTOR = "FASTMCP_SERVER_AUTH"

SHORT_NAMES = {
    "auth0": "fastmcp.server.auth.providers.auth0.Auth0Provider",
    "authkitprovider": "fastmcp.server.auth.providers.workos.AuthKitProvider",
    "aws_cognito": "fastmcp.server.auth.providers.aws.AWSCognitoProvider",
    "azure": "fastmcp.server.auth.providers.azure.AzureProvider",
    "descopeprovider": "fastmcp.server.auth.providers.descope.DescopeProvider",
    "discord": "fastmcp.server.auth.providers.discord.DiscordProvider",
    "github": "fastmcp.server.auth.providers.github.GitHubProvider",
    "google": "fastmcp.server.auth.providers.google.GoogleProvider",
    "introspection": "fastmcp.server.auth.providers.introspection.IntrospectionTokenVerifier",
    "jwt": "fastmcp.server.auth.providers.jwt.JWTVerifier",
    "oci": "fastmcp.server.auth.providers.oci.OCIProvider",
    "scalekitprovider": "fastmcp.server.auth.providers.scalekit.ScalekitProvider",
    "supabase": "fastmcp.server.auth.providers.supabase.SupabaseProvider",
    "workos": "fastmcp.server.auth.providers.workos.WorkOSProvider",
}
"""The words that FastMCP 2.14 puts after FASTMCP_SERVER_AUTH_, each with its class."""

LONG_NAMES = (
    *SHORT_NAMES.values(),
    "fastmcp.server.auth.oauth_proxy.OAuthProxy",
    "fastmcp.server.auth.oidc_proxy.OIDCProxy",
    "fastmcp.server.auth.RemoteAuthProvider",
    "fastmcp.server.auth.providers.clerk.ClerkProvider",
    "fastmcp.server.auth.providers.huggingface.HuggingFaceProvider",
    "fastmcp.server.auth.providers.keycloak.KeycloakAuthProvider",
    "fastmcp.server.auth.providers.propelauth.PropelAuthProvider",
)

EXASOL_MARK = "exa."
EXASOL_PREFIX = "EXA_AUTH_"
TOKEN_VERIFIERS: dict[type[AuthProvider], tuple[str, ...]] = {
    JWTVerifier: ("JWKS_URI", "PUBLIC_KEY"),
    IntrospectionTokenVerifier: ("INTROSPECTION_URL",),
}
"""The verifiers that a proxy can be given, each with the parameters that tell it is meant; the first that is wins."""

EXASOL_CLASSES = (JWTVerifier, IntrospectionTokenVerifier, RemoteAuthProvider, OAuthProxy)
"""The classes that exasol configures through EXA_AUTH_*, a proxy and its token verifier alike."""

BASE_CLASSES = (AuthProvider, TokenVerifier, OAuthProvider)
LETS_ANYONE_IN = (DebugTokenVerifier, InMemoryOAuthProvider)

ALLOW_LIST = "allowed_client_redirect_uris"
GIVEN_BY_US = frozenset({"client_storage", "token_verifier"})
SECRETS = re.compile(r"secret|password|key|(^|_)tokens?$", re.IGNORECASE)


@dataclass(frozen=True)
class ProviderPlan:
    """A provider class and its checked arguments; `variables` names the variable for each of its parameters."""

    provider_class: type[AuthProvider]
    arguments: Mapping[str, Any] = field(repr=False)
    variables: Mapping[str, str] = field(repr=False)
    token_verifier: "ProviderPlan | None" = None

    def allow_list(self, default: RedirectAllowList) -> RedirectAllowList:
        """Where codes may be sent: what the operator set for this very provider, else the default."""
        patterns = self.arguments.get(ALLOW_LIST)
        return default if patterns is None else RedirectAllowList(tuple(patterns), self.variables[ALLOW_LIST])

    def build(
        self,
        *,
        client_storage: AsyncKeyValue,
        jwt_signing_key: bytes,
        allow_list: RedirectAllowList = DEFAULT_ALLOW_LIST,
    ) -> AuthProvider:
        """Make the provider. Those for OpenID Connect fetch their discovery document here.

        Raises:
            ConfigurationError: where the constructor refuses the arguments.

        """
        arguments = dict(self.arguments)
        parameters = parameters_of(self.provider_class)
        if "client_storage" in parameters:
            arguments["client_storage"] = client_storage
        if "jwt_signing_key" in parameters:
            arguments.setdefault("jwt_signing_key", jwt_signing_key)
        if ALLOW_LIST in parameters:
            arguments[ALLOW_LIST] = list(self.allow_list(allow_list).patterns)
        if self.token_verifier is not None:
            arguments["token_verifier"] = self.token_verifier.build(
                client_storage=client_storage, jwt_signing_key=jwt_signing_key
            )
        try:
            provider = self.provider_class(**arguments)
        except Exception as error:  # noqa: BLE001 - a constructor may raise anything, and all of it stops the start
            raise ConfigurationError([self._refusal(error)]) from None
        _take_strange_records_for_missing(provider)
        return provider

    def _refusal(self, error: Exception) -> Problem:
        reason = _reason(error)
        suspects = [name for name in self.variables if re.search(rf"\b{name}\b", reason)] or self.arguments
        reason = _without(_secrets_in(self.arguments), reason)
        variables = ", ".join(self.variables[name] for name in suspects if name in self.variables)
        remedy = f"Check {variables}" if variables else "Check what it needs"
        return Problem(SELECTOR, f"{self.provider_class.__name__} cannot be built: {reason}", remedy)


def _take_strange_records_for_missing(provider: AuthProvider) -> None:
    """A record of another form, as another version may leave it, must not be a failure for ever."""
    for adapter in vars(provider).values():
        if isinstance(adapter, PydanticAdapter):
            adapter._raise_on_validation_error = False


def plan_provider(name: str, environment: Environment, *, base_url: str) -> ProviderPlan:
    """Find the class and read its parameters. Nothing is built and no network is used yet.

    Raises:
        ConfigurationError: with every problem that was found.

    """
    provider_class, prefixes = _find(name.strip())
    problems: list[Problem] = []
    reader = _Reader(environment, base_url, problems)
    plan = reader.plan(provider_class, prefixes)
    problems += _strays(plan, prefixes, environment)
    problems += _doubtful(plan, environment)
    if problems:
        # A proxy and its verifier share variables, and so some problems.
        raise ConfigurationError(dict.fromkeys(problems))
    return plan


def _find(name: str) -> tuple[type[AuthProvider], tuple[str, ...]]:
    """Return the class and the prefixes of its variables, the one to recommend first."""
    path = SHORT_NAMES.get(name.lower(), name).removeprefix(EXASOL_MARK)
    provider_class = _import_class(path)
    return provider_class, _prefixes(provider_class, exasol_first=name.startswith(EXASOL_MARK))


def _prefixes(provider_class: type[AuthProvider], *, exasol_first: bool = False) -> tuple[str, ...]:
    prefixes = [f"{SELECTOR}_{provider_class.__name__.upper()}_"]
    own_path = f"{provider_class.__module__}.{provider_class.__qualname__}"
    prefixes[:0] = [f"{SELECTOR}_{word.upper()}_" for word, path in SHORT_NAMES.items() if path == own_path]
    if exasol_first:
        prefixes.insert(0, EXASOL_PREFIX)
    elif provider_class in EXASOL_CLASSES:
        prefixes.append(EXASOL_PREFIX)
    return tuple(prefixes)


def _import_class(path: str) -> type[AuthProvider]:
    module_name, _, class_name = path.rpartition(".")
    if not module_name:
        raise _unknown(f"{path} is not a provider", path)
    try:
        found = getattr(importlib.import_module(module_name), class_name, None)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            raise _unknown(f"there is no module {error.name}", path) from None
        raise _unimportable(module_name, error) from None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - importing runs any code
        raise _unimportable(module_name, error) from None
    if found is None:
        raise _unknown(f"module {module_name} has no {class_name}", path)
    if not (inspect.isclass(found) and issubclass(found, AuthProvider)):
        raise _unknown(f"{path} is not a FastMCP auth provider class", path)
    if found in BASE_CLASSES or inspect.isabstract(found):
        raise _unknown(f"{path} is only a base class of providers", path)
    return found


def _unknown(what: str, path: str) -> ConfigurationError:
    nearest = difflib.get_close_matches(path, [*SHORT_NAMES, *LONG_NAMES], n=1, cutoff=0.7)
    remedy = f"Did you mean {nearest[0]}?" if nearest else f"Give a full class path such as {SHORT_NAMES['azure']}"
    return ConfigurationError([Problem(SELECTOR, what, remedy)])


def _unimportable(module_name: str, error: BaseException) -> ConfigurationError:
    what = f"importing {module_name} fails: {type(error).__name__}: {error}"
    return ConfigurationError([Problem(SELECTOR, what, "Install what it needs, or choose another provider")])


@dataclass(frozen=True)
class _Reader:
    environment: Environment
    base_url: str
    problems: list[Problem]

    def plan(self, provider_class: type[AuthProvider], prefixes: tuple[str, ...]) -> ProviderPlan:
        parameters = parameters_of(provider_class)
        preferred = self._preferred(prefixes)
        variables = {name: self._variable(name, preferred, prefixes) for name in parameters}
        arguments: dict[str, Any] = {}
        verifier = None
        for name, parameter in parameters.items():
            variable = variables[name]
            if variable in self.environment.values:
                self._read(parameter, variable, prefixes, arguments)
            elif name == "base_url":
                arguments[name] = self.base_url
            elif name == "token_verifier" and parameter.required:
                verifier = self._plan_verifier(provider_class)
            elif parameter.required and name not in GIVEN_BY_US:
                what = f"is not set, and {provider_class.__name__} cannot do without it"
                self.problems.append(Problem(variable, what, "Set it"))
        return ProviderPlan(provider_class, arguments, variables, verifier)

    def _preferred(self, prefixes: tuple[str, ...]) -> str:
        given = self.environment.values
        return next((prefix for prefix in prefixes if any(name.startswith(prefix) for name in given)), prefixes[0])

    def _variable(self, parameter: str, preferred: str, prefixes: tuple[str, ...]) -> str:
        names = [f"{prefix}{parameter.upper()}" for prefix in (preferred, *prefixes)]
        return next((name for name in names if name in self.environment.values), names[0])

    def _read(self, parameter: Parameter, variable: str, prefixes: tuple[str, ...], arguments: dict[str, Any]) -> None:
        origin = self.environment.origin(variable)
        if parameter.name in GIVEN_BY_US:
            what, remedy = "is an object that Holdfast provides", "Remove it"
            self.problems.append(Problem(variable, what, remedy, origin))
            return
        names = [f"{prefix}{parameter.name.upper()}" for prefix in prefixes]
        given = [name for name in names if name in self.environment.values]
        if len({self.environment.values[name] for name in given}) > 1:
            what = f"{' and '.join(given)} mean the same parameter but disagree"
            self.problems.append(Problem(variable, what, "Keep one of them"))
            return
        try:
            arguments[parameter.name] = convert(self.environment.values[variable], parameter.annotation)
        except MalformedError as error:
            self.problems.append(Problem(variable, error.what, error.remedy, origin))

    def _plan_verifier(self, provider_class: type[AuthProvider]) -> ProviderPlan | None:
        for verifier, telling in TOKEN_VERIFIERS.items():
            prefixes = _prefixes(verifier)
            if any(f"{prefix}{name}" in self.environment.values for prefix in prefixes for name in telling):
                return self.plan(verifier, prefixes)
        what = f"is not set, and {provider_class.__name__} needs to know how to verify access tokens"
        remedy = (
            f"Set it (or {EXASOL_PREFIX}PUBLIC_KEY) for JWTs, or {EXASOL_PREFIX}INTROSPECTION_URL, "
            f"{EXASOL_PREFIX}CLIENT_ID and {EXASOL_PREFIX}CLIENT_SECRET for opaque tokens"
        )
        self.problems.append(Problem(f"{EXASOL_PREFIX}JWKS_URI", what, remedy))
        return None


def _needs_verifier(provider_class: type[AuthProvider]) -> bool:
    verifier = parameters_of(provider_class).get("token_verifier")
    return verifier is not None and verifier.required


def _strays(plan: ProviderPlan, prefixes: tuple[str, ...], environment: Environment) -> list[Problem]:
    """Report what looks like a parameter and is none: a redirect allow-list must not be lost to a misspelling."""
    readers: dict[type[AuthProvider], tuple[str, ...]] = {plan.provider_class: prefixes}
    if plan.token_verifier is not None:
        readers[plan.token_verifier.provider_class] = _prefixes(plan.token_verifier.provider_class)
    elif _needs_verifier(plan.provider_class):
        readers |= {verifier: _prefixes(verifier) for verifier in TOKEN_VERIFIERS}
    ours = {prefix for prefixes in readers.values() for prefix in prefixes}
    known = {
        f"{prefix}{name.upper()}"
        for reader, prefixes in readers.items()
        for prefix in prefixes
        for name in parameters_of(reader)
    }
    foreign = {f"{SELECTOR}_{word.upper()}_" for word in SHORT_NAMES}
    foreign |= {f"{SELECTOR}_{path.rpartition('.')[2].upper()}_" for path in LONG_NAMES}
    problems = []
    for name in sorted(environment.values.keys() - known):
        if name.startswith(tuple(ours)):
            what = f"is not a parameter of {' with '.join(reader.__name__ for reader in readers)}"
        elif name.startswith(f"{SELECTOR}_") and not name.startswith(tuple(foreign)):
            what = "belongs to no provider"
        else:
            continue
        problems.append(Problem(name, what, _suggestion(name, known), environment.origin(name)))
    return problems


def _suggestion(name: str, known: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    return f"Did you mean {nearest[0]}?" if nearest else "Remove it"


def _doubtful(plan: ProviderPlan, environment: Environment) -> list[Problem]:
    """Report settings that are well formed and still cannot be meant; warn of one that is seldom meant."""
    problems = []
    public = next((name for name in ("HOLDFAST_BASE_URL", "OAUTH_ISSUER_URL") if name in environment.values), "")
    own = plan.variables.get("base_url", "")
    if public and own in environment.values:
        urls = {environment.values[name].strip().rstrip("/") for name in (public, own)}
        if len(urls) > 1:
            what = f"differs from {public}, and both are this server's public URL"
            problems.append(Problem(own, what, f"Keep only {public}"))
    if ALLOW_LIST in plan.arguments and DEFAULT_ALLOW_LIST.setting in environment.values:
        what = f"replaces all allowed redirect URIs, and {DEFAULT_ALLOW_LIST.setting} adds to them"
        problems.append(Problem(plan.variables[ALLOW_LIST], what, "Keep one of the two"))
    if plan.provider_class in LETS_ANYONE_IN and not _anyone_may_enter(environment):
        what = f"{plan.provider_class.__name__} lets anyone in"
        remedy = "Choose another, or also set HOLDFAST_ALLOW_ANONYMOUS=true if that is what you want"
        problems.append(Problem(SELECTOR, what, remedy))
    if plan.arguments.get("require_authorization_consent") is False:
        log.warning(
            "%s turns the consent page off: following a link is then enough to give a stranger's client the tokens of "
            "someone who is signed in at the identity provider",
            plan.variables["require_authorization_consent"],
        )
    return problems


def _anyone_may_enter(environment: Environment) -> bool:
    try:
        return convert(environment.values.get("HOLDFAST_ALLOW_ANONYMOUS", "false"), bool) is True
    except MalformedError:
        return False


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        details = error.errors(include_url=False, include_context=False, include_input=False)
        return "; ".join(f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}" for detail in details)
    return str(error) or type(error).__name__


def _secrets_in(arguments: Mapping[str, Any]) -> list[str]:
    """Return what must not be shown: secrets by name or type, and all that mappings hold, which may be tokens."""
    return [text for name, value in arguments.items() for text in _texts(value) if SECRETS.search(name)] + [
        text for value in arguments.values() if isinstance(value, Mapping | SecretStr) for text in _texts(value)
    ]


def _texts(value: Any) -> list[str]:
    if isinstance(value, SecretStr):
        return [value.get_secret_value()]
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for pair in value.items() for part in pair for text in _texts(part)]
    return []


def _without(secrets: Iterable[str], text: str) -> str:
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text
