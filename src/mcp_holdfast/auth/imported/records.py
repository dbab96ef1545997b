"""Store what was imported, each record once.

Every record that was taken over is noted, so that importing again changes nothing, and brings back nothing that was
used up or revoked since.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcp.shared.auth import OAuthClientInformationFull

from mcp_holdfast.auth.registrations import REGISTRATIONS, Registration, host_of
from mcp_holdfast.storage.atomic import AtomicStore
from mcp_holdfast.storage.journal import Place

IMPORTED = "holdfast_imported"
"""What was taken over, by the place of each record, for as long as that lives."""

AT_ONCE = 32
NOT_UNDERSTOOD = "of a form that this version does not read"


@dataclass(frozen=True)
class Adopted:
    """A record as this server keeps it; `what` names its kind for people, empty where they need not know of it."""

    place: Place
    value: Mapping[str, Any] = field(repr=False)
    expires_at: float | None
    what: str = ""


@dataclass(frozen=True)
class TakenOver:
    """How many records of each kind were `carried` over now, and how many had been `already`."""

    carried: Counter[str] = field(default_factory=Counter)
    already: Counter[str] = field(default_factory=Counter)


async def take_over(records: Sequence[Adopted], store: AtomicStore, *, dry_run: bool) -> TakenOver:
    """Store each record unless it is there, or was and is not any more; in a dry run only tell which would be."""
    taken_over = TakenOver()
    for start in range(0, len(records), AT_ONCE):
        batch = records[start : start + AT_ONCE]
        stored = await asyncio.gather(*(_take_over(record, store, dry_run=dry_run) for record in batch))
        for record, is_new in zip(batch, stored, strict=True):
            if record.what:
                (taken_over.carried if is_new else taken_over.already)[record.what] += 1
    return taken_over


async def _take_over(record: Adopted, store: AtomicStore, *, dry_run: bool) -> bool:
    is_new = await _is_new(record, store)
    if is_new and not dry_run:
        await _store(record, store)
    return is_new


async def _is_new(record: Adopted, store: AtomicStore) -> bool:
    collection, key = record.place
    noted = await store.get(_note(record), collection=IMPORTED)
    return noted is None and await store.get(key, collection=collection) is None


async def _store(record: Adopted, store: AtomicStore) -> None:
    collection, key = record.place
    lifetime = None if record.expires_at is None else max(1.0, record.expires_at - time.time())
    await store.add(key, record.value, collection=collection, ttl=lifetime)
    # After the record itself: a kill in between must not lose it.
    await store.put(_note(record), {"imported_at": time.time()}, collection=IMPORTED, ttl=lifetime)


def _note(record: Adopted) -> str:
    return "/".join(record.place)


def registration_of(client: OAuthClientInformationFull, place: Place) -> Adopted:
    """What this server remembers of a client beside the provider's own record: it is never dropped as unused."""
    registration = Registration(
        places=[place],
        client_name=client.client_name,
        redirect_hosts=sorted({host_of(uri) for uri in client.redirect_uris or []}),
        registered_at=float(client.client_id_issued_at or time.time()),
        used=True,
    )
    return Adopted((REGISTRATIONS, place[1]), registration.model_dump(mode="json"), None)
