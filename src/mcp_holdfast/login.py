"""The login as it is configured, and what stands between it and its clients."""

import asyncio
import logging
from collections.abc import Sequence
from functools import partial

from fastmcp.server.auth.auth import AuthProvider, MultiAuth, OAuthProvider
from fastmcp.server.auth.oauth_proxy import OAuthProxy
from starlette.middleware import Middleware

from mcp_holdfast import logs
from mcp_holdfast.auth.authorization import AuthorizationRequests, AuthorizationResponses
from mcp_holdfast.auth.exchange import CallbackEndpoint, Exchange, TokenEndpoint
from mcp_holdfast.auth.imported.local import LoginWithImports
from mcp_holdfast.auth.local import Lifetimes, LocalLogin, PinCheck, TokenSigner, made_up_pin
from mcp_holdfast.auth.metadata import Metadata
from mcp_holdfast.auth.provider_keys import follow_key_rotation
from mcp_holdfast.auth.providers import ProviderPlan
from mcp_holdfast.auth.registrations import DEFAULT_ALLOW_LIST, RedirectAllowList, Registrations
from mcp_holdfast.auth.revocation import Revocation, advertise_revocation
from mcp_holdfast.auth.scopes import advertised_scopes, let_clients_ask_for_what_is_advertised
from mcp_holdfast.auth.sessions import Sessions
from mcp_holdfast.auth.shield import Shield
from mcp_holdfast.auth.signing import accept_previous_keys
from mcp_holdfast.auth.verification import refresh_upstream_one_at_a_time, remember_verified_tokens
from mcp_holdfast.http.limits import AuthorizationLimits
from mcp_holdfast.http.outage import DEFAULT_CALLBACK_PATH
from mcp_holdfast.http.registration import RegistrationLimits
from mcp_holdfast.settings import Settings
from mcp_holdfast.storage.atomic import AtomicStore, Leases
from mcp_holdfast.storage.journal import JournaledStore
from mcp_holdfast.storage.keys import KeyRing

log = logging.getLogger(__name__)

ACCESS_TOKEN_LIFETIME = 3600
"""Seconds for which access tokens of the built-in login live; those of a provider, as long as its own, unless set."""

SIGN_INS_A_REGISTRATION = 3
"""How often a client may begin a sign-in for each time that it may register."""


def build_login(
    settings: Settings,
    plan: ProviderPlan | None,
    store: JournaledStore,
    ring: KeyRing,
    other_keys: Sequence[bytes],
    *,
    server_name: str,
) -> AuthProvider | None:
    """Make what `plan` says, or the built-in login; None where anyone may enter.

    The provider's tokens may also be signed by `other_keys`, those of servers whose sessions were imported.

    Raises:
        ConfigurationError: the provider refuses its arguments.
        ProviderUnreachable: the provider needs its identity provider to be made, and that does not answer now.

    """
    if settings.provider == "none":
        log.warning("serving without authentication: anyone who reaches this port can use the server")
        return None
    allow_list = _allow_list(settings, plan)
    if plan is None:
        return _build_local_login(settings, store, ring, server_name, allow_list)
    keys = ring.derive("provider tokens")
    provider = plan.build(client_storage=store, jwt_signing_key=keys[0], allow_list=allow_list)
    follow_key_rotation(provider)
    if isinstance(issuer := _issuer_of(provider), OAuthProxy):
        accept_previous_keys(issuer, [*keys, *other_keys])
    return provider


def layers_of(
    login: AuthProvider,
    plan: ProviderPlan | None,
    store: AtomicStore,
    shields: tuple[Shield, Shield],
    settings: Settings,
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
        allow_list=_allow_list(settings, plan),
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


def callback_path_of(plan: ProviderPlan | None) -> str:
    """Where the identity provider sends browsers back."""
    own = plan.login.arguments.get("redirect_path") if plan else None
    return f"/{own.lstrip('/')}" if own else DEFAULT_CALLBACK_PATH


def _allow_list(settings: Settings, plan: ProviderPlan | None) -> RedirectAllowList:
    default = DEFAULT_ALLOW_LIST.and_also(settings.redirect_uris)
    return plan.allow_list(default) if plan else default


def _issuer_of(login: AuthProvider) -> OAuthProvider | None:
    """What issues tokens to clients; None where the identity provider does it itself."""
    candidate = login.server if isinstance(login, MultiAuth) else login
    return candidate if isinstance(candidate, OAuthProvider) else None


def _build_local_login(
    settings: Settings, store: JournaledStore, ring: KeyRing, server_name: str, allow_list: RedirectAllowList
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
        server_name=server_name,
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
