"""Compose everything: environment, volume, keys, store, login, payload, HTTP. serve.py starts it."""

import asyncio
import logging
import logging.config
import os
from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from fastmcp import FastMCP
from fastmcp.server.auth.auth import AuthProvider
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.types import ASGIApp

from mcp_holdfast import logs
from mcp_holdfast.auth.imported.importing import import_at_first_start, keys_of_other_servers
from mcp_holdfast.auth.providers import ProviderPlan, ProviderUnreachable, provider_of
from mcp_holdfast.auth.shield import Shield
from mcp_holdfast.auth.upstream import watch_outgoing_requests
from mcp_holdfast.http.content import OwnContent
from mcp_holdfast.http.health import Readiness, health_routes
from mcp_holdfast.http.limits import OAuthBodyLimit
from mcp_holdfast.http.outage import OutageAnswer
from mcp_holdfast.http.provider_wait import ProviderWait
from mcp_holdfast.http.stopping import ListeningStreams, Stopping
from mcp_holdfast.key_checks import check_signing_keys
from mcp_holdfast.login import build_login, callback_path_of, layers_of
from mcp_holdfast.payload import load_payload
from mcp_holdfast.payload.conversation import refuse_conversations
from mcp_holdfast.report import report_start
from mcp_holdfast.settings import (
    ConfigurationError,
    EffectiveValue,
    Environment,
    Problem,
    Settings,
    effective_settings,
    load_settings,
    read_environment,
    server_name,
)
from mcp_holdfast.storage.deadlines import PromptStore
from mcp_holdfast.storage.journal import JournaledStore
from mcp_holdfast.storage.locations import location_of
from mcp_holdfast.storage.opening import OpenStore, key_rings, open_for_server
from mcp_holdfast.storage.replicas import HostName
from mcp_holdfast.storage.sweeper import Sweeper
from mcp_holdfast.storage.volume import mount_of

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

    environment: Environment
    settings: Settings
    server: str
    payload: FastMCP
    provider: ProviderPlan | None
    storage_status: StorageStatus

    def effective(self) -> Iterator[EffectiveValue]:
        """Every setting and every parameter of the provider as it works, secrets masked, and where it came from."""
        yield from effective_settings(self.settings, self.environment)
        if self.provider is not None:
            yield from self.provider.effective(self.environment)

    def warnings(self) -> Iterator[str]:
        """What was set on purpose and is still dangerous."""
        if self.provider is not None:
            yield from self.provider.warnings()


def plan(environ: MutableMapping[str, str]) -> Plan:
    """Check everything that can be checked without storing anything.

    Secrets that came from files are put into `environ`, where payloads and libraries look for them.

    Raises:
        ConfigurationError: with every problem that was found.

    """
    environment, problems = read_environment(environ)
    environ.update({name: environment.values[name] for name in environment.origins})
    settings, more = load_settings(environment)
    problems += more
    location = location_of(settings)
    problems += location.problems() if location else []
    status = StorageStatus(settings)
    provider, payload = None, None
    further: list[Problem] = []
    try:
        provider = provider_of(settings, environment)
    except ConfigurationError as error:
        further += error.problems
    server = server_name(settings, environment)
    try:
        payload = load_payload(server, environment, storage_status=status)
    except ConfigurationError as error:
        further += error.problems
    problems += [problem for problem in further if problem.variable not in environment.unread]
    if problems or payload is None:
        raise ConfigurationError(problems)
    return Plan(environment, settings, server, payload, provider, status)


def start(plan: Plan, *, workers: int) -> ASGIApp:
    """Open the store and build the application for this number of worker processes.

    Where the identity provider cannot be asked now, the application waits for it.

    Raises:
        ConfigurationError: the store or its keys cannot be used.

    """
    settings = plan.settings
    logging.config.dictConfig(logs.configuration(settings.log_level, settings.log_format))
    for warning in plan.warnings():
        log.warning(warning)
    keys = key_rings(settings)
    opened = open_for_server(settings, keys.storage)
    import_at_first_start(settings, plan.provider, opened, os.environ)
    other_keys = keys_of_other_servers(opened)
    if settings.backend != "memory":
        asyncio.run(check_signing_keys(opened, keys.signing, settings))
    readiness = plan.storage_status.readiness = Readiness(opened.store)
    store = PromptStore(opened.store)
    watch_outgoing_requests()
    if plan.payload.auth is not None:
        log.warning("the server's own auth is replaced by FASTMCP_SERVER_AUTH", extra={"provider": settings.provider})
    # Sessions live in one process; with several, each request must be able to go to any of them.
    is_stateless = workers > 1 or settings.replicas

    def build() -> Starlette:
        journaled, name = JournaledStore(store), plan.payload.name
        login = build_login(settings, plan.provider, journaled, keys.signing, other_keys, server_name=name)
        return _application(plan, opened, store, readiness, login, is_stateless=is_stateless)

    application: ASGIApp
    try:
        application = build()
    except ProviderUnreachable as error:
        log.warning("waiting for the identity provider; until then every answer is 503", extra={"reason": str(error)})
        name, path = plan.payload.name, callback_path_of(plan.provider)
        application = ProviderWait(build, str(error), server_name=name, callback_path=path)
    asyncio.run(report_start(location_of(settings), keys, opened.backend, _what_runs(plan)))
    return application


def _application(
    plan: Plan,
    opened: OpenStore,
    store: PromptStore,
    readiness: Readiness,
    login: AuthProvider | None,
    *,
    is_stateless: bool,
) -> Starlette:
    settings = plan.settings
    plan.payload.auth = login
    shields = Shield(), Shield()
    layers = layers_of(login, plan.provider, store, shields, settings) if login is not None else []
    if is_stateless:
        refuse_conversations(plan.payload)
    stopping = Stopping()
    plan.payload.middleware.insert(0, stopping)
    mcp = plan.payload.http_app(path=MCP_PATH, stateless_http=is_stateless)
    sweeper = Sweeper(store, opened.backend, interval=settings.sweep_interval, quarantine=settings.quarantine)

    is_shared = settings.backend == "filetree" and mount_of(settings.home).is_network
    told_apart = HostName(store).in_background if is_shared else nullcontext

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[Any]:
        async with mcp.lifespan(app) as state, sweeper.in_background(), told_apart():
            stopping.begin_at_sigterm()
            yield state
            await asyncio.gather(*(shield.drain() for shield in shields))
        await store.close()

    callback_path = callback_path_of(plan.provider)
    return Starlette(
        routes=[*health_routes(readiness), Mount("/", mcp)],
        middleware=[
            Middleware(ListeningStreams, path=MCP_PATH, stopping=stopping),
            Middleware(OutageAnswer, server_name=plan.payload.name, callback_path=callback_path),
            Middleware(OwnContent, callback_path=callback_path),
            Middleware(OAuthBodyLimit),
            *layers,
        ],
        lifespan=lifespan,
    )


def _what_runs(plan: Plan) -> dict[str, str]:
    base_url = plan.provider.arguments.get("base_url") if plan.provider else None
    settings = plan.settings
    url = f"{base_url or settings.base_url}{MCP_PATH}"
    return {"server": plan.server, "login": settings.provider, "url": url, "storage": settings.backend}
