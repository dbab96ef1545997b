"""Compose everything: environment, volume, keys, store, login, payload, HTTP. serve.py starts it."""

import asyncio
import logging
import logging.config
import os
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from fastmcp import FastMCP
from fastmcp.server.auth.auth import AuthProvider
from fastmcp.server.http import StarletteWithLifespan
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.types import ASGIApp

from mcp_holdfast import logs, tracing
from mcp_holdfast.auth.cimd.detection import Detection
from mcp_holdfast.auth.cloudflare import Assertions
from mcp_holdfast.auth.imported.importing import import_at_first_start, keys_of_other_servers
from mcp_holdfast.auth.machine_tokens import token_warnings
from mcp_holdfast.auth.providers import ProviderPlan, ProviderUnreachable, provider_of, unread_variables
from mcp_holdfast.auth.sessions import SESSIONS
from mcp_holdfast.auth.shield import Shield
from mcp_holdfast.auth.upstream import watch_outgoing_requests
from mcp_holdfast.fastmcp_line import IS_FASTMCP_4
from mcp_holdfast.http.cloudflare import CloudflareGate
from mcp_holdfast.http.content import OwnContent
from mcp_holdfast.http.errors import ErrorPages
from mcp_holdfast.http.headers import SecurityHeaders
from mcp_holdfast.http.health import Readiness, health_routes
from mcp_holdfast.http.hosts import KnownHosts, OtherHosts
from mcp_holdfast.http.limits import OAuthBodyLimit
from mcp_holdfast.http.measuring import Measuring, SessionCount
from mcp_holdfast.http.methods import RefusedHead
from mcp_holdfast.http.origins import CrossOrigin
from mcp_holdfast.http.outage import OutageAnswer
from mcp_holdfast.http.paths import OwnPaths
from mcp_holdfast.http.provider_wait import ProviderWait
from mcp_holdfast.http.stopping import Stopping, UntilTheStop
from mcp_holdfast.http.tracing import Traced
from mcp_holdfast.key_checks import check_signing_keys
from mcp_holdfast.login import (
    access_problems,
    build_logins,
    callback_path_of,
    claims_told,
    documents_of,
    layers_of,
    refusals_of,
)
from mcp_holdfast.payload import load_payload
from mcp_holdfast.payload.conversation import refuse_conversations
from mcp_holdfast.payload.request_state import share_request_state
from mcp_holdfast.report import report_start
from mcp_holdfast.settings import (
    ConfigurationError,
    EffectiveValue,
    Environment,
    Problem,
    Settings,
    authority_of,
    effective_settings,
    load_settings,
    origin_of,
    read_environment,
    server_name,
    telemetry_problems,
    telemetry_warnings,
    wants_traces,
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
MOST_SESSIONS_COUNTED = 100_000

EXPERIMENTAL = (
    "the Exasol MCP server is made for FastMCP 3, and experimental on FastMCP 4: a client that speaks MCP 2026-07-28 "
    "cannot be asked whether to write, so that the tools that write fail there. Use the image holdfast, or set "
    'EXA_MCP_SETTINGS={"disable_elicitation": true} to write without asking'
)


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
        claims = claims_told(self.settings, self.provider)
        for setting in effective_settings(self.settings, self.environment):
            is_providers = setting.variable in claims and not setting.value
            yield replace(setting, value=claims[setting.variable]) if is_providers else setting
        if self.provider is not None:
            yield from self.provider.effective(self.environment)

    def public_urls(self) -> list[str]:
        """Where clients find the server: as it is set, and as the provider's own parameters say."""
        given = self.provider.arguments if self.provider is not None else {}
        own = [str(given[name]) for name in ("base_url", "resource_base_url", "issuer_url") if given.get(name)]
        return [*self.settings.base_urls, *own]

    def warnings(self) -> Iterator[str]:
        """What can be started with and is hardly meant, or is meant and still dangerous."""
        if self.provider is not None:
            yield from self.provider.warnings()
        yield from token_warnings(self.settings.tokens)
        yield from telemetry_warnings(self.environment)
        if IS_FASTMCP_4 and self.server == "exasol":
            yield EXPERIMENTAL
        if "*" in self.settings.forwarded_allow_ips:
            yield (
                "FORWARDED_ALLOW_IPS=* believes everyone about their address: limits for each address hold nobody back "
                "who reaches this port without your proxy"
            )
        yield from unread_variables(self.settings.provider, self.provider, self.environment)
        for url in self.settings.base_urls:
            if url.endswith(MCP_PATH):
                yield f"HOLDFAST_BASE_URL ends with {MCP_PATH}, so clients have to use {url}{MCP_PATH}; leave it out"


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
    problems += _tracing_problems(environment)
    status = StorageStatus(settings)
    provider, payload = None, None
    further: list[Problem] = []
    try:
        provider = provider_of(settings, environment)
        further += access_problems(settings, provider)
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


def _tracing_problems(environment: Environment) -> list[Problem]:
    problems = list(telemetry_problems(environment))
    if problems or not wants_traces(environment):
        return problems
    try:
        tracing.try_to_begin()
    except ImportError as error:
        remedy = "Install mcp-holdfast[traces], or remove it"
        return [Problem("OTEL_EXPORTER_OTLP_ENDPOINT", f"the package {error.name} is missing", remedy)]
    except ValueError as error:
        return [Problem("OTEL_*", str(error), "Correct the variable, or remove it")]
    return []


def start(plan: Plan, *, workers: int) -> ASGIApp:
    """Open the store and build the application for this number of worker processes.

    Where the identity provider cannot be asked now, the application waits for it.

    Raises:
        ConfigurationError: the store or its keys cannot be used.

    """
    settings = plan.settings
    logging.config.dictConfig(logs.configuration(settings.log_level, settings.log_format, audits=settings.audit_log))
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
    share_request_state(plan.payload, keys.signing, name=plan.server)
    # Sessions live in one process; with several, each request must be able to go to any of them.
    is_stateless = workers > 1 or settings.replicas

    def build() -> Starlette:
        journaled, name = JournaledStore(store), plan.payload.name
        logins = build_logins(settings, plan.provider, journaled, keys.signing, other_keys, server_name=name)
        return _application(plan, opened, store, readiness, logins, is_stateless=is_stateless)

    application: ASGIApp
    try:
        application = build()
    except ProviderUnreachable as error:
        log.warning("waiting for the identity provider; until then every answer is 503", extra={"reason": str(error)})
        name, path = plan.payload.name, callback_path_of(plan.provider)
        application = ProviderWait(build, str(error), server_name=name, callback_path=path)
    asyncio.run(report_start(location_of(settings), keys, opened.backend, _what_runs(plan)))
    return _in_front_of(application, plan, opened)


def _in_front_of(application: ASGIApp, plan: Plan, opened: OpenStore) -> ASGIApp:
    """Put before everything what knows no login: who may ask at all, what is counted, and what every answer says."""
    settings, callback_path, urls = plan.settings, callback_path_of(plan.provider), plan.public_urls()
    application = CrossOrigin(
        application, mcp_path=MCP_PATH, origins=[*map(origin_of, urls), *settings.allowed_origins]
    )
    hosts = {*settings.allowed_hosts, *(urlsplit(url).hostname or "" for url in urls)}
    https = [authority_of(url) for url in urls if url.startswith("https://")]
    application = KnownHosts(application, hosts=hosts, https=https)
    if wants_traces(plan.environment):
        application = Traced(application, mcp_path=MCP_PATH, callback_path=callback_path)
    if settings.metrics_token is not None:
        application = Measuring(
            application,
            token=settings.metrics_token,
            mcp_path=MCP_PATH,
            callback_path=callback_path,
            sessions=SessionCount(partial(opened.backend.count, SESSIONS, at_most=MOST_SESSIONS_COUNTED)),
        )
    application = SecurityHeaders(application, callback_path=callback_path, is_https=bool(https))
    return OwnPaths(application, mcp_path=MCP_PATH, callback_path=callback_path)


def _application(
    plan: Plan,
    opened: OpenStore,
    store: PromptStore,
    readiness: Readiness,
    logins: Sequence[AuthProvider | None],
    *,
    is_stateless: bool,
) -> Starlette:
    """Compose an application with a login for each public URL; the first one is also for hosts that no URL names."""
    settings = plan.settings
    if is_stateless:
        refuse_conversations(plan.payload)
        _answer_at_once()
    stopping = Stopping(drain=settings.drain)
    plan.payload.middleware.insert(0, stopping)
    shields = Shield(), Shield()
    on_revoked: list[Callable[[], None]] = []
    sweeper = Sweeper(store, opened.backend, interval=settings.sweep_interval, quarantine=settings.quarantine)
    is_shared = settings.backend == "filetree" and mount_of(settings.home).is_network
    told_apart = HostName(store).in_background if is_shared else nullcontext
    documents = documents_of(logins, plan.provider, store, settings)
    detecting = Detection(documents).in_background if documents and settings.cimd == "auto" else nullcontext
    callback_path = callback_path_of(plan.provider)
    gate = _gate(settings)
    layers = [
        [
            Middleware(UntilTheStop, path=MCP_PATH, stopping=stopping),
            Middleware(RefusedHead, callback_path=callback_path),
            Middleware(OutageAnswer, server_name=plan.payload.name, callback_path=callback_path),
            *gate,
            Middleware(OwnContent, callback_path=callback_path),
            Middleware(ErrorPages, server_name=plan.payload.name, refusals=refusals_of(login)),
            Middleware(OAuthBodyLimit),
            *(
                layers_of(login, plan.provider, store, shields, settings, documents, on_revoked)
                if login is not None
                else []
            ),
        ]
        for login in logins
    ]
    # Not before: a login's routes are made from what its layers changed in it.
    mcps = [_mcp_of(plan, login, is_stateless=is_stateless) for login in logins]
    routes = [[*health_routes(stopping, readiness), Mount("/", mcp)] for mcp in mcps]
    others = {
        authority_of(url): Starlette(routes=own_routes, middleware=own_layers)
        for url, own_routes, own_layers in zip(settings.base_urls[1:], routes[1:], layers[1:], strict=True)
    }

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for mcp in mcps:
                await stack.enter_async_context(mcp.lifespan(app))
            await stack.enter_async_context(sweeper.in_background())
            await stack.enter_async_context(told_apart())
            await stack.enter_async_context(detecting())
            stopping.begin_at_sigterm()
            yield
            await asyncio.gather(*(shield.drain() for shield in shields))
        await store.close()

    hosts = [Middleware(OtherHosts, apps=others)] if others else []
    return Starlette(routes=routes[0], middleware=[*hosts, *layers[0]], lifespan=lifespan)


def _answer_at_once() -> None:
    """On version 1 of the MCP SDK; version 2 answers as it comes."""
    if not IS_FASTMCP_4:
        from mcp_holdfast.http.stateless import answer_at_once

        answer_at_once()


def _gate(settings: Settings) -> list[Middleware]:
    """What stands in front of everything where the server is behind Cloudflare Access."""
    if settings.cloudflare_team is None:
        return []
    team, audience = settings.cloudflare_team, settings.cloudflare_audience
    assertions = Assertions(team, audience, Shield(), lifetime=settings.token_cache)
    return [Middleware(CloudflareGate, assertions=assertions)]


def _mcp_of(plan: Plan, login: AuthProvider | None, *, is_stateless: bool) -> StarletteWithLifespan:
    plan.payload.auth = login
    return plan.payload.http_app(path=MCP_PATH, stateless_http=is_stateless)


def _what_runs(plan: Plan) -> dict[str, str]:
    settings = plan.settings
    own_url = plan.provider.arguments.get("base_url") if plan.provider and len(settings.base_urls) == 1 else None
    urls = ", ".join(f"{url}{MCP_PATH}" for url in ([own_url] if own_url else settings.base_urls))
    return {"server": plan.server, "login": settings.provider, "url": urls, "storage": settings.backend}
