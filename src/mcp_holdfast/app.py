"""Compose everything: environment, volume, keys, store, login, payload, HTTP. serve.py starts it."""

import asyncio
import logging
import logging.config
import sqlite3
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastmcp import FastMCP
from fastmcp.server.auth.auth import AuthProvider
from key_value.aio.errors import KeyValueOperationError, KeyValueStoreError
from key_value.aio.protocols import AsyncKeyValue
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount

from mcp_holdfast import logs
from mcp_holdfast.auth.local import Lifetimes, LocalLogin, PinCheck, TokenSigner, made_up_pin
from mcp_holdfast.auth.providers import ProviderPlan, plan_provider
from mcp_holdfast.http.health import Readiness, health_routes
from mcp_holdfast.http.limits import OAuthBodyLimit
from mcp_holdfast.payload import load_payload
from mcp_holdfast.settings import (
    ConfigurationError,
    Environment,
    Problem,
    Settings,
    load_settings,
    read_environment,
    server_name,
)
from mcp_holdfast.storage import check_store, is_in_use, open_store
from mcp_holdfast.storage.keys import KeyRing, given_key_ring, temporary_key_ring, volume_key_ring
from mcp_holdfast.storage.volume import MEMORY_FILE_SYSTEMS, mount_of, volume_problems

log = logging.getLogger(__name__)

MCP_PATH = "/mcp"


class StorageStatus:
    """What the demo payload tells about the store."""

    def __init__(self, settings: Settings) -> None:
        self.readiness: Readiness | None = None
        self._settings = settings

    async def __call__(self) -> dict[str, Any]:
        kept = self._settings.backend != "memory"
        problem = await self.readiness.problem() if self.readiness else "the store is not open yet"
        return {"backend": self._settings.backend, "sealed": kept, "survives_restarts": kept, "problem": problem}


@dataclass(frozen=True)
class Plan:
    """A configuration that was checked and can be started; `provider` is None for the built-in login and for none."""

    settings: Settings
    server: str
    payload: FastMCP
    provider: ProviderPlan | None
    storage_status: StorageStatus


def plan(environ: MutableMapping[str, str]) -> Plan:
    """Check everything that can be checked without storing anything.

    Secrets that came from files are put into `environ`, where payloads and libraries look for them.

    Raises:
        ConfigurationError: with every problem that was found.

    """
    environment, problems = read_environment(environ)
    environ.update({name: environment.values[name] for name in environment.origins})
    settings, more = load_settings(environment)
    problems += [*more, *volume_problems(settings.home, settings.backend)]
    status = StorageStatus(settings)
    provider, payload = None, None
    try:
        provider = _plan_provider(settings, environment)
    except ConfigurationError as error:
        problems += error.problems
    server = server_name(settings, environment)
    try:
        payload = load_payload(server, environment, storage_status=status)
    except ConfigurationError as error:
        problems += error.problems
    if problems or payload is None:
        raise ConfigurationError(problems)
    return Plan(settings, server, payload, provider, status)


def _plan_provider(settings: Settings, environment: Environment) -> ProviderPlan | None:
    if settings.provider in {"local", "none"}:
        return None
    return plan_provider(settings.provider, environment, base_url=settings.base_url)


def start(plan: Plan, *, workers: int) -> Starlette:
    """Open the store and build the application for this number of worker processes.

    Raises:
        ConfigurationError: the store or its keys cannot be used.

    """
    settings = plan.settings
    logging.config.dictConfig(logs.configuration(settings.log_level, settings.log_format))
    keys = _key_rings(settings)
    store = _open_store(settings, keys.storage)
    readiness = plan.storage_status.readiness = Readiness(store)
    plan.payload.auth = _build_login(plan, store, keys.signing)
    _report(plan, keys)
    # Sessions live in one process; with several, each request must be able to go to any of them.
    mcp = plan.payload.http_app(path=MCP_PATH, stateless_http=workers > 1)
    return Starlette(
        routes=[*health_routes(readiness), Mount("/", mcp)],
        middleware=[Middleware(OAuthBodyLimit)],
        lifespan=mcp.lifespan,
    )


@dataclass(frozen=True)
class KeyRings:
    """What seals the store and what signs tokens; apart, so that each can be rotated alone."""

    storage: KeyRing
    signing: KeyRing


def _key_rings(settings: Settings) -> KeyRings:
    """Both before the store is opened first: a kill in between must not leave a store without one of its keys."""
    storage = (settings.storage_key, settings.storage_key_previous, "storage.key", "HOLDFAST_STORAGE_KEY")
    signing = (settings.signing_key, settings.signing_key_previous, "signing.key", "HOLDFAST_SIGNING_KEY")
    return KeyRings(_key_ring(settings, *storage), _key_ring(settings, *signing))


def _key_ring(
    settings: Settings, current: SecretStr | None, previous: Sequence[SecretStr], file_name: str, variable: str
) -> KeyRing:
    if current is not None:
        return given_key_ring(current, previous, variable)
    if settings.backend == "memory":
        return temporary_key_ring()
    in_use = is_in_use(_directory(settings))
    return volume_key_ring(settings.home / "keys" / file_name, variable, store_is_in_use=in_use)


def _directory(settings: Settings) -> Path:
    return settings.home / "oauth-proxy"


def _open_store(settings: Settings, keys: KeyRing) -> AsyncKeyValue:
    if settings.backend == "memory":
        log.warning("the memory backend loses every sign-in at a restart; set EXA_MCP_STORAGE_BACKEND=filetree to keep")
        return open_store("memory")
    directory = _directory(settings)
    try:
        store = open_store(settings.backend, path=directory, keys=keys)
        asyncio.run(check_store(store))
    except (OSError, KeyValueOperationError, KeyValueStoreError, sqlite3.Error) as error:
        remedy = "Make everything below it readable and writable for the user who runs the server"
        raise ConfigurationError([Problem("FASTMCP_HOME", f"cannot use {directory}: {error}", remedy)]) from error
    return store


def _build_login(plan: Plan, store: AsyncKeyValue, ring: KeyRing) -> AuthProvider | None:
    settings = plan.settings
    if plan.payload.auth is not None:
        log.warning("the server's own auth is replaced by FASTMCP_SERVER_AUTH", extra={"provider": settings.provider})
    if settings.provider == "none":
        log.warning("serving without authentication: anyone who reaches this port can use the server")
        return None
    if plan.provider is not None:
        return plan.provider.build(client_storage=store, jwt_signing_key=ring.derive("provider tokens")[0])
    return _build_local_login(settings, store, ring, plan.payload.name)


def _build_local_login(settings: Settings, store: AsyncKeyValue, ring: KeyRing, name: str) -> LocalLogin:
    pin = PinCheck(store)
    given = settings.pin.get_secret_value() if settings.pin else None
    made_up = asyncio.run(pin.prepare(given, made_up=made_up_pin(ring)))
    if made_up is not None:
        logging.getLogger(logs.SHOWN_ONCE).info(
            "Sign-in PIN: %s (shown once; set HOLDFAST_PIN to choose your own)", made_up
        )
    elif given is None:
        log.info("the sign-in PIN is the one of the first start; if it is lost, set HOLDFAST_PIN")
    lifetimes = Lifetimes(
        signin_page=settings.signin_page_lifetime,
        code=settings.code_lifetime,
        access_token=settings.access_token_lifetime,
        refresh_token=settings.refresh_token_lifetime,
        refresh_grace=settings.refresh_grace,
    )
    return LocalLogin(
        base_url=settings.base_url,
        server_name=name,
        store=store,
        signer=TokenSigner(ring),
        pin=pin,
        lifetimes=lifetimes,
    )


def _report(plan: Plan, keys: KeyRings) -> None:
    settings = plan.settings
    base_url = plan.provider.arguments.get("base_url") if plan.provider else None
    fields = {"server": plan.server, "login": settings.provider, "url": f"{base_url or settings.base_url}{MCP_PATH}"}
    fields["storage"] = settings.backend
    if settings.backend != "memory":
        mount = mount_of(settings.home)
        fields |= {"home": str(settings.home), "file_system": mount.type, "mount_options": mount.options}
        fields |= {"storage_key": keys.storage.origin, "signing_key": keys.signing.origin}
        if mount.type in MEMORY_FILE_SYSTEMS:
            log.warning("FASTMCP_HOME is in memory (%s): a restart loses every sign-in", mount.type)
    log.info("starting", extra=fields)
