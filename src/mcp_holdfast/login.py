"""The login as it is configured, and what stands between it and its clients."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from fastmcp.server.auth.auth import AuthProvider, MultiAuth, OAuthProvider
from fastmcp.server.auth.oauth_proxy import OAuthProxy
from starlette.middleware import Middleware

from mcp_holdfast import logs
from mcp_holdfast.auth.allow_lists import AllowLists, allow_list_problems, claims_in_use, let_in_only_allowed
from mcp_holdfast.auth.audited import AuditedRequests
from mcp_holdfast.auth.authorization import AuthorizationRequests, AuthorizationResponses
from mcp_holdfast.auth.cimd.acceptance import accept_documents
from mcp_holdfast.auth.cimd.documents import ClientDocuments
from mcp_holdfast.auth.claims import Claims, claims_of, is_known
from mcp_holdfast.auth.configured import (
    SETTING,
    ConfiguredClients,
    know_configured_clients,
    scope_problems,
    send_codes_to_configured_uris,
)
from mcp_holdfast.auth.consent import show_consent_in_our_style
from mcp_holdfast.auth.exchange import CallbackEndpoint, Exchange, TokenEndpoint
from mcp_holdfast.auth.hosts import keep_sign_ins_to_one_host
from mcp_holdfast.auth.imported.local import LoginWithImports
from mcp_holdfast.auth.local import SCOPE, Issuer, Lifetimes, LocalLogin, PinCheck, TokenSigner, made_up_pin
from mcp_holdfast.auth.machine_tokens import Revocations, token_problems
from mcp_holdfast.auth.metadata import Metadata
from mcp_holdfast.auth.origin import OriginOf, tells_nothing
from mcp_holdfast.auth.provider_keys import follow_key_rotation
from mcp_holdfast.auth.providers import ProviderPlan
from mcp_holdfast.auth.refusals import Refusals
from mcp_holdfast.auth.registrations import DEFAULT_ALLOW_LIST, RedirectAllowList, Registrations
from mcp_holdfast.auth.revocation import Revocation, advertise_revocation
from mcp_holdfast.auth.scopes import advertised_scopes, let_clients_ask_for_what_is_advertised
from mcp_holdfast.auth.sessions import Sessions
from mcp_holdfast.auth.shield import Shield
from mcp_holdfast.auth.signing import accept_previous_keys, origin_of
from mcp_holdfast.auth.static_tokens import NoLogin, StaticTokens, accept_static_tokens
from mcp_holdfast.auth.verification import refresh_upstream_one_at_a_time, remember_verified_tokens
from mcp_holdfast.http.limits import AuthorizationLimits
from mcp_holdfast.http.outage import DEFAULT_CALLBACK_PATH
from mcp_holdfast.http.registration import RegistrationLimits
from mcp_holdfast.settings import ConfigurationError, Problem, Settings
from mcp_holdfast.storage.atomic import AtomicStore, Leases
from mcp_holdfast.storage.journal import JournaledStore
from mcp_holdfast.storage.keys import KeyRing

log = logging.getLogger(__name__)

ACCESS_TOKEN_LIFETIME = 3600
"""Seconds for which access tokens of the built-in login live; those of a provider, as long as its own, unless set."""

SIGN_INS_A_REGISTRATION = 3
"""How often a client may begin a sign-in for each time that it may register."""


def build_logins(
    settings: Settings,
    plan: ProviderPlan | None,
    store: JournaledStore,
    ring: KeyRing,
    other_keys: Sequence[bytes],
    *,
    server_name: str,
) -> list[AuthProvider | None]:
    """Make what `plan` says, or the built-in login, for each public URL; None where anyone may enter.

    The provider's tokens may also be signed by `other_keys`, those of servers whose sessions were imported.

    Raises:
        ConfigurationError: the provider refuses its arguments, or does not have the scopes of configured clients.
        ProviderUnreachable: the provider needs its identity provider to be made, and that does not answer now.

    """
    if settings.provider == "none" and not settings.allow_anonymous:
        return [NoLogin() for _ in settings.base_urls]
    if settings.provider == "none":
        log.warning("serving without authentication: anyone who reaches this port can use the server")
        return [None for _ in settings.base_urls]
    allow_list = _allow_list(settings, plan)
    if plan is None:
        return [*_build_local_logins(settings, store, ring, server_name, allow_list)]
    keys = ring.derive("provider tokens")
    logins: list[AuthProvider | None] = []
    for url in settings.base_urls:
        provider = plan.at(url).build(client_storage=store, jwt_signing_key=keys[0], allow_list=allow_list)
        follow_key_rotation(provider)
        issuer = _issuer_of(provider)
        _refuse_scopes(settings, provider, issuer)
        if isinstance(issuer, OAuthProxy):
            accept_previous_keys(issuer, [*keys, *other_keys])
            show_consent_in_our_style()
            if url != settings.base_url:
                keep_sign_ins_to_one_host(issuer, url)
        logins.append(provider)
    return logins


def documents_of(
    logins: Iterable[AuthProvider | None], plan: ProviderPlan | None, store: AtomicStore, settings: Settings
) -> ClientDocuments | None:
    """Let clients of the logins that issue tokens be known by their documents; None where they cannot be."""
    documents = ClientDocuments(store, may_fetch=settings.cimd != "off", can_fetch=settings.cimd == "on")
    allow_list = _allow_list(settings, plan)
    issuers = [issuer for login in logins if login is not None and (issuer := _issuer_of(login)) is not None]
    accepted = [accept_documents(issuer, documents, store, allow_list) for issuer in issuers]
    return documents if any(accepted) else None


def layers_of(
    login: AuthProvider,
    plan: ProviderPlan | None,
    store: AtomicStore,
    shields: tuple[Shield, Shield],
    settings: Settings,
    documents: ClientDocuments | None,
    on_revoked: list[Callable[[], None]],
) -> list[Middleware]:
    """What stands between clients and the login: little but a cache, unless it issues tokens; the outermost first.

    `on_revoked` is shared by the logins of all public URLs: what one revokes, none remembers.
    Calls have a shield of their own, so that however many of them wait for an identity provider, exchanges go on.
    """
    shield, shield_of_calls = shields
    provider = _issuer_of(login)
    if plan is not None and _names_people(settings):
        let_in_only_allowed(login, provider, AllowLists(settings, _claims_of(plan)))
    accept_static_tokens(login, StaticTokens(settings.tokens, Revocations(store), login.required_scopes))
    tokens = remember_verified_tokens(login, shield_of_calls, lifetime=settings.token_cache)
    if provider is None:
        return [Middleware(AuditedRequests, provider=None)]
    leases = Leases(store, lifetime=settings.lease)
    sessions = Sessions(store, leases, origin_of=_origin_of(provider))
    on_revoked.append(tokens.forget)
    sessions.on_revoked = partial(_tell, on_revoked)
    registrations = Registrations(store, clients=provider, documents=documents, lifetime=settings.registration_lifetime)
    if isinstance(provider, OAuthProxy):
        refresh_upstream_one_at_a_time(provider, leases)
    advertise_revocation(provider)
    let_clients_ask_for_what_is_advertised(provider)
    clients = ConfiguredClients(settings.clients)
    know_configured_clients(provider, clients)
    proxy = []
    if isinstance(provider, OAuthProxy):
        send_codes_to_configured_uris(provider, clients)
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
        Middleware(AuditedRequests, provider=provider),
        Middleware(AuthorizationResponses, provider=provider),
        Middleware(Metadata, provider=provider, documents=documents),
        Middleware(limits),
        Middleware(TokenEndpoint, exchange=exchange, clients=clients, shield=shield),
        *proxy,
        Middleware(AuthorizationRequests, provider=provider, clients=clients),
        Middleware(Revocation, provider=provider, clients=clients, store=store, sessions=sessions),
    ]


def refusals_of(login: AuthProvider | None) -> Refusals:
    """What people who sign in are told where that goes wrong."""
    return Refusals(_issuer_of(login) if login is not None else None)


def _tell(listeners: Sequence[Callable[[], None]]) -> None:
    for listener in listeners:
        listener()


def callback_path_of(plan: ProviderPlan | None) -> str:
    """Where the identity provider sends browsers back."""
    own = plan.login.arguments.get("redirect_path") if plan else None
    return f"/{own.lstrip('/')}" if own else DEFAULT_CALLBACK_PATH


def access_problems(settings: Settings, plan: ProviderPlan | None) -> list[Problem]:
    """What is wrong with the configured clients, tokens and lists of people, before the login is made."""
    problems = [] if plan is None else [*allow_list_problems(settings, _claims_of(plan))]
    if plan is None and settings.provider != "none":
        problems += token_problems(settings.tokens, [SCOPE])
    return [*problems, *_client_problems(settings, plan)]


def _client_problems(settings: Settings, plan: ProviderPlan | None) -> list[Problem]:
    if not settings.clients:
        return []
    if settings.provider == "none" or (plan is not None and not issubclass(plan.login.provider_class, OAuthProvider)):
        what = "is set, and this login issues no tokens: the identity provider does, to clients that are known there"
        return [Problem(SETTING, what, "Remove it, and register the clients at the identity provider")]
    return list(scope_problems(settings.clients, [SCOPE], [SCOPE])) if plan is None else []


def _refuse_scopes(settings: Settings, login: AuthProvider, issuer: OAuthProvider | None) -> None:
    problems = list(token_problems(settings.tokens, login.required_scopes))
    if issuer is not None:
        problems += scope_problems(settings.clients, advertised_scopes(issuer), issuer.required_scopes)
    if problems:
        raise ConfigurationError(problems)


def claims_told(settings: Settings, plan: ProviderPlan | None) -> dict[str, str]:
    """The claims that the lists of people go by, by the variable that could name others."""
    if plan is None or not _names_people(settings):
        return {}
    claims = claims_in_use(settings, _claims_of(plan))
    kinds = {"USER": claims.users, "DOMAIN": claims.domains, "GROUP": claims.groups}
    return {f"HOLDFAST_{kind}_CLAIMS": ", ".join(names) for kind, names in kinds.items()}


def _names_people(settings: Settings) -> bool:
    return bool(settings.allowed_users or settings.allowed_domains or settings.allowed_groups)


def _claims_of(plan: ProviderPlan) -> Claims:
    """Those of what verifies the identity provider's tokens where that is known, else of the provider."""
    verifiers = plan.login.parts.get("token_verifier", ())
    told = next((verifier for verifier in verifiers if is_known(verifier.provider_class)), plan.login)
    return claims_of(told.provider_class, told.arguments)


def _allow_list(settings: Settings, plan: ProviderPlan | None) -> RedirectAllowList:
    default = DEFAULT_ALLOW_LIST.and_also(settings.redirect_uris)
    return plan.allow_list(default) if plan else default


def _issuer_of(login: AuthProvider) -> OAuthProvider | None:
    """What issues tokens to clients; None where the identity provider does it itself."""
    candidate = login.server if isinstance(login, MultiAuth) else login
    return candidate if isinstance(candidate, OAuthProvider) else None


def _origin_of(provider: OAuthProvider) -> OriginOf:
    """How to read the provider's refresh tokens."""
    if isinstance(provider, LocalLogin):
        return provider.origin_of
    return partial(origin_of, provider) if isinstance(provider, OAuthProxy) else tells_nothing


def _build_local_logins(
    settings: Settings, store: JournaledStore, ring: KeyRing, server_name: str, allow_list: RedirectAllowList
) -> Iterator[LocalLogin]:
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
    for url in settings.base_urls:
        yield LoginWithImports(
            issuer=Issuer(url, settings.base_urls),
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
