"""The environment, with every NAME_FILE read."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mcp_holdfast.settings.model import variable_names
from mcp_holdfast.settings.problems import Problem

LONGEST_SECRET = 64 * 1024
"""In bytes, of a file that holds a variable's value."""

# A variable under one of these may be given as NAME_FILE; elsewhere (SSL_CERT_FILE) the suffix means other things.
FILE_PREFIXES = ("HOLDFAST_", "EXA_", "FASTMCP_SERVER_AUTH_", "OAUTH_", "MCP_OAUTH_", "OTEL_EXPORTER_OTLP_")
NEVER_EMPTY = {"HOLDFAST_STORAGE_URL": "Give the URL, or remove the variable to keep files"} | dict.fromkeys(
    (
        "HOLDFAST_ALLOWED_USERS",
        "HOLDFAST_ALLOWED_DOMAINS",
        "HOLDFAST_ALLOWED_GROUPS",
        "HOLDFAST_CLOUDFLARE_TEAM",
        "HOLDFAST_CLOUDFLARE_AUDIENCE",
    ),
    "Give its value, or remove the variable to let in everybody whom the login lets in",
)
"""Without them records would be somewhere else, or strangers let in, and nobody might notice; with the remedies."""

NAMES_ENDING_IN_FILE = frozenset({"EXA_MCP_LOG_FILE"})


DEFAULT = "default"
FROM_ENVIRONMENT = "environment"


@dataclass(frozen=True)
class Environment:
    """The environment with every NAME_FILE read.

    `values` maps a variable to its value (empty ones are left out: compose files pass `${NAME:-}`), `origins` to where
    that value was set. `unread` are variables that are set to what could not be had, which is a problem of its own.
    """

    values: Mapping[str, str]
    origins: Mapping[str, str] = field(default_factory=dict)
    unread: frozenset[str] = frozenset()

    def is_set(self, name: str) -> bool:
        return name in self.values or name in self.unread

    def origin(self, name: str) -> str:
        return self.origins.get(name, name)

    def source(self, name: str) -> str:
        """Where the value of a variable comes from, for people."""
        return self.origins.get(name, FROM_ENVIRONMENT) if name in self.values else DEFAULT


def read_environment(environ: Mapping[str, str]) -> tuple[Environment, list[Problem]]:
    """Replace each NAME_FILE by the NAME that it stands for. A line break at a file's end is not part of its value."""
    values = {name: value for name, value in environ.items() if value}
    origins: dict[str, str] = {}
    problems: list[Problem] = []
    for name, remedy in sorted(NEVER_EMPTY.items()):
        given = next((variable for variable in (name, f"{name}_FILE") if variable in environ), None)
        if given is not None and not environ[given]:
            problems.append(Problem(given, "is set to nothing", remedy))
    unread: set[str] = set()
    for name in [name for name, value in values.items() if not is_text(value)]:
        if name in variable_names() or name.startswith(FILE_PREFIXES):
            problems.append(Problem(name, "is not UTF-8 text", "Write it in UTF-8"))
        del values[name]
        unread.add(name)
    for file_name in [name for name in values if _stands_for_a_file(name)]:
        name, path = file_name.removesuffix("_FILE"), Path(values.pop(file_name))
        if name in values:
            problems.append(Problem(name, f"both {name} and {file_name} are set", "Keep one of the two"))
            continue
        try:
            content = _read_secret(path)
        except (OSError, ValueError) as error:
            unread.add(name)
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
            unread.add(name)
            problems.append(Problem(file_name, f"{path} is empty", f"Write the value of {name} into it"))
            continue
        values[name], origins[name] = value, f"{file_name}={path}"
    return Environment(values, origins, frozenset(unread)), problems


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
