"""Whether a store may be served with these keys: nobody whose session is in it must be signed out by mistake."""

from mcp_holdfast.auth.sessions import SESSIONS
from mcp_holdfast.auth.signing_keys import note_keys, refuse_forgotten_keys
from mcp_holdfast.settings import Settings
from mcp_holdfast.storage.keys import KeyRing
from mcp_holdfast.storage.opening import OpenStore, key_rings, look_at_store

LONGEST_LIFE = 30 * 86400.0
"""Seconds for which tokens of FastMCP's proxies live, unless the identity provider's live longer."""


async def refuse_other_stores(settings: Settings) -> None:
    """See whether the store that is there, if any, could be used with these settings; changes nothing.

    Raises:
        ConfigurationError: it belongs to other keys.

    """
    async with look_at_store(settings) as opened:
        if opened is not None:
            await _refuse_forgotten_keys(opened, key_rings(settings).signing)


async def check_signing_keys(opened: OpenStore, ring: KeyRing, settings: Settings) -> None:
    """Note which key signs from now on. Leaves no connection open: gunicorn forks its workers afterwards.

    Raises:
        ConfigurationError: a key is missing that tokens are signed with.

    """
    await _refuse_forgotten_keys(opened, ring)
    await note_keys(opened.store, ring, lifetime=_longest_life(settings))
    await opened.backend.close()


async def _refuse_forgotten_keys(opened: OpenStore, ring: KeyRing) -> None:
    if await opened.backend.count(SESSIONS, at_most=1):
        await refuse_forgotten_keys(opened.store, ring)


def _longest_life(settings: Settings) -> float:
    """Seconds after which no token is good any more that was signed now."""
    return max(settings.refresh_token_lifetime, settings.access_token_lifetime or 0, LONGEST_LIFE)
