"""The URLs that name an engine: a server that keeps the store's records for many replicas.

Pure text: which backend a URL is for, what exasol's own variables say as one URL, and how a URL may be shown.
"""

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, quote, urlencode, urlunsplit

ENGINES = ("redis", "valkey", "postgresql", "dynamodb", "mongodb")

_REDIS_FORMS = ("", "+sentinel", "+cluster")
BACKEND_OF_SCHEME: Mapping[str, str] = {
    **{f"{scheme}{form}": "redis" for scheme in ("redis", "rediss") for form in _REDIS_FORMS},
    **{f"{scheme}{form}": "valkey" for scheme in ("valkey", "valkeys") for form in _REDIS_FORMS},
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "dynamodb": "dynamodb",
    "mongodb": "mongodb",
    "mongodb+srv": "mongodb",
}

EXAMPLES: Mapping[str, str] = {
    "redis": "rediss://user:password@redis.example.com:6379/0",
    "valkey": "valkeys://user:password@valkey.example.com:6379/0",
    "postgresql": "postgresql://user:password@db.example.com/holdfast?sslmode=verify-full",
    "dynamodb": "dynamodb://table?region=eu-central-1",
    "mongodb": "mongodb+srv://user:password@cluster.example.com/holdfast",
}

UNTOLD = "..."
_HOST = r"(?:\[[\w:.%]+\]|[\w.%~-]*)(?::[0-9]{1,5})?"
_SHOWABLE = re.compile(rf"(?:[^@/?#]*@)?(?P<hosts>{_HOST}(?:,{_HOST})*)(?P<path>(?:/[^@?#\s]*)?)(?:\?[^@#]*)?")
"""What stands behind ://; a password that is not percent-encoded could be anywhere in what does not match."""

EXASOL_PREFIX = "EXA_MCP_OAUTH_"
EXASOL_NAMES: Mapping[str, tuple[str, ...]] = {
    "redis": ("REDIS_URL", "REDIS_HOST", "REDIS_PORT", "REDIS_DB", "REDIS_PASSWORD"),
    "dynamodb": (
        "DYNAMODB_TABLE_NAME",
        "DYNAMODB_REGION_NAME",
        "DYNAMODB_ENDPOINT_URL",
        "DYNAMODB_AWS_ACCESS_KEY_ID",
        "DYNAMODB_AWS_SECRET_ACCESS_KEY",
        "DYNAMODB_AWS_SESSION_TOKEN",
    ),
    "mongodb": ("MONGODB_URL", "MONGODB_DB_NAME"),
}
"""What exasol-mcp-server documents for each backend, behind EXA_MCP_OAUTH_."""


def backend_of(url: str) -> str | None:
    """Which backend a URL is for; None where it is for none."""
    scheme, separator, _ = url.strip().partition("://")
    return BACKEND_OF_SCHEME.get(scheme.lower()) if separator else None


def exasol_variables(backend: str, values: Mapping[str, str]) -> list[str]:
    """Those of exasol's variables for a backend that are set."""
    names = (f"{EXASOL_PREFIX}{name}" for name in EXASOL_NAMES.get(backend, ()))
    return [name for name in names if name in values]


def url_of_exasol(backend: str, values: Mapping[str, str]) -> str | None:
    """What exasol's variables say, as one URL; None where they do not say enough.

    exasol's own defaults hold: Redis on this host, its port 6379 and database 0.
    """
    given = {name.removeprefix(EXASOL_PREFIX): values[name] for name in exasol_variables(backend, values)}
    return {"redis": _redis_url, "dynamodb": _dynamodb_url, "mongodb": _mongodb_url}[backend](given) if given else None


def _redis_url(given: Mapping[str, str]) -> str:
    if "REDIS_URL" in given:
        return given["REDIS_URL"]
    password = f":{quote(given['REDIS_PASSWORD'], safe='')}@" if "REDIS_PASSWORD" in given else ""
    host, port = given.get("REDIS_HOST", "localhost"), given.get("REDIS_PORT", "6379")
    return f"redis://{password}{f'[{host}]' if ':' in host else host}:{port}/{given.get('REDIS_DB', '0')}"


def _dynamodb_url(given: Mapping[str, str]) -> str | None:
    if "DYNAMODB_TABLE_NAME" not in given:
        return None
    parameters = {
        parameter: given[name]
        for parameter, name in (
            ("region", "DYNAMODB_REGION_NAME"),
            ("endpoint_url", "DYNAMODB_ENDPOINT_URL"),
            ("session_token", "DYNAMODB_AWS_SESSION_TOKEN"),
        )
        if name in given
    }
    credentials = ""
    if "DYNAMODB_AWS_ACCESS_KEY_ID" in given:
        credentials = quote(given["DYNAMODB_AWS_ACCESS_KEY_ID"], safe="")
        credentials += f":{quote(given.get('DYNAMODB_AWS_SECRET_ACCESS_KEY', ''), safe='')}@"
    return f"dynamodb://{credentials}{given['DYNAMODB_TABLE_NAME']}?{urlencode(parameters)}".removesuffix("?")


def _mongodb_url(given: Mapping[str, str]) -> str | None:
    if "MONGODB_URL" not in given or "MONGODB_DB_NAME" not in given:
        return given.get("MONGODB_URL")
    scheme, _, rest = given["MONGODB_URL"].partition("://")
    # Not by urlsplit: here a password may have # and [ in it.
    front, _, query = rest.partition("?")
    host, _, path = front.partition("/")
    if "@" in path or ("@" in query and "@" not in host):
        # A password with a / or ? in it, which is refused as it is.
        return given["MONGODB_URL"]
    parameters = dict(parse_qsl(query))
    if "@" in host:
        # The database in the path is also where the user is looked up, unless that is said.
        parameters.setdefault("authSource", path.strip("/") or "admin")
    return urlunsplit((scheme, host, f"/{quote(given['MONGODB_DB_NAME'], safe='')}", urlencode(parameters), ""))


def shown(url: str) -> str:
    """A URL without user, password and parameters, for logs and messages; of one that cannot be told apart, nothing."""
    if backend_of(url) is None:
        return UNTOLD
    scheme, _, rest = url.strip().partition("://")
    parts = _SHOWABLE.fullmatch(rest)
    return f"{scheme.lower()}://{parts['hosts'] + parts['path'] if parts else UNTOLD}"
