"""Remember which keys sign tokens that clients still have, so that none of them is forgotten by mistake."""

import time

from key_value.aio.protocols import AsyncKeyValue

from mcp_holdfast.settings import ConfigurationError, Problem
from mcp_holdfast.storage.keys import KeyRing, derive_key
from mcp_holdfast.storage.sealing import HOLDFAST_COLLECTION

SIGNING_KEYS = "signing_keys"
"""The record's key. It maps a fingerprint to when the last token of that key expires (seconds since the epoch), None
for a key that signs.
"""

FORGOTTEN = Problem(
    "HOLDFAST_SIGNING_KEY",
    "is not the key that signed the tokens of the sessions in the store: everybody would be signed out",
    "Give that key, here or in HOLDFAST_SIGNING_KEY_PREVIOUS (one that Holdfast made itself is in "
    "FASTMCP_HOME/keys/signing.key); to sign everybody out on purpose: holdfast revoke --all --yes",
)

Known = dict[str, float | None]


async def refuse_forgotten_keys(store: AsyncKeyValue, ring: KeyRing) -> None:
    """Refuse a ring without a key that signed what clients still have; to be called where there are sessions.

    Raises:
        ConfigurationError: that is so.

    """
    if set(await _known(store)) - set(_fingerprints(ring)):
        raise ConfigurationError([FORGOTTEN])


async def note_keys(store: AsyncKeyValue, ring: KeyRing, *, lifetime: float) -> None:
    """Note which key signs from now on; what another one signed lives for `lifetime` seconds at most."""
    known = await _known(store)
    current, *_ = _fingerprints(ring)
    others = {key: until or time.time() + lifetime for key, until in known.items() if key != current}
    if (noted := {**others, current: None}) != known:
        await store.put(SIGNING_KEYS, noted, collection=HOLDFAST_COLLECTION)


async def _known(store: AsyncKeyValue) -> Known:
    stored: Known = await store.get(SIGNING_KEYS, collection=HOLDFAST_COLLECTION) or {}
    return {key: until for key, until in stored.items() if until is None or until > time.time()}


def _fingerprints(ring: KeyRing) -> list[str]:
    return [derive_key(secret, "fingerprint of a signing key").hex() for secret in ring.secrets]
