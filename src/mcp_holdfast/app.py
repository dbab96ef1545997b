"""Compose everything: environment, volume, keys, store, login, payload, HTTP. serve.py starts it."""

import asyncio
import logging
import logging.config
import os
from collections.abc import AsyncIterator, Iterator, MutableMapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastmcp import FastMCP
from fastmcp.server.auth.auth import AuthProvider, MultiAuth, OAuthProvider
from fastmcp.server.auth.oauth_proxy import OAuthProxy
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.types import ASGIApp

from mcp_holdfast import logs
from mcp_holdfast.auth.authorization import AuthorizationRequests, AuthorizationResponses
from mcp_holdfast.auth.exchange import CallbackEndpoint, Exchange, TokenEndpoint
from mcp_holdfast.auth.imported.importing import import_at_first_start, keys_of_other_servers
from mcp_holdfast.auth.imported.local import LoginWithImports
from mcp_holdfast.auth.local import Lifetimes, LocalLogin, PinCheck, TokenSigner, made_up_pin
from mcp_holdfast.auth.metadata import Metadata
from mcp_holdfast.auth.provider_keys import follow_key_rotation
from mcp_holdfast.auth.providers import ProviderPlan, ProviderUnreachable, provider_of
from mcp_holdfast.auth.registrations import DEFAULT_ALLOW_LIST, RedirectAllowList, Registrations
from mcp_holdfast.auth.revocation import Revocation, advertise_revocation
from mcp_holdfast.auth.scopes import advertised_scopes, let_clients_ask_for_what_is_advertised
from mcp_holdfast.auth.sessions import SESSIONS, Sessions
from mcp_holdfast.auth.shield import Shield
from mcp_holdfast.auth.signing import accept_previous_keys
from mcp_holdfast.auth.signing_keys import note_keys, refuse_forgotten_keys
from mcp_holdfast.auth.upstream import watch_outgoing_requests
from mcp_holdfast.auth.verification import refresh_upstream_one_at_a_time, remember_verified_tokens
from mcp_holdfast.http.content import OwnContent
from mcp_holdfast.http.health import Readiness, health_routes
from mcp_holdfast.http.limits import AuthorizationLimits, OAuthBodyLimit
from mcp_holdfast.http.outage import DEFAULT_CALLBACK_PATH, OutageAnswer
from mcp_holdfast.http.provider_wait import ProviderWait
from mcp_holdfast.http.registration import RegistrationLimits
from mcp_holdfast.http.stopping import ListeningStreams, Stopping
from mcp_holdfast.payload import load_payload
from mcp_holdfast.payload.conversation import refuse_conversations
from mcp_holdfast.report import report_start
from mcp_holdfast.settings import (
    ConfigurationError,
    EffectiveValue,
    Environment,
    Settings,
    effective_settings,
    load_settings,
    read_environment,
    server_name,
)
from mcp_holdfast.storage.atomic import AtomicStore, Leases
from mcp_holdfast.storage.deadlines import PromptStore
from mcp_holdfast.storage.journal import JournaledStore
from mcp_holdfast.storage.keys import KeyRing
from mcp_holdfast.storage.locations import location_of
from mcp_holdfast.storage.opening import OpenStore, key_rings, look_at_store, open_for_server
from mcp_holdfast.storage.replicas import HostName
from mcp_holdfast.storage.sweeper import Sweeper
from mcp_holdfast.storage.volume import mount_of

log = logging.getLogger(__name__)

MCP_PATH = "/mcp"
LONGEST_LIFE = 30 * 86400.0
"""Seconds for which tokens of FastMCP's proxies live, unless the identity provider's live longer."""

ACCESS_TOKEN_LIFETIME = 3600
"""Seconds for which access tokens of the built-in login live; those of a provider, as long as its own, unless set."""

SIGN_INS_A_REGISTRATION = 3
"""How often a client may begin a sign-in for each time that it may register."""


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
    try:
        provider = provider_of(settings, environment)
    except ConfigurationError as error:
        problems += error.problems
    server = server_name(settings, environment)
    try:
        payload = load_payload(server, environment, storage_status=status)
    except ConfigurationError as error:
        problems += error.problems
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
        asyncio.run(_check_signing_keys(opened, keys.signing, settings))
    readiness = plan.storage_status.readiness = Readiness(opened.store)
    store = PromptStore(opened.store)
    watch_outgoing_requests()
    if plan.payload.auth is not None:
        log.warning("the server's own auth is replaced by FASTMCP_SERVER_AUTH", extra={"provider": settings.provider})
    # Sessions live in one process; with several, each request must be able to go to any of them.
    is_stateless = workers > 1 or settings.replicas

    def build() -> Starlette:
        login = _build_login(plan, JournaledStore(store), keys.signing, other_keys, _allow_list(plan))
        return _application(plan, opened, store, readiness, login, is_stateless=is_stateless)

    application: ASGIApp
    try:
        application = build()
    except ProviderUnreachable as error:
        log.warning("waiting for the identity provider; until then every answer is 503", extra={"reason": str(error)})
        name, path = plan.payload.name, _callback_path(plan)
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
    layers = _login_layers(login, store, shields, settings, _allow_list(plan)) if login is not None else []
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

    callback_path = _callback_path(plan)
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


async def refuse_other_stores(settings: Settings) -> None:
    """See whether the store that is there, if any, could be used with these settings; changes nothing.

    Raises:
        ConfigurationError: it belongs to other keys.

    """
    async with look_at_store(settings) as opened:
        if opened is not None:
            await _refuse_forgotten_keys(opened, key_rings(settings).signing)


async def _check_signing_keys(opened: OpenStore, ring: KeyRing, settings: Settings) -> None:
    """Leaves no connection open: gunicorn forks its workers afterwards.

    Raises:
        ConfigurationError: a key is missing that tokens are signed with.

    """
    await _refuse_forgotten_keys(opened, ring)
    await note_keys(opened.store, ring, lifetime=_longest_life(settings))
    await opened.backend.close()


def _longest_life(settings: Settings) -> float:
    """Seconds after which no token is good any more that was signed now."""
    return max(settings.refresh_token_lifetime, settings.access_token_lifetime or 0, LONGEST_LIFE)


async def _refuse_forgotten_keys(opened: OpenStore, ring: KeyRing) -> None:
    if await opened.backend.count(SESSIONS, at_most=1):
        await refuse_forgotten_keys(opened.store, ring)


def _allow_list(plan: Plan) -> RedirectAllowList:
    default = DEFAULT_ALLOW_LIST.and_also(plan.settings.redirect_uris)
    return plan.provider.allow_list(default) if plan.provider else default


def _issuer_of(login: AuthProvider) -> OAuthProvider | None:
    """What issues tokens to clients; None where the identity provider does it itself."""
    candidate = login.server if isinstance(login, MultiAuth) else login
    return candidate if isinstance(candidate, OAuthProvider) else None


def _login_layers(
    login: AuthProvider,
    store: AtomicStore,
    shields: tuple[Shield, Shield],
    settings: Settings,
    allow_list: RedirectAllowList,
) -> list[Middleware]:
    """What stands between clients and the login: nothing but a cache, unless it issues tokens; the outermost first.

    Calls have a shield of their own, so that however many of them wait for an identity provider, exchanges go on.
    """
    shield, shield_of_calls = shields
    tokens = remember_verified_tokens(login, shield_of_calls, lifetime=settings.token_cache)
    provider = _issuer_of(login)
    if provider is None:
        return []
    leases = Leases(store, lifetime=settings.lease)
    sessions = Sessions(store, leases)
    sessions.on_revoked = tokens.forget
    registrations = Registrations(store, clients=provider, lifetime=settings.registration_lifetime)
    if isinstance(provider, OAuthProxy):
        refresh_upstream_one_at_a_time(provider, leases)
    advertise_revocation(provider)
    let_clients_ask_for_what_is_advertised(provider)
    proxy = []
    if isinstance(provider, OAuthProxy):
        path = provider._redirect_path
        proxy.append(
            Middleware(AuthorizationLimits, per_minute=SIGN_INS_A_REGISTRATION * settings.registrations_per_minute)
        )
        proxy.append(Middleware(CallbackEndpoint, path=path, store=store, leases=leases, shield=shield))
    limits = partial(
        RegistrationLimits,
        registrations=registrations,
        allow_list=allow_list,
        scopes=advertised_scopes(provider),
        per_minute=settings.registrations_per_minute,
    )
    exchange = Exchange(
        provider=provider,
        store=store,
        leases=leases,
        sessions=sessions,
        registrations=registrations,
        grace=settings.refresh_grace,
    )
    return [
        Middleware(AuthorizationResponses, provider=provider),
        Middleware(Metadata, provider=provider),
        Middleware(limits),
        Middleware(TokenEndpoint, exchange=exchange, shield=shield),
        *proxy,
        Middleware(AuthorizationRequests, provider=provider),
        Middleware(Revocation, provider=provider, store=store, sessions=sessions),
    ]


def _callback_path(plan: Plan) -> str:
    """Where the identity provider sends browsers back."""
    own = plan.provider.login.arguments.get("redirect_path") if plan.provider else None
    return f"/{own.lstrip('/')}" if own else DEFAULT_CALLBACK_PATH


def _build_login(
    plan: Plan, store: JournaledStore, ring: KeyRing, other_keys: Sequence[bytes], allow_list: RedirectAllowList
) -> AuthProvider | None:
    settings = plan.settings
    if settings.provider == "none":
        log.warning("serving without authentication: anyone who reaches this port can use the server")
        return None
    if plan.provider is not None:
        keys = ring.derive("provider tokens")
        provider = plan.provider.build(client_storage=store, jwt_signing_key=keys[0], allow_list=allow_list)
        follow_key_rotation(provider)
        if isinstance(issuer := _issuer_of(provider), OAuthProxy):
            accept_previous_keys(issuer, [*keys, *other_keys])
        return provider
    return _build_local_login(settings, store, ring, plan.payload.name, allow_list)


def _build_local_login(
    settings: Settings, store: JournaledStore, ring: KeyRing, name: str, allow_list: RedirectAllowList
) -> LocalLogin:
    pin = PinCheck(store)
    given = settings.pin.get_secret_value() if settings.pin else None
    made_up = asyncio.run(_prepared(pin, store, given, made_up_pin(ring)))
    if made_up is not None:
        logging.getLogger(logs.SHOWN_ONCE).info(
            "Sign-in PIN: %s (shown once; set HOLDFAST_PIN to choose your own)", made_up
        )
    elif given is None:
        log.info("the sign-in PIN is the one of the first start; if it is lost, set HOLDFAST_PIN")
    lifetimes = Lifetimes(
        signin_page=settings.signin_page_lifetime,
        code=settings.code_lifetime,
        access_token=settings.access_token_lifetime or ACCESS_TOKEN_LIFETIME,
        refresh_token=settings.refresh_token_lifetime,
    )
    return LoginWithImports(
        base_url=settings.base_url,
        server_name=name,
        store=store,
        signer=TokenSigner(ring),
        pin=pin,
        lifetimes=lifetimes,
        allow_list=allow_list,
    )


async def _prepared(pin: PinCheck, store: JournaledStore, given: str | None, made_up: str) -> str | None:
    """Leaves no connection open: gunicorn forks its workers afterwards."""
    try:
        return await pin.prepare(given, made_up=made_up)
    finally:
        await store.close()


def _what_runs(plan: Plan) -> dict[str, str]:
    base_url = plan.provider.arguments.get("base_url") if plan.provider else None
    settings = plan.settings
    url = f"{base_url or settings.base_url}{MCP_PATH}"
    return {"server": plan.server, "login": settings.provider, "url": url, "storage": settings.backend}
