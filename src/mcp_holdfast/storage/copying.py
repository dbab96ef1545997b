"""Copy a store from one place to another, between any two backends; the records stay sealed all the way."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from typing import Literal

from key_value.aio._utils.managed_entry import ManagedEntry

from mcp_holdfast.storage.backends import Backend
from mcp_holdfast.storage.backup import NOT_WORTH_KEEPING
from mcp_holdfast.storage.seal import is_sealed

TOLD_EVERY = 1000
DATED_ALIKE = 1.0
"""In seconds; not every backend keeps the time of expiry to the last digit."""

SHORTEST_TTL = 0.001


@dataclass(frozen=True)
class Copied:
    """How many records of the source were examined, how many of them copied, and how many deleted that it has not."""

    examined: int = 0
    copied: int = 0
    deleted: int = 0


async def copy(source: Backend, target: Backend, *, dry_run: bool = False) -> AsyncGenerator[Copied, None]:
    """Make the target hold what the source holds; yields what was done so far, from time to time and at the end.

    The source's servers may go on. Once they have ended, a second time brings what changed meanwhile, and only that.
    """
    done = Copied()
    for collection in await source.collection_names():
        if collection in NOT_WORTH_KEEPING:
            continue
        async for name, entry in source.entries(collection):
            if is_sealed(entry.value_as_dict):
                outcome = await _copy(name, collection, entry, target, dry_run=dry_run)
                done = replace(done, examined=done.examined + 1, copied=done.copied + (outcome == "copied"))
                if done.examined % TOLD_EVERY == 0:
                    yield done
    for collection in await target.collection_names():
        async for name, entry in target.entries(collection):
            if is_sealed(entry.value_as_dict) and await source.read(name, collection=collection) is None:
                if not dry_run:
                    await target.delete(name, collection=collection)
                done = replace(done, deleted=done.deleted + 1)
    yield done


async def _copy(
    name: str, collection: str, entry: ManagedEntry, target: Backend, *, dry_run: bool
) -> Literal["copied", "there already"]:
    there = await target.read(name, collection=collection)
    if there is not None and there.value == entry.value and _is_dated_alike(there, entry):
        return "there already"
    if not dry_run:
        ttl = None if entry.ttl is None else max(entry.ttl, SHORTEST_TTL)
        await target.put(name, entry.value, collection=collection, ttl=ttl)
    return "copied"


def _is_dated_alike(one: ManagedEntry, other: ManagedEntry) -> bool:
    if one.expires_at is None or other.expires_at is None:
        return one.expires_at is other.expires_at
    return abs((one.expires_at - other.expires_at).total_seconds()) < DATED_ALIKE
