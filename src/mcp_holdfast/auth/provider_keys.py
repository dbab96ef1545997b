"""Keep up with the keys that an identity provider signs its tokens with, so that changing them costs nobody a 401.

JWTVerifier asks for the keys again when a token names one that it does not know, but at most once in half a minute
whatever came of it; in between it takes new tokens for bad ones.
"""

import asyncio
import inspect
import time
from collections.abc import Iterator

from fastmcp.server.auth import AuthProvider, MultiAuth, OAuthProxy, RemoteAuthProvider
from fastmcp.server.auth.providers.jwt import JWTVerifier

from mcp_holdfast import outage

ASKED_AT_MOST_EVERY = 1.0
"""Seconds between two requests for the keys, however many tokens with unknown keys strangers send."""

STOCK_INTERVAL = inspect.signature(JWTVerifier).parameters["jwks_refresh_interval"].default


def follow_key_rotation(provider: AuthProvider) -> None:
    """Call a key of the identity provider's unknown only after it was asked since the token came in.

    An interval that the operator set stays.
    """
    for verifier in _verifiers_of(provider):
        if verifier._jwks_refresh_interval == STOCK_INTERVAL:
            verifier._jwks_refresh_interval = ASKED_AT_MOST_EVERY
        _wait_for_keys(verifier)


def _verifiers_of(provider: AuthProvider) -> Iterator[JWTVerifier]:
    parts: list[AuthProvider] = []
    if isinstance(provider, MultiAuth):
        parts = provider._sources
    elif isinstance(provider, OAuthProxy):
        parts = [provider._token_validator]
    elif isinstance(provider, RemoteAuthProvider):
        parts = [provider.token_verifier]
    elif isinstance(provider, JWTVerifier):
        yield provider
    for part in parts:
        yield from _verifiers_of(part)


def _wait_for_keys(verifier: JWTVerifier) -> None:
    find_key = verifier._get_jwks_key

    async def find_key_patiently(kid: str | None) -> str:
        came_in = time.monotonic()
        while True:
            try:
                return await find_key(kid)
            except ValueError:
                asked = verifier._jwks_last_refresh_attempt
                if asked is None:
                    raise
                if asked >= came_in:
                    if verifier._jwks_cache_time < asked:
                        # Somebody else's request, which only its own task has noted.
                        outage.note("the identity provider's keys could not be fetched")
                    raise
                await asyncio.sleep(max(0.0, asked + verifier._jwks_refresh_interval - time.monotonic()))

    verifier._get_jwks_key = find_key_patiently  # type: ignore[method-assign]
