"""A provider that was chosen and checked, and what it takes to build it."""

import re
import secrets
import ssl
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fastmcp.server.auth import AuthProvider
from fastmcp.server.auth.oauth_proxy import OAuthProxy
from fastmcp.server.auth.oidc_proxy import OIDCProxy
from fastmcp.server.auth.providers.oci import OCIProvider
from key_value.aio.adapters.pydantic import PydanticAdapter
from key_value.aio.protocols import AsyncKeyValue
from key_value.aio.stores.memory import MemoryStore
from pydantic import SecretStr, ValidationError

from mcp_holdfast.auth.providers.names import SELECTOR
from mcp_holdfast.auth.providers.parameters import parameters_of
from mcp_holdfast.auth.registrations import DEFAULT_ALLOW_LIST, RedirectAllowList
from mcp_holdfast.auth.upstream import OUR_MISTAKES
from mcp_holdfast.fastmcp_line import httpx
from mcp_holdfast.settings import (
    DEFAULT,
    MASK,
    ConfigurationError,
    EffectiveValue,
    Environment,
    Problem,
    without_credentials,
)

ALLOW_LIST = "allowed_client_redirect_uris"
CONSENT = "require_authorization_consent"
SECRETS = re.compile(r"secret|password|key|(^|_)tokens?$", re.IGNORECASE)
OF_SETTINGS_ALONE = frozenset({"client_storage", "jwt_signing_key", ALLOW_LIST})
"""What is not told as a parameter of the provider unless it was set as one: settings of Holdfast's own tell it."""

AUDIENCE = "audience"
NAME_AN_AUDIENCE = frozenset({"JWTVerifier", "KeycloakAuthProvider"})
KNOW_NO_AUDIENCE = frozenset(
    {"GitHubTokenVerifier", "GoogleTokenVerifier", "HuggingFaceTokenVerifier", "WorkOSTokenVerifier"}
)
OF_ANY_APPLICATION = "whoever has a token that the identity provider issued for any other application can use it here"
"""RFC 9700, section 4.10.2; MCP, "Token audience binding and validation"."""

NOT_NOW = frozenset({408, 425, 429})
DISCOVERY_PATH = "/.well-known/openid-configuration"


class ProviderUnreachable(Exception):
    """The identity provider, which is asked while the provider is built, cannot answer now. The message says why."""


@dataclass(frozen=True)
class ProviderPlan:
    """A provider class and its checked arguments.

    `variables` names the variable for each of its parameters, `sources` where those that were not set there come from.
    `parts` are the providers that it is composed of, by parameter: the login and the token verifiers.
    """

    provider_class: type[AuthProvider]
    arguments: Mapping[str, Any] = field(repr=False)
    variables: Mapping[str, str] = field(repr=False)
    sources: Mapping[str, str] = field(default_factory=dict, repr=False)
    parts: Mapping[str, "tuple[ProviderPlan, ...]"] = field(default_factory=dict)

    @property
    def login(self) -> "ProviderPlan":
        """What people sign in with: the provider itself, or the one that it adds token verifiers to."""
        return self.parts["server"][0] if "server" in self.parts else self

    def all_plans(self) -> "Iterator[ProviderPlan]":
        """Yield this one, and those of all its parts."""
        yield self
        for parts in self.parts.values():
            for part in parts:
                yield from part.all_plans()

    def all_variables(self) -> set[str]:
        return {variable for plan in self.all_plans() for variable in plan.variables.values()}

    def at(self, base_url: str) -> "ProviderPlan":
        """The same provider under another public URL, unless it was given one of its own."""
        given = {"base_url": base_url} if "base_url" in self.sources else {}
        parts = {name: tuple(part.at(base_url) for part in parts) for name, parts in self.parts.items()}
        return replace(self, arguments={**self.arguments, **given}, parts=parts)

    def allow_list(self, default: RedirectAllowList) -> RedirectAllowList:
        """Where codes may be sent: what the operator set for this very provider, else the default."""
        login = self.login
        patterns = login.arguments.get(ALLOW_LIST)
        return default if patterns is None else RedirectAllowList(tuple(patterns), login.variables[ALLOW_LIST])

    def warnings(self) -> Iterator[str]:
        """What is set on purpose and still dangerous, each naming its variable."""
        for plan in self.all_plans():
            if plan.arguments.get(CONSENT) in (False, "external"):
                yield (
                    f"{plan.variables[CONSENT]} turns the consent page off: following a link is then enough to give a "
                    "stranger's client the tokens of someone who is signed in at the identity provider"
                )
        for plan in self._verifiers_of_callers():
            name = plan.provider_class.__name__
            if name in NAME_AN_AUDIENCE and not plan.arguments.get(AUDIENCE):
                yield f"{plan.variables[AUDIENCE]} is not set, so {OF_ANY_APPLICATION}"
            elif name in KNOW_NO_AUDIENCE:
                yield f"{name} cannot tell what a token was issued for, so {OF_ANY_APPLICATION}"

    def _verifiers_of_callers(self) -> "Iterator[ProviderPlan]":
        """Yield what verifies the tokens that callers bring: those of a proxy are its own, and for nobody else."""
        if issubclass(self.provider_class, OAuthProxy):
            return
        yield self
        for parts in self.parts.values():
            for part in parts:
                yield from part._verifiers_of_callers()

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
            ProviderUnreachable: where the identity provider cannot be asked now; the same may succeed later.

        """
        arguments = dict(self.arguments)
        parameters = parameters_of(self.provider_class)
        if "client_storage" in parameters:
            arguments["client_storage"] = client_storage
        if "jwt_signing_key" in parameters:
            arguments.setdefault("jwt_signing_key", jwt_signing_key)
        if ALLOW_LIST in parameters:
            arguments[ALLOW_LIST] = list(self.allow_list(allow_list).patterns)
        for name, plans in self.parts.items():
            built = [
                plan.build(client_storage=client_storage, jwt_signing_key=jwt_signing_key, allow_list=allow_list)
                for plan in plans
            ]
            arguments[name] = built if parameters[name].takes_several else built[0]
        try:
            provider = self.provider_class(**arguments)
        except Exception as error:  # noqa: BLE001 - a constructor may raise anything, and all of it stops the start
            if (reason := _outage(error)) is not None:
                raise ProviderUnreachable(reason) from None
            raise ConfigurationError([self._refusal(_reason(error))]) from None
        if isinstance(provider, OIDCProxy) and (reason := _wrong_issuer(provider, self.arguments)):
            raise ConfigurationError([self._refusal(reason)])
        _take_strange_records_for_missing(provider)
        return provider

    def try_to_build(self) -> AuthProvider:
        """Make one that keeps nothing, to see whether it can be made; raises as `build` does."""
        return self.build(client_storage=MemoryStore(), jwt_signing_key=secrets.token_bytes(32))

    def _refusal(self, reason: str) -> Problem:
        suspects = [name for name in self.variables if re.search(rf"\b{name}\b", reason)] or self.arguments
        reason = _without(_secrets_in(self.arguments), reason)
        variables = ", ".join(self.variables[name] for name in suspects if name in self.variables)
        remedy = f"Check {variables}" if variables else "Check what it needs"
        return Problem(SELECTOR, f"{self.provider_class.__name__} cannot be built: {reason}", remedy)

    def effective(self, environment: Environment) -> Iterator[EffectiveValue]:
        """Every parameter as the provider will get it, secrets masked, and where it came from; then those of parts."""
        for plan in self.all_plans():
            yield from plan._own_effective(environment)

    def _own_effective(self, environment: Environment) -> Iterator[EffectiveValue]:
        for name, parameter in parameters_of(self.provider_class).items():
            variable = self.variables[name]
            if name in self.arguments:
                source = self.sources.get(name) or environment.source(variable)
                yield EffectiveValue(variable, _shown(name, self.arguments[name]), source)
            elif name in self.parts:
                names = [part.provider_class.__name__ for part in self.parts[name]]
                yield EffectiveValue(variable, _shown(name, names), environment.source(variable))
            elif name not in OF_SETTINGS_ALONE and parameter.wants is None:
                yield EffectiveValue(variable, _shown(name, parameter.default), DEFAULT)


def _outage(error: BaseException) -> str | None:
    """Why the identity provider could not answer; None where it did, and where waiting would not help."""
    causes = list(_causes(error))
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return None
    for cause in causes:
        if isinstance(cause, httpx.HTTPStatusError):
            status = cause.response.status_code
            return f"{cause.request.url.host} answered {status}" if status >= 500 or status in NOT_NOW else None
        if isinstance(cause, httpx.TransportError) and not isinstance(cause, OUR_MISTAKES):
            return f"{cause.request.url.host} cannot be reached: {_reason(cause)}"
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _wrong_issuer(provider: OIDCProxy, arguments: Mapping[str, Any]) -> str | None:
    """Whether the discovery document is another issuer's (OpenID Connect Discovery 1.0, section 4.3).

    Oracle's identity domains are named otherwise than their documents' addresses, and `strict=False` says that this
    provider is, too.
    """
    config_url = str(arguments.get("config_url", ""))
    if isinstance(provider, OCIProvider) or arguments.get("strict") is False or not config_url.endswith(DISCOVERY_PATH):
        return None
    issuer = str(provider.oidc_config.issuer)
    if issuer.rstrip("/") == config_url.removesuffix(DISCOVERY_PATH).rstrip("/"):
        return None
    accepted = "; strict=false accepts it" if "strict" in parameters_of(type(provider)) else ""
    return f"the document at config_url is that of another issuer, {issuer}{accepted}"


def _take_strange_records_for_missing(provider: AuthProvider) -> None:
    """A record of another form, as another version may leave it, must not be a failure for ever."""
    for adapter in vars(provider).values():
        if isinstance(adapter, PydanticAdapter):
            adapter._raise_on_validation_error = False


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
        text = text.replace(secret, MASK)
    return text


def _shown(name: str, value: Any) -> str:
    """A value for people; of a secret only that there is one, of a mapping only its keys."""
    if value is None or value == [] or callable(value):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if SECRETS.search(name) or isinstance(value, SecretStr):
        return MASK
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {MASK}" for key in value)
    if isinstance(value, list | tuple):
        return ", ".join(without_credentials(str(item)) for item in value)
    return without_credentials(str(value))
