"""The variables of a provider: each as the parameter that it stands for, or what is wrong with it."""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastmcp.server.auth import AuthProvider, MultiAuth
from fastmcp.server.auth.providers.debug import DebugTokenVerifier
from fastmcp.server.auth.providers.in_memory import InMemoryOAuthProvider
from fastmcp.server.auth.providers.introspection import IntrospectionTokenVerifier
from fastmcp.server.auth.providers.jwt import JWTVerifier

from mcp_holdfast.auth.providers.names import (
    EXASOL_PREFIX,
    SELECTOR,
    SHORT_NAMES,
    NamedProvider,
    find_provider,
    prefix_of,
    prefixes_of,
)
from mcp_holdfast.auth.providers.parameters import MalformedError, Parameter, convert, parameters_of
from mcp_holdfast.auth.providers.plan import ALLOW_LIST, ProviderPlan
from mcp_holdfast.auth.registrations import DEFAULT_ALLOW_LIST
from mcp_holdfast.settings import ConfigurationError, Environment, Problem, Settings

TOKEN_VERIFIERS: dict[type[AuthProvider], tuple[str, ...]] = {
    JWTVerifier: ("JWKS_URI", "PUBLIC_KEY"),
    IntrospectionTokenVerifier: ("INTROSPECTION_URL",),
}
"""The verifiers that a proxy gets unasked, each with the parameters that tell it is meant; the first that is wins."""

LETS_ANYONE_IN = (DebugTokenVerifier, InMemoryOAuthProvider)
ENABLE_CIMD = "enable_cimd"
GIVEN_BY_US = frozenset({"client_storage"})
OF_SETTINGS: Mapping[str, tuple[str, ...]] = {
    "base_url": ("HOLDFAST_BASE_URL", "OAUTH_ISSUER_URL"),
    "fastmcp_access_token_expiry_seconds": ("HOLDFAST_ACCESS_TOKEN_LIFETIME",),
    "token_expiry_threshold_seconds": ("HOLDFAST_REFRESH_AHEAD",),
}
"""The parameters that settings of Holdfast's own stand for, with the variables of those settings."""


def provider_of(settings: Settings, environment: Environment) -> ProviderPlan | None:
    """Plan the provider that the settings name; None for the built-in login and for none at all.

    Raises:
        ConfigurationError: with every problem that was found.

    """
    if settings.provider in {"local", "none"}:
        return None
    plan = plan_provider(
        settings.provider,
        environment,
        base_url=settings.base_url,
        access_token_lifetime=settings.access_token_lifetime,
        refresh_ahead=settings.refresh_ahead,
    )
    if settings.cimd == "on" and plan.login.arguments.get(ENABLE_CIMD) is False:
        variable = plan.login.variables[ENABLE_CIMD]
        raise ConfigurationError([Problem("HOLDFAST_CIMD", f"is on, but {variable} is false", "Remove one of them")])
    if len(settings.base_urls) > 1 and (problems := list(_of_one_host(plan))):
        raise ConfigurationError(problems)
    return plan


def plan_provider(
    name: str,
    environment: Environment,
    *,
    base_url: str,
    access_token_lifetime: int | None = None,
    refresh_ahead: int = 0,
) -> ProviderPlan:
    """Find the class and read its parameters. Nothing is built and no network is used yet.

    `access_token_lifetime` and `refresh_ahead` are in seconds, None for as long as the identity provider's.

    Raises:
        ConfigurationError: with every problem that was found.

    """
    named = find_provider(name.strip())
    values = (base_url, access_token_lifetime, refresh_ahead)
    of_settings = {name: value for name, value in zip(OF_SETTINGS, values, strict=True) if value is not None}
    reader = _Reader(environment, of_settings)
    plan = reader.plan(named)
    problems = [*reader.problems, *_strays(plan, reader.readers, environment), *_doubtful(plan, environment)]
    if problems:
        # A proxy and its verifier share variables, and so some problems.
        raise ConfigurationError(dict.fromkeys(problems))
    return plan


@dataclass
class _Reader:
    """Reads providers and their parts; `readers` tells whose variables were looked for, and under which prefixes."""

    environment: Environment
    of_settings: Mapping[str, Any]
    problems: list[Problem] = field(default_factory=list)
    readers: dict[type[AuthProvider], tuple[str, ...]] = field(default_factory=dict)

    def plan(self, named: NamedProvider) -> ProviderPlan:
        provider_class, prefixes = named.provider_class, named.prefixes
        self.readers[provider_class] = prefixes
        parameters = parameters_of(provider_class)
        preferred = self._preferred(prefixes)
        variables = {name: self._variable(name, preferred, prefixes) for name in parameters}
        arguments: dict[str, Any] = {}
        sources: dict[str, str] = {}
        parts: dict[str, tuple[ProviderPlan, ...]] = {}
        for name, parameter in parameters.items():
            variable = variables[name]
            if variable in self.environment.values and parameter.wants is not None:
                parts[name] = tuple(self._parts(parameter, variable))
            elif variable in self.environment.values:
                self._read(parameter, variable, prefixes, arguments)
            elif name in self.of_settings:
                arguments[name] = self.of_settings[name]
                sources[name] = _setting_of(name, self.environment)
            elif name == "token_verifier" and parameter.required:
                parts[name] = tuple(self._unasked_verifier(provider_class, variable))
            elif parameter.required and name not in GIVEN_BY_US:
                what = f"is not set, and {provider_class.__name__} cannot do without it"
                self.problems.append(Problem(variable, what, "Set it"))
        if issubclass(provider_class, MultiAuth) and not parts:
            self.problems.append(_nothing_to_combine(variables))
        complete = {name: plans for name, plans in parts.items() if plans}
        return ProviderPlan(provider_class, arguments, variables, sources, complete)

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
            arguments[parameter.name] = parameter.convert(self.environment.values[variable])
        except MalformedError as error:
            self.problems.append(Problem(variable, error.what, error.remedy, origin))

    def _parts(self, parameter: Parameter, variable: str) -> Iterator[ProviderPlan]:
        """Plan the providers that a variable names, each of which reads variables of its own."""
        try:
            names = convert(self.environment.values[variable], list[str])
        except MalformedError as error:
            self.problems.append(Problem(variable, error.what, error.remedy))
            return
        if len(names) > 1 and not parameter.takes_several:
            self.problems.append(Problem(variable, "names several providers, and takes one", "Keep one of them"))
            return
        for name in names:
            try:
                named = find_provider(name, variable=variable)
            except ConfigurationError as error:
                self.problems += error.problems
                continue
            if (problem := self._misfit(parameter, named, name, variable)) is not None:
                self.problems.append(problem)
            else:
                yield self.plan(named)

    def _misfit(self, parameter: Parameter, named: NamedProvider, name: str, variable: str) -> Problem | None:
        wanted = parameter.wants
        if wanted is not None and not issubclass(named.provider_class, wanted):
            what = f"{name} only logs people in; a {wanted.__name__} is wanted here, such as jwt or introspection"
            return Problem(variable, what, "Name one of those, or the path of a class of yours")
        if issubclass(named.provider_class, MultiAuth):
            return Problem(variable, f"{name} cannot be a part of another provider", "Name what it is to consist of")
        if named.provider_class in self.readers:
            what = f"{named.provider_class.__name__} is named twice, and both would read the same variables"
            return Problem(variable, what, "Name it once; a subclass of it has variables of its own")
        return None

    def _unasked_verifier(self, provider_class: type[AuthProvider], variable: str) -> Iterator[ProviderPlan]:
        for verifier, telling in TOKEN_VERIFIERS.items():
            prefixes = prefixes_of(verifier)
            if any(f"{prefix}{name}" in self.environment.values for prefix in prefixes for name in telling):
                yield self.plan(NamedProvider(verifier, prefixes))
                return
        self.readers |= {verifier: prefixes_of(verifier) for verifier in TOKEN_VERIFIERS}
        what = f"is not set, and {provider_class.__name__} needs to know how to verify access tokens"
        remedy = (
            f"Set it (or {EXASOL_PREFIX}PUBLIC_KEY) for JWTs, or {EXASOL_PREFIX}INTROSPECTION_URL, "
            f"{EXASOL_PREFIX}CLIENT_ID and {EXASOL_PREFIX}CLIENT_SECRET for opaque tokens; or name another verifier in "
            f"{variable}"
        )
        self.problems.append(Problem(f"{EXASOL_PREFIX}JWKS_URI", what, remedy))


def _setting_of(parameter: str, environment: Environment) -> str:
    """The setting of Holdfast's own that stands for a parameter, by the name that is in use."""
    names = OF_SETTINGS[parameter]
    return next((name for name in names if name in environment.values), names[0])


def _nothing_to_combine(variables: Mapping[str, str]) -> Problem:
    login, verifiers = variables["server"], variables["verifiers"]
    what = f"is not set, nor is {verifiers}, and MultiAuth is a login together with token verifiers"
    remedy = (
        f"Name the login, as in {login}=azure, and the verifiers, as in {verifiers}=jwt; each reads variables of its "
        f"own, as in {prefix_of('azure')}CLIENT_ID and {prefix_of('jwt')}JWKS_URI"
    )
    return Problem(login, what, remedy)


def _strays(
    plan: ProviderPlan, readers: Mapping[type[AuthProvider], Sequence[str]], environment: Environment
) -> list[Problem]:
    """Report what looks like a parameter and is none: a redirect allow-list must not be lost to a misspelling."""
    ours = {prefix for prefixes in readers.values() for prefix in prefixes}
    known = {
        f"{prefix}{name.upper()}"
        for reader, prefixes in readers.items()
        for prefix in prefixes
        for name in parameters_of(reader)
    }
    foreign = tuple(prefix_of(word) for word in SHORT_NAMES)
    problems = []
    for name in sorted(environment.values.keys() - known):
        if name.startswith(tuple(ours)):
            what = f"is not a parameter of {' with '.join(reader.__name__ for reader in readers)}"
        elif name.startswith(f"{SELECTOR}_") and not name.startswith(foreign):
            what = "belongs to no provider"
        else:
            continue
        # Of several prefixes the one in use.
        nearest = _nearest(name, known & plan.all_variables()) or _nearest(name, known)
        remedy = f"Did you mean {nearest[0]}?" if nearest else "Remove it"
        problems.append(Problem(name, what, remedy, environment.origin(name)))
    return problems


def unread_variables(name: str, plan: ProviderPlan | None, environment: Environment) -> Iterator[str]:
    """Warn of parameters of other providers than the one in use, of which there may be none."""
    read = plan.all_variables() if plan else set()
    for variable in sorted(environment.values.keys() - read):
        if variable.startswith((f"{SELECTOR}_", EXASOL_PREFIX)):
            yield f"{variable} is not read: {SELECTOR} is {name}"


def _nearest(name: str, known: Iterable[str]) -> list[str]:
    return difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)


def _doubtful(plan: ProviderPlan, environment: Environment) -> list[Problem]:
    """Report settings that are well formed and still cannot be meant."""
    problems = []
    given = environment.values
    for parameter in OF_SETTINGS:
        own, setting = plan.login.variables.get(parameter, ""), _setting_of(parameter, environment)
        if own in given and setting in given and not _agree(given[own], given[setting]):
            what = f"differs from {setting}, which says the same"
            problems.append(Problem(own, what, f"Keep only {setting}"))
    if ALLOW_LIST in plan.login.arguments and DEFAULT_ALLOW_LIST.setting in environment.values:
        what = f"replaces all allowed redirect URIs, and {DEFAULT_ALLOW_LIST.setting} adds to them"
        problems.append(Problem(plan.login.variables[ALLOW_LIST], what, "Keep one of the two"))
    for part in plan.all_plans():
        if part.provider_class in LETS_ANYONE_IN and not _anyone_may_enter(environment):
            what = f"{part.provider_class.__name__} lets anyone in"
            remedy = "Choose another, or also set HOLDFAST_ALLOW_ANONYMOUS=true if that is what you want"
            problems.append(Problem(SELECTOR, what, remedy))
    return problems


def _of_one_host(plan: ProviderPlan) -> Iterator[Problem]:
    """Report parameters that would be the same for all hosts, where each is to be an identity of its own."""
    for part in plan.all_plans():
        for name in ("issuer_url", "resource_base_url"):
            if name in part.arguments:
                what = "is one URL, and HOLDFAST_BASE_URL names several hosts, each with its own"
                yield Problem(part.variables[name], what, "Remove it")


def _agree(one: str, other: str) -> bool:
    return one.strip().rstrip("/") == other.strip().rstrip("/")


def _anyone_may_enter(environment: Environment) -> bool:
    try:
        return convert(environment.values.get("HOLDFAST_ALLOW_ANONYMOUS", "false"), bool) is True
    except MalformedError:
        return False
