"""The Exasol MCP server, made of its own public functions and with our login.

It opens database connections when a tool needs one, so it starts while the database is away. Two things differ from
exasol's own start:

- Telemetry is off. EXASOL_TELEMETRY_ENDPOINT turns it on: exasol's variable for where to send it, by its own default
  https://metrics.exasol.com/telemetry. EXASOL_TELEMETRY_DISABLE still turns it off.
- Log settings (EXA_MCP_LOG_*) are applied when the server starts, and only where one of them is set. The console is
  ours already, so EXA_MCP_LOG_TO_CONSOLE adds no second one.
"""

import difflib
import json
import logging
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import exasol.ai.mcp.server.connection.connection_factory as connections  # type: ignore[import-untyped]
from exasol.ai.mcp.server import main as upstream
from exasol.ai.mcp.server.connection.db_connection import DbConnection  # type: ignore[import-untyped]
from exasol.ai.mcp.server.setup.server_settings import McpServerSettings  # type: ignore[import-untyped]
from exasol.telemetry import client as telemetry  # type: ignore[import-untyped]
from fastmcp import FastMCP
from pydantic import BaseModel, ValidationError

from mcp_holdfast.settings import ConfigurationError, Environment, Problem

LOG_VARIABLES = "EXA_MCP_LOG_"
CLAIM = "EXA_USERNAME_CLAIM"
YES_OR_NO = ("EXA_SSL_CERT_VALIDATION", "EXA_LOG_CLAIMS", "EXA_LOG_HTTP_HEADERS", "EXA_MCP_LOG_TO_CONSOLE")
WHOLE_NUMBERS = {"EXA_POOL_SIZE": 1, "EXA_MCP_LOG_MAX_SIZE": 0, "EXA_MCP_LOG_BACKUP_COUNT": 0}
FILES = {"EXA_SSL_TRUSTED_CA": "file or directory", "EXA_SSL_CLIENT_CERT": "file", "EXA_SSL_PRIVATE_KEY": "file"}


def exasol_server(environment: Environment) -> FastMCP:
    """Make the server.

    Raises:
        ConfigurationError: with every problem that was found.

    """
    env = dict(environment.values)
    problems = [*_missing(env), *_unidentified_users(env), *_malformed(env)]
    settings = _settings(env, problems)
    bucketfs = None
    if not problems and (settings.enable_read_bucketfs or settings.enable_write_bucketfs):
        bucketfs = _bucketfs(env, problems)
    if problems:
        raise ConfigurationError(problems)
    connection = DbConnection(connection_factory=connections.get_connection_factory(env))
    server: FastMCP = upstream.create_mcp_server(
        connection=connection, config=settings, bucketfs_location=bucketfs, lifespan=_lifespan(env)
    )
    return server


def _missing(env: Mapping[str, str]) -> list[Problem]:
    """Name what none of exasol's ways to connect can do without, for the one that was begun."""
    if connections.local_env_complete(env) or connections.oidc_env_complete(env) or connections.saas_env_complete(env):
        return []
    saas = [
        (("EXA_SAAS_ACCOUNT_ID",), "Set it to the account of the SaaS database"),
        (("EXA_SAAS_PAT", "EXA_SAAS_PAT_HEADER"), "Set it, or EXA_SAAS_PAT_HEADER where users send their own token"),
        (("EXA_SAAS_DATABASE_ID", "EXA_SAAS_DATABASE_NAME"), "Set it, or EXA_SAAS_DATABASE_NAME"),
    ]
    own = [
        (("EXA_DSN",), "Set it to HOST:PORT of the database, or EXA_SAAS_ACCOUNT_ID and what belongs to it"),
        (("EXA_USER",), "Set it, or EXA_USERNAME_CLAIM where users connect with their own token"),
        (
            ("EXA_PASSWORD", "EXA_ACCESS_TOKEN", "EXA_REFRESH_TOKEN"),
            "Set it, or EXA_ACCESS_TOKEN, or EXA_REFRESH_TOKEN",
        ),
    ]
    wanted = saas if any(name.startswith("EXA_SAAS_") for name in env) else own
    return [
        Problem(names[0], "is not set, and the exasol server needs it to connect", remedy)
        for names, remedy in wanted
        if not any(name in env for name in names)
    ]


def _unidentified_users(env: Mapping[str, str]) -> list[Problem]:
    """Name the claim that says who a user is at the database, where the login cannot say it."""
    if CLAIM not in env or connections.saas_env_complete(env):
        return []
    login = env.get("FASTMCP_SERVER_AUTH") or "local"
    if login == "none":
        return [Problem(CLAIM, "is set, but nobody signs in (FASTMCP_SERVER_AUTH=none)", "Remove it")]
    if login == "local" and not connections.local_env_complete(env):
        what = "is set without EXA_USER, but no database takes the tokens of the built-in login"
        return [Problem(CLAIM, what, "Name an identity provider in FASTMCP_SERVER_AUTH, or set EXA_USER as well")]
    return []


def _malformed(env: Mapping[str, str]) -> list[Problem]:
    problems = []
    for name in filter(env.__contains__, YES_OR_NO):
        with suppress(ValueError):
            connections.optional_bool_from_env(env, name)
            continue
        problems.append(Problem(name, "is neither yes nor no", "Write yes or no (true and false work too)"))
    for name, least in WHOLE_NUMBERS.items():
        if name in env and not (re.fullmatch(r"\s*\d+\s*", env[name]) and int(env[name]) >= least):
            problems.append(Problem(name, f"is not a whole number from {least} on", "Correct it, or remove it"))
    for name, kind in FILES.items():
        if name in env and not (Path(env[name]).is_file() or (kind != "file" and Path(env[name]).is_dir())):
            problems.append(Problem(name, f"there is no {kind} {env[name]}", "Mount it there, readable by this user"))
    return problems + _malformed_log_settings(env)


def _malformed_log_settings(env: Mapping[str, str]) -> list[Problem]:
    problems = []
    level = env.get("EXA_MCP_LOG_LEVEL")
    if level is not None and level not in logging.getLevelNamesMapping():
        problems.append(Problem("EXA_MCP_LOG_LEVEL", "is not a log level", "Write DEBUG, INFO, WARNING or ERROR"))
    try:
        logging.Formatter(env.get("EXA_MCP_LOG_FORMATTER"))
    except ValueError as error:
        problems.append(Problem("EXA_MCP_LOG_FORMATTER", str(error), "Write it as in %(asctime)s %(message)s"))
    if "EXA_MCP_LOG_FILE" in env:
        path = Path(env["EXA_MCP_LOG_FILE"]).absolute()
        nearest = next(parent for parent in (path, *path.parents) if parent.exists())
        if path.is_dir() or not os.access(nearest, os.W_OK):
            what = f"cannot write {path}"
            problems.append(Problem("EXA_MCP_LOG_FILE", what, "Give a file in a directory that this user can write"))
    return problems


def _settings(env: Mapping[str, str], problems: list[Problem]) -> McpServerSettings:
    """Read EXA_MCP_SETTINGS as exasol does; what it would silently ignore is a problem here."""
    text = env.get("EXA_MCP_SETTINGS", "{}")
    is_json = text.lstrip().startswith("{")
    if is_json:
        # Exasol takes JSON of several lines for a file name.
        env = {**env, "EXA_MCP_SETTINGS": text.replace("\n", " ")}
    try:
        settings = upstream.get_mcp_settings(env)
    except (ValueError, OSError) as error:
        remedy = "Give a JSON object, or the path of a file that holds one"
        problems.append(Problem("EXA_MCP_SETTINGS", _reason(error.__cause__ or error), remedy))
        return McpServerSettings()
    given = json.loads(text if is_json else Path(text).read_text(encoding="utf-8"))
    problems += _unknown_fields(given, settings)
    return settings


def _reason(error: BaseException) -> str:
    if isinstance(error, ValidationError):
        details = error.errors(include_url=False, include_context=False, include_input=False)
        return "; ".join(f"{'.'.join(map(str, detail['loc']))} {detail['msg']}".strip() for detail in details)
    if isinstance(error, json.JSONDecodeError):
        return f"is not valid JSON: {error}"
    if isinstance(error, OSError):
        return f"cannot be read: {error}"
    return "is neither JSON nor the path of a file"


def _unknown_fields(given: Mapping[str, Any], settings: BaseModel, where: str = "") -> list[Problem]:
    known = type(settings).model_fields
    problems = []
    for name, value in given.items():
        if name in known and isinstance(value, Mapping):
            problems += _unknown_fields(value, getattr(settings, name), f" in {name}")
        # Exasol itself warns of its former settings, all called *_field.
        elif name not in known and not name.endswith("_field"):
            nearest = difflib.get_close_matches(name, known, n=1)
            remedy = f"Did you mean {nearest[0]}?" if nearest else "Remove it"
            problems.append(Problem("EXA_MCP_SETTINGS", f"there is no setting {name}{where}", remedy))
    return problems


def _bucketfs(env: Mapping[str, str], problems: list[Problem]) -> Any:
    """Open the bucket of the BucketFS tools. Unlike the database, exasol wants to reach it at once."""
    needed = () if connections.saas_env_complete(env) else ("URL", "USER", "PASSWORD")
    missing = [f"EXA_BUCKETFS_{name}" for name in needed if f"EXA_BUCKETFS_{name}" not in env]
    if missing:
        what, remedy = "is not set, and the BucketFS tools need it", "Set it, or turn them off in EXA_MCP_SETTINGS"
        problems += [Problem(name, what, remedy) for name in missing]
        return None
    try:
        return connections.get_bucketfs_location(env)
    except Exception as error:  # noqa: BLE001 - it looks for the bucket over the network, which may fail in any way
        what = f"the bucket cannot be opened: {type(error).__name__}: {error}"
        remedy = "Correct the EXA_BUCKETFS_* settings, or turn the BucketFS tools off in EXA_MCP_SETTINGS"
        problems.append(Problem("EXA_BUCKETFS_URL", what, remedy))
        return None


def _lifespan(env: Mapping[str, str]) -> Callable[[FastMCP], Any]:
    @asynccontextmanager
    async def lifespan(_: FastMCP) -> AsyncIterator[dict[str, Any]]:
        root = logging.getLogger()
        level, handlers = root.level, list(root.handlers)
        if any(name.startswith(LOG_VARIABLES) for name in env):
            upstream.setup_logger({name: value for name, value in env.items() if name != "EXA_MCP_LOG_TO_CONSOLE"})
        if "EXASOL_TELEMETRY_ENDPOINT" in env:
            upstream.setup_telemetry(root)
        try:
            yield {}
        finally:
            with suppress(telemetry.TelemetryError):
                telemetry.shutdown(flush_buffers=False)
            for handler in set(root.handlers) - set(handlers):
                root.removeHandler(handler)
                handler.close()
            root.setLevel(level)

    return lifespan
