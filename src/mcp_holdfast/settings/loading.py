"""Validate the whole environment once: every problem, each naming its variable."""

import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from mcp_holdfast.settings.clients import CLIENT_ENTRIES
from mcp_holdfast.settings.engine_urls import (
    ENGINES,
    EXAMPLES,
    EXASOL_NAMES,
    EXASOL_PREFIX,
    backend_of,
    exasol_variables,
    url_of_exasol,
)
from mcp_holdfast.settings.environment import Environment
from mcp_holdfast.settings.model import Settings, variable_names, variables_of
from mcp_holdfast.settings.problems import Problem
from mcp_holdfast.settings.tokens import TOKEN_ENTRIES
from mcp_holdfast.settings.values import backend_name, in_largest_unit, is_duration

EXASOL_CONNECTION_VARIABLES = ("EXA_DSN", "EXA_SAAS_HOST", "EXA_SAAS_ACCOUNT_ID")


def load_settings(environment: Environment) -> tuple[Settings, list[Problem]]:
    """Validate the environment: the settings, with defaults in place of wrong ones, and all that is wrong."""
    problems = _unknown_variables(environment)
    given: dict[str, str] = {}
    for name, setting in Settings.model_fields.items():
        normalise = backend_name if name == "backend" else str.strip
        problems.extend(_disagreements(variables_of(setting), environment, normalise))
        for variable_name in variables_of(setting):
            if variable_name in environment.values:
                given[name] = environment.values[variable_name]
                break
    _complete_storage(given, environment)
    try:
        settings = Settings.model_validate(given, by_name=True)
    except ValidationError as error:
        problems.extend(_problems_of(error, environment))
        wrong = {str(detail["loc"][0]) for detail in error.errors()}
        usable = {name: given[name] for name in given.keys() - wrong}
        if "storage_url" in usable:
            usable.setdefault("backend", backend_of(usable["storage_url"]) or "filetree")
        settings = Settings.model_validate(usable, by_name=True)
    return settings, [*problems, *_contradictions(settings, environment)]


def _exasol_names() -> list[str]:
    return [f"{EXASOL_PREFIX}{name}" for names in EXASOL_NAMES.values() for name in names]


def _complete_storage(given: dict[str, str], environment: Environment) -> None:
    """A URL says which backend it is for; where there is none, exasol's own variables may name the engine."""
    if "storage_url" in given:
        given.setdefault("backend", backend_of(given["storage_url"]) or "filetree")
    elif (backend := backend_name(given.get("backend", ""))) in EXASOL_NAMES:
        url = url_of_exasol(backend, environment.values)
        if url is not None:
            given["storage_url"] = url


def _engine_problems(settings: Settings, environment: Environment) -> list[Problem]:
    """What is missing for a backend that is reached over the network, or contradicts it."""
    backend, url = settings.backend, settings.storage_url
    if backend not in ENGINES:
        if url is None:
            return []
        chosen = _choice_of_backend(environment)
        what = f"names an engine, but {chosen} chooses {backend}"
        return [Problem("HOLDFAST_STORAGE_URL", what, f"Remove {chosen}, or HOLDFAST_STORAGE_URL")]
    problems = []
    example = f"Set it, as in {EXAMPLES[backend]}"
    is_given = environment.is_set("HOLDFAST_STORAGE_URL") or (
        backend in EXASOL_NAMES and url_of_exasol(backend, environment.values) is not None
    )
    if not is_given:
        problems.append(Problem("HOLDFAST_STORAGE_URL", f"is not set, and {backend} is reached by it", example))
    elif url is not None and backend_of(url.get_secret_value()) != backend:
        chosen = _choice_of_backend(environment)
        scheme = url.get_secret_value().partition("://")[0]
        what = f"begins with {scheme}, but {chosen} chooses {backend}"
        remedy = f"Remove {chosen}, or correct the URL, as in {EXAMPLES[backend]}"
        problems.append(Problem(_origin_of_url(backend, environment), what, remedy))
    also = exasol_variables(backend, environment.values)
    if also and "HOLDFAST_STORAGE_URL" in environment.values:
        what = f"is set, and so is {' and '.join(also)}"
        problems.append(Problem("HOLDFAST_STORAGE_URL", what, "Keep HOLDFAST_STORAGE_URL alone"))
    for variable_name, key in (
        ("HOLDFAST_STORAGE_KEY", settings.storage_key),
        ("HOLDFAST_SIGNING_KEY", settings.signing_key),
    ):
        if key is None and not environment.is_set(variable_name):
            what = f"is not set, and with {backend} there may be no volume that could keep one"
            problems.append(Problem(variable_name, what, MISSING_KEY))
    return problems


def _choice_of_backend(environment: Environment) -> str:
    """The variables that were set to choose the backend."""
    names = variables_of(Settings.model_fields["backend"])
    return " and ".join(name for name in names if name in environment.values)


def _origin_of_url(backend: str, environment: Environment) -> str:
    if "HOLDFAST_STORAGE_URL" in environment.values:
        return "HOLDFAST_STORAGE_URL"
    return " and ".join(exasol_variables(backend, environment.values))


def _unknown_variables(environment: Environment) -> list[Problem]:
    known = variable_names()
    unknown = [name for name in environment.values if name.startswith("HOLDFAST_") and name not in known]
    return [Problem(name, "is not a setting", _suggestion(name, known)) for name in sorted(unknown)]


def _suggestion(name: str, known: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    return f"Did you mean {nearest[0]}?" if nearest else "Remove it; README.md lists all settings"


def _disagreements(names: tuple[str, ...], environment: Environment, normalise: Callable[[str], Any]) -> list[Problem]:
    given = [name for name in names if name in environment.values]
    if len({normalise(environment.values[name]) for name in given}) <= 1:
        return []
    return [Problem(given[0], f"{' and '.join(given)} mean the same setting but disagree", f"Keep only {names[0]}")]


MISSING_KEY = (
    "Give the key of the store that is there, or is moved there (one that Holdfast made itself is in the directory "
    "keys of its volume); for a new store make one with: openssl rand -base64 32"
)
WHOLE_KEY = "Give the whole key, as it was made; for a new store make one with: openssl rand -base64 32"
PREVIOUS_KEYS = "Give whole keys, as they were made, separated by commas, or remove it"
REMEDIES = {
    "EXA_MCP_STORAGE_BACKEND": "Choose filetree (the default), disk (also called sqlite), memory, redis, valkey, "
    "postgresql, dynamodb or mongodb",
    "HOLDFAST_STORAGE_URL": f"Write it as in {EXAMPLES['postgresql']}",
    "HOLDFAST_STORAGE_KEY": WHOLE_KEY,
    "HOLDFAST_STORAGE_KEY_PREVIOUS": PREVIOUS_KEYS,
    "HOLDFAST_SIGNING_KEY": WHOLE_KEY,
    "HOLDFAST_SIGNING_KEY_PREVIOUS": PREVIOUS_KEYS,
    "HOLDFAST_METRICS_TOKEN": "Make one with: openssl rand -base64 32",
    "HOLDFAST_AUDIT_LOG": "Write true or false",
    "HOLDFAST_ALLOW_ANONYMOUS": "Write true or false",
    "HOLDFAST_ALLOWED_HOSTS": "Give names of hosts separated by commas, as in holdfast, mcp.internal",
    "HOLDFAST_ALLOWED_ORIGINS": "Give origins as browsers send them, separated by commas, as in https://app.example.com",
    "HOLDFAST_REDIRECT_URIS": "Give redirect URIs separated by commas, as in https://app.example.com/oauth/callback; "
    "a * stands for any part of the path",
    "HOLDFAST_CIMD": "Choose auto, on or off",
    "HOLDFAST_CLIENTS": 'Write it as in {"connector": {"client_secret_hash": "$argon2id$...", "redirect_uris": '
    '["https://app.example.com/callback"]}}',
    "HOLDFAST_TOKENS": 'Write it as in {"ci": {"token_hash": "sha256:...", "expires_at": "2027-03-31"}}; '
    "'holdfast tokens create' prints an entry",
    "HOLDFAST_ALLOWED_USERS": "Give users separated by commas, as in ada@example.com, or as a JSON list",
    "HOLDFAST_ALLOWED_DOMAINS": "Give domains separated by commas, as in example.com",
    "HOLDFAST_ALLOWED_GROUPS": "Give groups separated by commas, or as a JSON list where one has a comma in it",
    "HOLDFAST_CLOUDFLARE_TEAM": "Give the name of your team, as in Settings of Cloudflare Zero Trust",
    "HOLDFAST_CLOUDFLARE_AUDIENCE": "Give the application's Application Audience (AUD) tag, several by commas",
    "WEB_CONCURRENCY": "Give the number of worker processes, 1 to 512",
    "HOLDFAST_REPLICAS": "Write 1 or true, not how many there are, where any of several replicas may get any "
    "request of a client, else false",
    "PORT": "Give a TCP port, 1 to 65535",
    "FORWARDED_ALLOW_IPS": "Give the addresses of your proxies, separated by commas, as in 10.0.0.0/16",
    "LOG_LEVEL": "Choose debug, info, warning or error",
    "LOG_FORMAT": "Choose text or json",
}


def _problems_of(error: ValidationError, environment: Environment) -> list[Problem]:
    problems = []
    for detail in error.errors(include_url=False, include_input=False):
        names = variables_of(Settings.model_fields[str(detail["loc"][0])])
        name = next(name for name in [*names, *_exasol_names()] if name in environment.values)
        what = _reason(detail, Settings.model_fields[str(detail["loc"][0])])
        remedy = REMEDIES.get(names[0], "Correct it, or remove it to use the default")
        problems.append(Problem(name, what, remedy, environment.origin(name)))
    return problems


ENTRIES = {"HOLDFAST_CLIENTS": CLIENT_ENTRIES, "HOLDFAST_TOKENS": TOKEN_ENTRIES}
LIMITS = {"less_than_equal": ("at most", "le"), "greater_than_equal": ("at least", "ge")}


def _reason(detail: ErrorDetails, setting: FieldInfo) -> str:
    kind = detail["type"]
    if (entries := ENTRIES.get(variables_of(setting)[0])) is not None:
        return entries.reason_of(detail)
    if kind in LIMITS:
        words, bound = LIMITS[kind][0], detail["ctx"][LIMITS[kind][1]]
        return f"must be {words} {in_largest_unit(bound) if is_duration(setting) else bound}"
    if kind == "bool_parsing":
        return "is neither true nor false"
    own = {"duration", "url", "key", "pin", "number", "proxies", "redirect", "access"}
    return detail["msg"] if kind in own else detail["msg"].lower()


def _contradictions(settings: Settings, environment: Environment) -> list[Problem]:
    problems: list[Problem] = []
    problems.extend(_access_problems(settings, environment))
    if settings.provider == "none" and not (settings.allow_anonymous or environment.is_set("HOLDFAST_TOKENS")):
        problems.append(
            Problem(
                "FASTMCP_SERVER_AUTH",
                "none would serve the MCP server to anyone who can reach it",
                "Use local for the built-in login, or HOLDFAST_TOKENS for machines, or also set "
                "HOLDFAST_ALLOW_ANONYMOUS=true if that is what you want",
            )
        )
    problems.extend(memory_problems(settings.backend, settings.workers))
    if settings.replicas and settings.backend == "memory":
        what = "replicas cannot share the memory backend: each would know only its own sign-ins"
        problems.append(Problem("HOLDFAST_REPLICAS", what, f"Remove it, or {SHARED_BACKEND}"))
    problems.extend(_engine_problems(settings, environment))
    for key in ("HOLDFAST_STORAGE_KEY", "HOLDFAST_SIGNING_KEY"):
        if f"{key}_PREVIOUS" in environment.values and not environment.is_set(key):
            problems.append(
                Problem(f"{key}_PREVIOUS", f"is set without {key}", f"Set {key} to the key that follows it")
            )
    return problems


def _access_problems(settings: Settings, environment: Environment) -> Iterator[Problem]:
    """What would let in other people than was meant, or nobody."""
    lists = [name for name in ALLOW_LISTS if environment.is_set(name)]
    if lists and settings.provider in {"local", "none"}:
        what = f"is set, and with FASTMCP_SERVER_AUTH={settings.provider} nobody says who people are"
        yield Problem(lists[0], what, "Remove it, or name an identity provider in FASTMCP_SERVER_AUTH")
    for claims, names in zip(CLAIMS, ALLOW_LISTS, strict=True):
        if environment.is_set(claims) and not environment.is_set(names):
            yield Problem(claims, f"is set without {names}", f"Set {names}, or remove it")
    if settings.provider == "none" and settings.allow_anonymous and environment.is_set("HOLDFAST_TOKENS"):
        what = "is set, and HOLDFAST_ALLOW_ANONYMOUS lets in whoever has no token"
        yield Problem("HOLDFAST_TOKENS", what, "Keep one of the two")
    team, audience = "HOLDFAST_CLOUDFLARE_TEAM", "HOLDFAST_CLOUDFLARE_AUDIENCE"
    for name, other in ((team, audience), (audience, team)):
        if environment.is_set(name) and not environment.is_set(other):
            yield Problem(name, f"is set without {other}, and an assertion has to match both", f"Set {other} too")


ALLOW_LISTS = ("HOLDFAST_ALLOWED_USERS", "HOLDFAST_ALLOWED_DOMAINS", "HOLDFAST_ALLOWED_GROUPS")
CLAIMS = ("HOLDFAST_USER_CLAIMS", "HOLDFAST_DOMAIN_CLAIMS", "HOLDFAST_GROUP_CLAIMS")
SHARED_BACKEND = "use EXA_MCP_STORAGE_BACKEND=filetree, or an engine (HOLDFAST_STORAGE_URL) in place of memory"


def memory_problems(backend: str, workers: int) -> list[Problem]:
    """What speaks against `workers` processes on this backend: memory is not shared between them."""
    if backend != "memory" or workers == 1:
        return []
    return [
        Problem(
            "WEB_CONCURRENCY",
            f"{workers} workers cannot share the memory backend: each would know only its own sign-ins",
            f"Use one worker, or {SHARED_BACKEND}",
        )
    ]


def server_name(settings: Settings, environment: Environment) -> str:
    """The payload to run: the one that is set, else exasol where one of its connections is configured, else demo."""
    if settings.server:
        return settings.server
    return "exasol" if any(name in environment.values for name in EXASOL_CONNECTION_VARIABLES) else "demo"
