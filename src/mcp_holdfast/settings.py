"""Read and validate the whole environment once; every problem in one message, each naming its variable."""

import difflib
import ipaddress
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from mcp_holdfast.engine_urls import (
    BACKEND_OF_SCHEME,
    ENGINES,
    EXAMPLES,
    EXASOL_NAMES,
    EXASOL_PREFIX,
    backend_of,
    exasol_variables,
    url_of_exasol,
)

EXIT_CONFIG = 78
"""Exit status for a configuration that cannot work (EX_CONFIG of sysexits.h)."""

SHORTEST_KEY = 32
SHORTEST_PIN = 6
LONGEST_SECRET = 64 * 1024
"""In bytes, of a file that holds a variable's value."""

# A variable under one of these may be given as NAME_FILE; elsewhere (SSL_CERT_FILE) the suffix means other things.
FILE_PREFIXES = ("HOLDFAST_", "EXA_", "FASTMCP_SERVER_AUTH_", "OAUTH_", "MCP_OAUTH_")
NAMES_ENDING_IN_FILE = frozenset({"EXA_MCP_LOG_FILE"})

PLAIN_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*")

BROWSERS_OWN_SCHEMES = frozenset(
    {"about", "blob", "data", "file", "filesystem", "javascript", "vbscript", "view-source"}
)
REDIRECT_HOST = re.compile(
    r"(\*(\.[A-Za-z0-9_-]+){2,}|[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|\[[0-9A-Fa-f:.]+\])(:(\*|\d{1,5}))?"
)

EXASOL_CONNECTION_VARIABLES = ("EXA_DSN", "EXA_SAAS_HOST", "EXA_SAAS_ACCOUNT_ID")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with the configuration.

    `variable` is the environment variable to change, `what` says what is wrong with it, `remedy` what to do, and
    `origin` where the value came from when that is not the variable itself (a secret file, an alias, a default).
    """

    variable: str
    what: str
    remedy: str
    origin: str = ""

    def __str__(self) -> str:
        origin = f" (from {self.origin})" if self.origin and self.origin != self.variable else ""
        return f"{self.variable}{origin}: {self.what}. {self.remedy}"


class ConfigurationError(Exception):
    """The configuration cannot work. Carries every problem that was found, not just the first."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(f"  - {problem}" for problem in self.problems))


@dataclass(frozen=True)
class Environment:
    """The environment with every NAME_FILE read.

    `values` maps a variable to its value (empty ones are left out: compose files pass `${NAME:-}`), `origins` to where
    that value was set.
    """

    values: Mapping[str, str]
    origins: Mapping[str, str] = field(default_factory=dict)

    def origin(self, name: str) -> str:
        return self.origins.get(name, name)


def read_environment(environ: Mapping[str, str]) -> tuple[Environment, list[Problem]]:
    """Replace each NAME_FILE by the NAME that it stands for. A line break at a file's end is not part of its value."""
    values = {name: value for name, value in environ.items() if value}
    origins: dict[str, str] = {}
    problems: list[Problem] = []
    for name in [name for name, value in values.items() if not is_text(value)]:
        if name in variable_names() or name.startswith(FILE_PREFIXES):
            problems.append(Problem(name, "is not UTF-8 text", "Write it in UTF-8"))
        del values[name]
    for file_name in [name for name in values if _stands_for_a_file(name)]:
        name, path = file_name.removesuffix("_FILE"), Path(values.pop(file_name))
        if name in values:
            problems.append(Problem(name, f"both {name} and {file_name} are set", "Keep one of the two"))
            continue
        try:
            content = _read_secret(path)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            problems.append(
                Problem(
                    file_name,
                    f"cannot read {path}: {reason}",
                    f"Mount the secret there, readable by user {os.geteuid()}:{os.getegid()}",
                )
            )
            continue
        value = content.removesuffix("\n").removesuffix("\r")
        if not value:
            problems.append(Problem(file_name, f"{path} is empty", f"Write the value of {name} into it"))
            continue
        values[name], origins[name] = value, f"{file_name}={path}"
    return Environment(values, origins), problems


def is_text(value: str) -> bool:
    """Whether text can be written in UTF-8: variables and strangers may bring lone surrogates (PEP 383)."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _read_secret(path: Path) -> str:
    """Read a file of text.

    Raises:
        OSError: it cannot be read.
        ValueError: it is nothing that could hold a secret.

    """
    if path.exists() and not path.is_file():
        raise ValueError("it is not a file")
    with path.open("rb") as file:
        content = file.read(LONGEST_SECRET + 1)
    if len(content) > LONGEST_SECRET or b"\0" in content:
        raise ValueError(f"it is longer than {LONGEST_SECRET} bytes or not text")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None


def _stands_for_a_file(name: str) -> bool:
    if not name.endswith("_FILE") or name in NAMES_ENDING_IN_FILE:
        return False
    return name.startswith(FILE_PREFIXES) or name.removesuffix("_FILE") in variable_names()


def parse_duration(value: Any) -> Any:
    """Turn `600`, `10m`, `1h` or `30d` into seconds."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(\d+)\s*([smhd]?)", value.strip().lower())
    if match is None:
        raise PydanticCustomError(
            "duration", "is not a duration; write seconds, or a number with s, m, h or d as in 30d"
        )
    return int(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]


def _lower(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


def _backend_name(value: Any) -> Any:
    name = _lower(value)
    return "disk" if name == "sqlite" else name


def is_loopback(host: str) -> bool:
    """Whether a host name or address of a URL can only be this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_base_url(value: str) -> str:
    url = value.strip().rstrip("/")
    if "," in url:
        raise PydanticCustomError("url", "names several URLs; this release serves one. Give the one that clients use")
    try:
        parts = urlsplit(url)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        parts, port_is_valid = urlsplit(""), False
    is_plain = re.fullmatch(r"[A-Za-z0-9.-]+|[0-9A-Fa-f:.]+", parts.hostname or "") and PLAIN_PATH.fullmatch(parts.path)
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise PydanticCustomError("url", "must not have a query, a fragment or credentials")
    if parts.scheme not in {"http", "https"} or not is_plain or not port_is_valid:
        raise PydanticCustomError("url", "is not an http or https URL such as https://mcp.example.com")
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise PydanticCustomError(
            "url", "must be https: OAuth clients refuse plain http for any host but localhost (RFC 8414, section 2)"
        )
    return url


def _check_key(key: SecretStr) -> SecretStr:
    value = key.get_secret_value()
    if len(value) < SHORTEST_KEY:
        raise PydanticCustomError(
            "key",
            "is shorter than {shortest} characters; make one with: openssl rand -base64 32",
            {"shortest": SHORTEST_KEY},
        )
    if re.search(r"[\s,]", value):
        raise PydanticCustomError("key", "must not contain spaces or commas; make one with: openssl rand -base64 32")
    return key


def _whole_number(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch(r"\s*\d{1,9}\s*", value):
        raise PydanticCustomError("number", "is not a whole number")
    return value


def _check_proxies(value: str) -> str:
    for proxy in value.split(","):
        if proxy.strip() == "*":
            continue
        try:
            ipaddress.ip_network(proxy.strip())
        except ValueError:
            raise PydanticCustomError("proxies", "must list addresses or networks, or be *") from None
    return value


def _check_storage_url(url: SecretStr) -> SecretStr:
    if backend_of(url.get_secret_value()) is None:
        schemes = ", ".join(BACKEND_OF_SCHEME)
        raise PydanticCustomError("url", "does not begin with one of {schemes} and ://", {"schemes": schemes})
    return url


def _split(value: Any) -> Any:
    return [part for part in re.split(r"[\s,]+", value) if part] if isinstance(value, str) else value


def _check_redirect_pattern(pattern: str) -> str:
    """Refuse what would let codes go anywhere, and what FastMCP's matching would pass over in silence."""
    scheme, _, rest = pattern.partition(":")
    authority = rest[2:].partition("/")[0] if rest.startswith("//") else ""
    path = rest.removeprefix(f"//{authority}")
    is_web = scheme.lower() in {"http", "https"}
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme) or not rest.startswith("/"):
        raise _redirect_problem(pattern, "is no URI with a scheme such as https://")
    if scheme.lower() in BROWSERS_OWN_SCHEMES:
        raise _redirect_problem(pattern, "has a scheme that browsers act on themselves")
    if not REDIRECT_HOST.fullmatch(authority) and (is_web or authority or not path.strip("/*")):
        raise _redirect_problem(pattern, "must name its host; only subdomains can be left open, as in *.example.com")
    if re.search(r"[?#;\[\]]", path):
        raise _redirect_problem(pattern, "has a query, fragment or bracket; only scheme, host, port and path count")
    if scheme.lower() == "http" and not is_loopback(re.sub(r":[\d*]+$", "", authority).strip("[]")):
        raise _redirect_problem(pattern, "must be https, unless its host is localhost (RFC 8252, section 7.3)")
    return pattern


def _redirect_problem(pattern: str, what: str) -> PydanticCustomError:
    return PydanticCustomError("redirect", "{pattern} {what}", {"pattern": pattern, "what": what})


def normal_pin(pin: str) -> str:
    """The PIN as it is compared: digits may be typed with or without separators."""
    digits = pin.strip().replace("-", "").replace(" ", "")
    return digits if digits.isdigit() else pin.strip()


def _check_pin(pin: SecretStr) -> SecretStr:
    value = normal_pin(pin.get_secret_value())
    if len(value) < SHORTEST_PIN:
        raise PydanticCustomError(
            "pin",
            "is shorter than {shortest} characters; choose a longer PIN or a passphrase",
            {"shortest": SHORTEST_PIN},
        )
    steps = {ord(after) - ord(before) for before, after in pairwise(value)}
    if len(steps) == 1 and steps <= {-1, 0, 1}:
        raise PydanticCustomError("pin", "is among the first that anyone tries; choose one without a pattern")
    return pin


Duration = Annotated[int, BeforeValidator(parse_duration), Field(ge=1, le=10 * 365 * 86400)]
"""A number of seconds."""

DurationOrOff = Annotated[int, BeforeValidator(parse_duration), Field(ge=0, le=10 * 365 * 86400)]
"""A number of seconds, 0 for none."""

Key = Annotated[SecretStr, AfterValidator(_check_key)]
Keys = Annotated[tuple[Key, ...], BeforeValidator(_split)]
RedirectPatterns = Annotated[
    tuple[Annotated[str, AfterValidator(_check_redirect_pattern)], ...], BeforeValidator(_split)
]
Backend = Literal["filetree", "memory", "disk", "redis", "valkey", "postgresql", "dynamodb", "mongodb"]


def variable(*names: str, default: Any) -> Any:
    """A setting, its variable first and then the aliases that work too."""
    return Field(default=default, validation_alias=AliasChoices(*names))


class Settings(BaseModel):
    """Every setting of Holdfast itself. Payloads and providers read further variables; durations are in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, hide_input_in_errors=True)

    server: str = variable("HOLDFAST_SERVER", default="")
    home: Path = variable("FASTMCP_HOME", default=Path("/data"))
    backend: Annotated[Backend, BeforeValidator(_backend_name)] = variable(
        "EXA_MCP_STORAGE_BACKEND",
        "HOLDFAST_STORAGE",
        "EXA_MCP_OAUTH_STORAGE_BACKEND",
        "MCP_OAUTH_STORAGE_BACKEND",
        default="filetree",
    )
    storage_url: Annotated[SecretStr, AfterValidator(_check_storage_url)] | None = variable(
        "HOLDFAST_STORAGE_URL", default=None
    )
    storage_wait: Annotated[DurationOrOff, Field(le=3600)] = variable("HOLDFAST_STORAGE_WAIT", default=0)
    storage_key: Key | None = variable("HOLDFAST_STORAGE_KEY", default=None)
    storage_key_previous: Keys = variable("HOLDFAST_STORAGE_KEY_PREVIOUS", default=())
    signing_key: Key | None = variable("HOLDFAST_SIGNING_KEY", default=None)
    signing_key_previous: Keys = variable("HOLDFAST_SIGNING_KEY_PREVIOUS", default=())

    provider: str = variable("FASTMCP_SERVER_AUTH", default="local")
    allow_anonymous: bool = variable("HOLDFAST_ALLOW_ANONYMOUS", default=False)
    base_url: Annotated[str, AfterValidator(_check_base_url)] = variable(
        "HOLDFAST_BASE_URL", "OAUTH_ISSUER_URL", default=""
    )

    pin: Annotated[SecretStr, AfterValidator(_check_pin)] | None = variable("HOLDFAST_PIN", "OAUTH_PIN", default=None)
    signin_page_lifetime: Duration = variable("HOLDFAST_SIGNIN_PAGE_LIFETIME", default=3600)
    code_lifetime: Duration = variable("HOLDFAST_CODE_LIFETIME", default=600)
    access_token_lifetime: Duration = variable("HOLDFAST_ACCESS_TOKEN_LIFETIME", default=3600)
    refresh_token_lifetime: Duration = variable("HOLDFAST_REFRESH_TOKEN_LIFETIME", default=30 * 86400)
    refresh_grace: DurationOrOff = variable("HOLDFAST_REFRESH_GRACE", default=60)
    token_cache: Annotated[DurationOrOff, Field(le=300)] = variable("HOLDFAST_TOKEN_CACHE", default=10)
    lease: Annotated[Duration, Field(ge=2, le=300)] = variable("HOLDFAST_LEASE", default=10)
    sweep_interval: DurationOrOff = variable("HOLDFAST_SWEEP_INTERVAL", default=60)
    quarantine: Duration = variable("HOLDFAST_QUARANTINE", default=7 * 86400)

    redirect_uris: RedirectPatterns = variable("HOLDFAST_REDIRECT_URIS", default=())
    registrations_per_minute: Annotated[int, BeforeValidator(_whole_number), Field(ge=1, le=100_000)] = variable(
        "HOLDFAST_REGISTRATIONS_PER_MINUTE", default=20
    )
    registration_lifetime: Duration = variable("HOLDFAST_REGISTRATION_LIFETIME", default=86400)

    workers: Annotated[int, BeforeValidator(_whole_number), Field(ge=1, le=512)] = variable(
        "WEB_CONCURRENCY", default=1
    )
    replicas: bool = variable("HOLDFAST_REPLICAS", default=False)
    port: Annotated[int, BeforeValidator(_whole_number), Field(ge=1, le=65535)] = variable("PORT", default=8000)
    forwarded_allow_ips: Annotated[str, AfterValidator(_check_proxies)] = variable(
        "FORWARDED_ALLOW_IPS", default="127.0.0.1"
    )
    gunicorn_arguments: str = variable("GUNICORN_CMD_ARGS", default="")
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = variable(
        "LOG_LEVEL", default="info"
    )
    log_format: Annotated[Literal["text", "json"], BeforeValidator(_lower)] = variable("LOG_FORMAT", default="text")

    @model_validator(mode="after")
    def _default_base_url(self) -> Self:
        if not self.base_url:
            object.__setattr__(self, "base_url", f"http://localhost:{self.port}")
        return self


def variables_of(setting: FieldInfo) -> tuple[str, ...]:
    """The variable of a setting and its aliases, the variable first."""
    return tuple(str(name) for name in cast("AliasChoices", setting.validation_alias).choices)


def variable_names() -> frozenset[str]:
    """The names of all variables that Holdfast itself reads, aliases included."""
    return frozenset(name for setting in Settings.model_fields.values() for name in variables_of(setting))


def load_settings(environment: Environment) -> tuple[Settings, list[Problem]]:
    """Validate the environment: the settings, with defaults in place of wrong ones, and all that is wrong."""
    problems = _unknown_variables(environment)
    given: dict[str, str] = {}
    for name, setting in Settings.model_fields.items():
        normalise = _backend_name if name == "backend" else str.strip
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
        settings = Settings.model_validate({name: given[name] for name in given.keys() - wrong}, by_name=True)
    return settings, [*problems, *_contradictions(settings, environment)]


def _exasol_names() -> list[str]:
    return [f"{EXASOL_PREFIX}{name}" for names in EXASOL_NAMES.values() for name in names]


def _complete_storage(given: dict[str, str], environment: Environment) -> None:
    """A URL says which backend it is for; where there is none, exasol's own variables may name the engine."""
    if "storage_url" in given:
        given.setdefault("backend", backend_of(given["storage_url"]) or "filetree")
    elif (backend := _backend_name(given.get("backend", ""))) in EXASOL_NAMES:
        url = url_of_exasol(backend, environment.values)
        if url is not None:
            given["storage_url"] = url


def _engine_problems(settings: Settings, environment: Environment) -> list[Problem]:
    """What is missing for a backend that is reached over the network, or contradicts it."""
    backend, url = settings.backend, settings.storage_url
    if backend not in ENGINES:
        if url is None:
            return []
        what = f"names an engine, but the {backend} backend is chosen"
        return [Problem("HOLDFAST_STORAGE_URL", what, "Remove EXA_MCP_STORAGE_BACKEND, or HOLDFAST_STORAGE_URL")]
    problems = []
    example = f"Set it, as in {EXAMPLES[backend]}"
    is_given = "HOLDFAST_STORAGE_URL" in environment.values or (
        backend in EXASOL_NAMES and url_of_exasol(backend, environment.values) is not None
    )
    if not is_given:
        problems.append(Problem("HOLDFAST_STORAGE_URL", f"is not set, and {backend} is reached by it", example))
    elif url is not None and backend_of(url.get_secret_value()) != backend:
        scheme = url.get_secret_value().partition("://")[0]
        problems.append(Problem("HOLDFAST_STORAGE_URL", f"begins with {scheme}, which is not {backend}", example))
    also = exasol_variables(backend, environment.values)
    if also and "HOLDFAST_STORAGE_URL" in environment.values:
        what = f"is set, and so is {' and '.join(also)}"
        problems.append(Problem("HOLDFAST_STORAGE_URL", what, "Keep HOLDFAST_STORAGE_URL alone"))
    for variable_name, key in (
        ("HOLDFAST_STORAGE_KEY", settings.storage_key),
        ("HOLDFAST_SIGNING_KEY", settings.signing_key),
    ):
        if key is None and variable_name not in environment.values:
            what = f"is not set, and with {backend} there may be no volume that could keep one"
            problems.append(Problem(variable_name, what, "Make one with: openssl rand -base64 32"))
    return problems


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


REMEDIES = {
    "EXA_MCP_STORAGE_BACKEND": "Choose filetree (the default), disk (also called sqlite), memory, redis, valkey, "
    "postgresql, dynamodb or mongodb",
    "HOLDFAST_STORAGE_URL": f"Write it as in {EXAMPLES['postgresql']}",
    "HOLDFAST_ALLOW_ANONYMOUS": "Write true or false",
    "HOLDFAST_REDIRECT_URIS": "Give redirect URIs separated by commas, as in https://app.example.com/oauth/callback; "
    "a * stands for any part of the path",
    "WEB_CONCURRENCY": "Give the number of worker processes, 1 to 512",
    "HOLDFAST_REPLICAS": "Write true where any of several replicas may get any request of a client, else false",
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
        what = (
            detail["msg"]
            if detail["type"] in {"duration", "url", "key", "pin", "number", "proxies", "redirect"}
            else detail["msg"].lower()
        )
        remedy = REMEDIES.get(names[0], "Correct it, or remove it to use the default")
        problems.append(Problem(name, what, remedy, environment.origin(name)))
    return problems


def _contradictions(settings: Settings, environment: Environment) -> list[Problem]:
    problems = []
    if settings.provider == "none" and not settings.allow_anonymous:
        problems.append(
            Problem(
                "FASTMCP_SERVER_AUTH",
                "none would serve the MCP server to anyone who can reach it",
                "Use local for the built-in login, or also set HOLDFAST_ALLOW_ANONYMOUS=true if that is what you want",
            )
        )
    problems.extend(memory_problems(settings.backend, settings.workers))
    if settings.replicas and settings.backend == "memory":
        what = "replicas cannot share the memory backend: each would know only its own sign-ins"
        problems.append(Problem("HOLDFAST_REPLICAS", what, "Remove it, or use EXA_MCP_STORAGE_BACKEND=filetree"))
    problems.extend(_engine_problems(settings, environment))
    for key in ("HOLDFAST_STORAGE_KEY", "HOLDFAST_SIGNING_KEY"):
        if f"{key}_PREVIOUS" in environment.values and key not in environment.values:
            problems.append(
                Problem(f"{key}_PREVIOUS", f"is set without {key}", f"Set {key} to the key that follows it")
            )
    return problems


def memory_problems(backend: str, workers: int) -> list[Problem]:
    """What speaks against `workers` processes on this backend: memory is not shared between them."""
    if backend != "memory" or workers == 1:
        return []
    return [
        Problem(
            "WEB_CONCURRENCY",
            f"{workers} workers cannot share the memory backend: each would know only its own sign-ins",
            "Use one worker, or EXA_MCP_STORAGE_BACKEND=filetree",
        )
    ]


def server_name(settings: Settings, environment: Environment) -> str:
    """The payload to run: the one that is set, else exasol where one of its connections is configured, else demo."""
    if settings.server:
        return settings.server
    return "exasol" if any(name in environment.values for name in EXASOL_CONNECTION_VARIABLES) else "demo"
