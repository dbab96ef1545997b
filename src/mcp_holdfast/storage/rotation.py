"""Seal a whole store with the first key of the ring, while servers use it."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from key_value.aio._utils.managed_entry import ManagedEntry

from mcp_holdfast.storage.backends import Backend
from mcp_holdfast.storage.deadlines import DEADLINE
from mcp_holdfast.storage.seal import Unsealable
from mcp_holdfast.storage.sealing import FOLLOWED_WITHIN, SealedStore

HANDOVER = FOLLOWED_WITHIN + DEADLINE + 1.0
"""Seconds after which no replica writes anything sealed with another key than the first."""

TOLD_EVERY = 1000
MOST_PASSES = 5


@dataclass
class Rotated:
    """How many records were examined, and how many of them were renewed, were not sealed by us, or remain as they were.

    Those that remain were being changed at the time; a further pass renews them.
    """

    examined: int = 0
    renewed: int = 0
    foreign: int = 0
    remaining: int = 0


async def rotate(store: SealedStore, backend: Backend) -> AsyncGenerator[Rotated, None]:
    """Renew the seal of every record; yields what was done so far, from time to time and at the end.

    May be repeated at any time, and goes on where it was cut off: what is sealed with the first key is left as it is.

    Raises:
        ConfigurationError: the store belongs to a key that is not in the ring.

    """
    await store.adopt_first_key()
    # Also where it was adopted before: that may have been only just now.
    await asyncio.sleep(HANDOVER)
    renewed = 0
    for _ in range(MOST_PASSES):
        rotated = Rotated(renewed=renewed)
        for collection in await backend.collection_names():
            async for name, stored in backend.entries(collection):
                await _renew(store, backend, collection, name, stored, rotated)
                if rotated.examined % TOLD_EVERY == 0:
                    yield rotated
        yield rotated
        if not rotated.remaining:
            return
        renewed = rotated.renewed


async def _renew(
    store: SealedStore, backend: Backend, collection: str, name: str, stored: ManagedEntry, rotated: Rotated
) -> None:
    rotated.examined += 1
    try:
        sealed = store.seal.renew(stored.value_as_dict)
    except Unsealable:
        rotated.foreign += 1
        return
    if sealed is None:
        return
    if await backend.replace(name, collection=collection, expected=stored, value=sealed):
        rotated.renewed += 1
    else:
        # It was rewritten, deleted or locked just now: the next pass sees.
        rotated.remaining += 1
