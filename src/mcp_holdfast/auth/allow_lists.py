"""Let in only whom the operator named, of all that an identity provider lets in: users, domains, groups.

Looked at when somebody comes back from the identity provider, before there is a code; when a session is refreshed; and
whenever a token is verified. So who is taken from a list, or leaves a group, has no access any more.
"""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, cast

from fastmcp.server.auth.auth import AccessToken, AuthProvider, OAuthProvider
from fastmcp.server.auth.oauth_proxy import OAuthProxy
from fastmcp.server.auth.oauth_proxy.models import ClientCode, UpstreamTokenSet, _hash_token
from mcp.server.auth.provider import RefreshToken, TokenError
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mcp_holdfast import audit, outage
from mcp_holdfast.asgi import REFUSED
from mcp_holdfast.auth.claims import EMAIL, Claims, names_in
from mcp_holdfast.auth.verification import refreshing_nothing
from mcp_holdfast.pages import errors
from mcp_holdfast.pages.errors import ErrorPage
from mcp_holdfast.settings import Problem, Settings, normal_domain, normal_user
from mcp_holdfast.storage.journal import keeping_journal

log = logging.getLogger(__name__)

Handle = Callable[[Request], Awaitable[Response]]
Put = Callable[..., Awaitable[None]]
ExchangeRefreshToken = Callable[[OAuthClientInformationFull, RefreshToken, list[str]], Awaitable[OAuthToken]]

ADDRESS = re.compile(r"[^@\s]+@([^@\s]+)")
LEFT_OUT = "_claim_names"
"""Entra's groups are not in tokens of who is in more than some 200; this claim says so
(https://learn.microsoft.com/en-us/entra/identity-platform/access-token-claims-reference#groups-overage-claim).
"""

TRIES, PAUSE = 10, 1.0
"""How often an identity provider that does not answer is asked about its token, and the seconds in between."""

SUBJECTS = ("preferred_username", EMAIL, "login", "oid", "sub")


@dataclass(frozen=True)
class NotAllowed:
    """Why somebody is not let in: for the log, and whether the provider said too little to tell."""

    reason: str
    is_untold: bool = False

    @property
    def page(self) -> ErrorPage:
        return errors.NOT_TOLD if self.is_untold else errors.NOT_ALLOWED


NOBODY_KNOWN = NotAllowed("the identity provider's own token could not be verified", is_untold=True)


class AllowLists:
    """Whom the settings name: users and domains each let somebody in; where groups are named, one is needed as well."""

    def __init__(self, settings: Settings, claims: Claims) -> None:
        self._claims = claims_in_use(settings, claims)
        self._users = frozenset(settings.allowed_users)
        self._domains = frozenset(settings.allowed_domains)
        self._groups = frozenset(settings.allowed_groups)

    def refusal(self, claims: Mapping[str, Any]) -> NotAllowed | None:
        """Why who has these claims is not let in; None where they are."""
        return self._refusal_by_name(claims) or self._refusal_by_group(claims)

    def _refusal_by_name(self, claims: Mapping[str, Any]) -> NotAllowed | None:
        if not self._users and not self._domains:
            return None
        users = {normal_user(name) for claim in self._claims.users if (name := _only_name(claims, claim))}
        domains = {domain_of(name) for claim in self._claims.domains if (name := _only_name(claims, claim))}
        if self._users & users or self._domains & domains:
            return None
        wanted = {*(self._claims.users if self._users else ()), *(self._claims.domains if self._domains else ())}
        untold = [claim for claim in sorted(wanted) if _only_name(claims, claim) is None]
        if EMAIL in untold and claims.get(EMAIL):
            return NotAllowed("not named as far as is told: email does not count, email_verified is not true", True)
        told = f"; the token has no {', '.join(untold)}" if untold else ""
        reason = f"neither the user nor the domain is named in HOLDFAST_ALLOWED_USERS or _DOMAINS{told}"
        return NotAllowed(reason, is_untold=len(untold) == len(wanted))

    def _refusal_by_group(self, claims: Mapping[str, Any]) -> NotAllowed | None:
        if not self._groups:
            return None
        groups = [name for claim in self._claims.groups for name in names_in(claims, claim)]
        if not self._groups.isdisjoint(groups):
            return None
        left_out = claims.get(LEFT_OUT)
        if claims.get("hasgroups") or (isinstance(left_out, Mapping) and "groups" in left_out):
            return NotAllowed(
                "Entra left the groups out of the token, since the person is in too many; assign groups to the "
                "application and choose 'Groups assigned to the application', or use app roles",
                True,
            )
        if not groups:
            return NotAllowed(f"the token has none of the claims {', '.join(self._claims.groups)}", True)
        return NotAllowed("none of the groups is named in HOLDFAST_ALLOWED_GROUPS")


def claims_in_use(settings: Settings, claims: Claims) -> Claims:
    """The provider's claims, or those that the operator named instead."""
    return Claims(
        settings.user_claims or claims.users,
        settings.domain_claims or claims.domains,
        settings.group_claims or claims.groups,
    )


def _only_name(claims: Mapping[str, Any], claim: str) -> str | None:
    """The name of a person, of which there is one."""
    found = [*names_in(claims, claim)]
    return found[0] if len(found) == 1 else None


def domain_of(name: str) -> str | None:
    """The domain of an address, or the domain that a claim names itself; None where it is neither."""
    address = ADDRESS.fullmatch(name)
    return normal_domain(address[1] if address else name)


def allow_list_problems(settings: Settings, claims: Claims) -> Iterator[Problem]:
    """Which lists could let nobody in, since the provider does not tell what they go by."""
    used = claims_in_use(settings, claims)
    for names, found, kind in (
        (settings.allowed_domains, used.domains, "domain"),
        (settings.allowed_groups, used.groups, "group"),
    ):
        if names and not found:
            what = f"is set, and this provider says nothing of a person's {kind} that can be relied on"
            remedy = f"Name people in HOLDFAST_ALLOWED_USERS instead, or a claim in HOLDFAST_{kind.upper()}_CLAIMS"
            yield Problem(f"HOLDFAST_ALLOWED_{kind.upper()}S", what, remedy)


_refusals: ContextVar[list[NotAllowed] | None] = ContextVar("refusals_of_a_callback", default=None)


@contextmanager
def _collecting_refusals() -> Iterator[list[NotAllowed]]:
    refusals: list[NotAllowed] = []
    token = _refusals.set(refusals)
    try:
        yield refusals
    finally:
        _refusals.reset(token)


def let_in_only_allowed(login: AuthProvider, issuer: OAuthProvider | None, lists: AllowLists) -> None:
    """Have a login verify no token of who is not allowed; have `issuer`, its part that issues tokens, issue none."""
    verify = login.verify_token

    async def verify_allowed(token: str) -> AccessToken | None:
        verified = await verify(token)
        return None if verified is None or _refuse(lists, verified, "a request", logging.INFO) else verified

    login.verify_token = verify_allowed  # type: ignore[method-assign]
    if issuer is not None:
        _refresh_only_allowed(issuer, lists)
    if isinstance(issuer, OAuthProxy):
        _give_codes_only_to_allowed(issuer, lists)


def _refresh_only_allowed(provider: OAuthProvider, lists: AllowLists) -> None:
    exchange = cast("ExchangeRefreshToken", provider.exchange_refresh_token)

    async def exchange_of_allowed(
        client: OAuthClientInformationFull, refresh_token: RefreshToken, scopes: list[str]
    ) -> OAuthToken:
        issued = await exchange(client, refresh_token, scopes)
        with refreshing_nothing():
            verified = await provider.load_access_token(issued.access_token)
        refusal = NOBODY_KNOWN if verified is None else _refuse(lists, verified, "a refresh", logging.WARNING)
        if refusal is not None:
            if isinstance(provider, OAuthProxy):
                await _forget(provider, issued)
            raise TokenError("invalid_grant", "this person may not use this server any more")
        return issued

    provider.exchange_refresh_token = exchange_of_allowed  # type: ignore[method-assign]


async def _forget(provider: OAuthProxy, issued: OAuthToken) -> None:
    """Delete what a proxy stored for tokens that nobody gets; the identity provider's, which are newer, it keeps."""
    # At once: an exchange that is refused never does the deletions that it held back.
    with keeping_journal(hold_deletes=False):
        for token, use in ((issued.access_token, "access"), (issued.refresh_token, "refresh")):
            if token:
                await provider._jti_mapping_store.delete(provider.jwt_issuer.verify_token(token, use)["jti"])
        if issued.refresh_token:
            await provider._refresh_token_store.delete(_hash_token(issued.refresh_token))


def _give_codes_only_to_allowed(provider: OAuthProxy, lists: AllowLists) -> None:
    """Answer 403 in place of a redirect with a code, and keep no code: the proxy stores one before it redirects."""
    handle, put = cast("Handle", provider._handle_idp_callback), cast("Put", provider._code_store.put)

    async def put_if_allowed(key: str, value: ClientCode, **options: Any) -> None:
        token = provider._get_verification_token(_as_stored(value))
        verified = await _verified_at_last(provider, token) if token else None
        refusal = NOBODY_KNOWN if verified is None else _refuse(lists, verified, "a sign-in", logging.WARNING)
        if refusal is None:
            await put(key, value, **options)
        elif (refusals := _refusals.get()) is not None:
            refusals.append(refusal)

    async def handle_if_allowed(request: Request) -> Response:
        with _collecting_refusals() as refusals:
            response = await handle(request)
        if not refusals:
            return response
        request.scope[REFUSED] = refusals[0].page
        return JSONResponse({"error": "access_denied", "error_description": refusals[0].reason}, 403)

    provider._code_store.put = put_if_allowed  # type: ignore[method-assign]
    provider._handle_idp_callback = handle_if_allowed  # type: ignore[method-assign, assignment]


async def _verified_at_last(provider: OAuthProxy, token: str) -> AccessToken | None:
    """Verify a token, again where that could not be done: nobody can come back with a code that is used up."""
    for _ in range(TRIES):
        with outage.watching() as causes:
            verified = await provider._token_validator.verify_token(token)
        if verified is not None or not causes:
            return verified
        await asyncio.sleep(PAUSE)
    for cause in causes:
        outage.note(cause)
    return None


def _as_stored(code: ClientCode) -> UpstreamTokenSet:
    """What the proxy will make of the tokens that came with a code."""
    tokens = code.idp_tokens
    return UpstreamTokenSet(
        upstream_token_id="",
        access_token=tokens["access_token"],
        refresh_token=None,
        refresh_token_expires_at=None,
        expires_at=code.expires_at,
        token_type="Bearer",  # noqa: S106  # no secret
        scope="",
        client_id=code.client_id,
        created_at=time.time(),
        raw_token_data=tokens,
    )


def _refuse(lists: AllowLists, verified: AccessToken, what: str, level: int) -> NotAllowed | None:
    claims = verified.claims or {}
    refusal = lists.refusal(claims)
    if refusal is not None:
        person = next((str(claims[name]) for name in SUBJECTS if claims.get(name)), "unknown")
        audit.know("subject", person)
        log.log(level, "refused %s of who is not allowed", what, extra={"person": person, "reason": refusal.reason})
    return refusal
