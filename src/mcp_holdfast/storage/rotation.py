"""Seal a whole store with the first key of the ring, while servers use it."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from typing import Literal

from key_value.aio._utils.managed_entry import ManagedEntry

from mcp_holdfast.storage.backends import Backend
from mcp_holdfast.storage.deadlines import DEADLINE
from mcp_holdfast.storage.seal import Unsealable, is_sealed
from mcp_holdfast.storage.sealing import FOLLOWED_WITHIN, SealedStore

HANDOVER = FOLLOWED_WITHIN + DEADLINE + 1.0
"""Seconds after which no replica begins to write what is sealed with another key than the first."""

TOLD_EVERY = 1000
MOST_PASSES, PAUSE_BETWEEN_PASSES = 5, 0.5


@dataclass(frozen=True)
class Rotated:
    """How many records were examined, and how many of them were renewed, cannot be opened, or remain as they were.

    Those that remain were being changed at the time; a further pass renews them.
    """

    examined: int = 0
    renewed: int = 0
    foreign: int = 0
    remaining: int = 0


async def rotate(store: SealedStore, backend: Backend) -> AsyncGenerator[Rotated, None]:
    """Renew the seal of every record; yields what was done so far, from time to time and at the end.

    May be repeated at any time, and goes on where it was cut off: what is sealed with the first key is left as it is.
    The rotation has ended when nothing remains that another key may have sealed.

    Raises:
        ConfigurationError: the store belongs to a key that is not in the ring.

    """
    await store.adopt_first_key()
    # Also where it was adopted before: that may have been only just now.
    await asyncio.sleep(HANDOVER)
    done = Rotated()
    for _ in range(MOST_PASSES):
        done = replace(done, examined=0, foreign=0, remaining=0)
        for collection in await backend.collection_names():
            async for name, stored in backend.entries(collection):
                outcome = await _renew(store, backend, collection, name, stored)
                done = replace(done, examined=done.examined + 1)
                if outcome is not None:
                    done = replace(done, **{outcome: getattr(done, outcome) + 1})
                if done.examined % TOLD_EVERY == 0:
                    yield done
        if not done.remaining:
            break
        await asyncio.sleep(PAUSE_BETWEEN_PASSES)
    if not done.remaining and not done.foreign:
        await store.end_rotation()
    yield done


async def _renew(
    store: SealedStore, backend: Backend, collection: str, name: str, stored: ManagedEntry
) -> Literal["renewed", "foreign", "remaining"] | None:
    """What became of a record; None if there was nothing to do, as with what was never sealed."""
    if not is_sealed(stored.value_as_dict):
        return None
    try:
        sealed = store.seal.renew(stored.value_as_dict)
    except Unsealable:
        return "foreign"
    if sealed is None:
        return None
    if await backend.replace(name, collection=collection, expected=stored, value=sealed):
        return "renewed"
    # It was rewritten, deleted or locked just now: the next pass sees.
    return "remaining"
