"""What the URL of a PostgreSQL database says."""

import inspect
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qs, urlencode, urlunsplit

import asyncpg
from asyncpg.connect_utils import _parse_connect_dsn_and_args  # type: ignore[attr-defined]  # not in the stubs

from mcp_holdfast.storage.backends.engine import EngineProblem, parameters_of, parts_of
from mcp_holdfast.storage.backends.postgresql.table import TABLE, quoted

POOL_SIZE, STATEMENT_CACHE_SIZE = 10, 100

CLIENT_PARAMETERS = {
    *("host", "port", "user", "password", "passfile", "dbname", "database", "service", "krbsrvname", "gsslib"),
    *("sslmode", "sslnegotiation", "sslcert", "sslkey", "sslpassword", "sslrootcert", "sslcrl"),
    *("ssl_min_protocol_version", "ssl_max_protocol_version", "target_session_attrs"),
}
"""What asyncpg takes from a URL; it would hand anything else to the server as a setting."""

SERVER_SETTINGS = {
    *("application_name", "options", "search_path"),
    *("synchronous_commit", "statement_timeout", "lock_timeout"),
}
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
"""Where Debian has those that the system trusts; SSL_CERT_FILE names another file."""

SYSTEM, VERIFYING = "system", (["verify-ca"], ["verify-full"])
WRITABLE = ("read-write", "primary", "any")


@dataclass(frozen=True)
class Server:
    """What a URL says: where the servers are, how to sign in, and which table is ours."""

    dsn: str
    addresses: tuple[str | tuple[str, int], ...]
    """Paths of sockets, or hosts and ports."""

    table: str = TABLE
    pool_size: int = POOL_SIZE
    statement_cache_size: int = STATEMENT_CACHE_SIZE


def server_of(url: str) -> Server:
    """What a URL says; reads the certificates that it names, and connects to nothing.

    Raises:
        EngineProblem: the URL is wrong; the message has nothing of what may be a password.

    """
    parts = parts_of(url)
    query = _query_of(parts)
    _trust_the_system(query)
    ours = parameters_of(query, {"table": _table, "pool_size": _positive, "statement_cache_size": _natural})
    _check_parameters(query)
    # A standby would refuse every write; after a failover it is the other one.
    query.setdefault("target_session_attrs", [WRITABLE[0]])
    query.setdefault("application_name", ["holdfast"])
    dsn = urlunsplit(parts._replace(query=urlencode(query, doseq=True)))
    return Server(dsn, _addresses_of(dsn), **ours)


def _query_of(parts: SplitResult) -> dict[str, list[str]]:
    try:
        query = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise EngineProblem("what stands behind the ? of the URL is not NAME=VALUE, joined by &") from None
    for name, values in query.items():
        if not all(values):
            raise EngineProblem(f"the parameter {name} of the URL has no value")
    return query


def _trust_the_system(query: dict[str, list[str]]) -> None:
    """Verify certificates by the authorities of the system where none are named, as libpq's sslrootcert=system does."""
    roots = query.get("sslrootcert", [SYSTEM])
    if roots == [SYSTEM] and (query.get("sslmode") in VERIFYING or "sslrootcert" in query):
        query.setdefault("sslmode", ["verify-full"])
        query["sslrootcert"] = [ssl.get_default_verify_paths().cafile or AUTHORITIES]


def _check_parameters(query: Mapping[str, list[str]]) -> None:
    if unknown := sorted(query.keys() - CLIENT_PARAMETERS - SERVER_SETTINGS):
        raise EngineProblem(f"neither asyncpg nor Holdfast knows the parameter {unknown[0]}; remove it")
    for wanted in query.get("target_session_attrs", []):
        if wanted not in WRITABLE:
            raise EngineProblem(f"target_session_attrs={wanted} may lead to a server that cannot write; use read-write")


def _addresses_of(dsn: str) -> tuple[str | tuple[str, int], ...]:
    """The servers that a URL names, as asyncpg understands it, which looks at everything else in it, too."""
    # The names of what could be said beside a URL, and is not.
    beside = dict.fromkeys(inspect.signature(_parse_connect_dsn_and_args).parameters.keys() - {"dsn"})
    try:
        addresses, _ = _parse_connect_dsn_and_args(dsn=dsn, **beside)
        if all(isinstance(address, str) or 0 < address[1] < 65536 for address in addresses):
            return tuple(addresses)
    except asyncpg.ClientConfigurationError as error:
        raise EngineProblem(str(error)) from None
    except OSError as error:
        raise EngineProblem(f"a certificate or key that the URL names cannot be read: {error}") from None
    except (LookupError, ValueError):
        # It names what it could not read, which may be a part of a password.
        pass
    raise EngineProblem(
        "the URL names no user before an @, no host beside a comma, or a port that is not a number from 1 to 65535"
    )


def _table(text: str) -> str:
    quoted(text)
    return text


def _positive(text: str) -> int:
    if (number := _natural(text)) == 0:
        raise ValueError(text)
    return number


def _natural(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text):
        raise ValueError(text)
    return int(text)
