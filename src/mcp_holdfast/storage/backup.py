"""Copy a store into a file and back, into any backend; the records stay sealed all the way.

The file has one JSON object a line: what it is, then the records, then how many there were, so that a part of a file
is never taken for the whole.
"""

import time
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mcp_holdfast.storage.atomic import LEASES
from mcp_holdfast.storage.backends import Backend
from mcp_holdfast.storage.replicas import REPLICAS
from mcp_holdfast.storage.seal import is_sealed

NOT_WORTH_KEEPING = frozenset({LEASES, REPLICAS, "holdfast_probes"})
"""Collections of which nothing is true any more when a backup is restored."""


LAST_MOMENT = 253402300799.0
"""The end of the year 9999, in seconds since the epoch."""


class NoBackup(Exception):
    """A file that is not a whole backup; the message says why."""


class Line(BaseModel):
    """One line of a backup."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Head(Line):
    holdfast_backup: Literal[1] = 1
    made_at: str


class Record(Line):
    """A record as its backend holds it: the name hides its key, the value is sealed.

    `expires_at` is in seconds since the epoch, None for never.
    """

    collection: str
    name: str
    value: dict[str, Any]
    expires_at: Annotated[float, Field(ge=0, le=LAST_MOMENT)] | None


class Tail(Line):
    records: int


AnyLine = TypeVar("AnyLine", bound=Line)


async def lines_of(backend: Backend) -> AsyncIterator[Line]:
    """Everything sealed that a backend holds, as the lines of a backup; servers may go on writing."""
    yield Head(made_at=datetime.now(UTC).isoformat(timespec="seconds"))
    count = 0
    for collection in await backend.collection_names():
        if collection in NOT_WORTH_KEEPING:
            continue
        async for name, stored in backend.entries(collection):
            if not is_sealed(stored.value_as_dict):
                continue
            count += 1
            expires_at = stored.expires_at.timestamp() if stored.expires_at else None
            yield Record(collection=collection, name=name, value=stored.value_as_dict, expires_at=expires_at)
    yield Tail(records=count)


def records_in(lines: Iterable[str]) -> Iterator[Record]:
    """The records of a backup.

    Raises:
        NoBackup: it is not one, or not a whole one; only behind the last record is this known for sure.

    """
    numbered = enumerate(lines, 1)
    _, first = next(numbered, (1, ""))
    if _parsed(Head, first) is None:
        raise NoBackup("it is not a backup that this version of Holdfast can read")
    count = 0
    for number, line in numbered:
        if (record := _parsed(Record, line)) is not None:
            count += 1
            yield record
            continue
        tail = _parsed(Tail, line)
        if tail is None:
            raise NoBackup(f"line {number} is damaged")
        if tail.records != count:
            raise NoBackup(f"it should have {tail.records} records, and has {count}")
        return
    raise NoBackup("its end is missing")


def _parsed(kind: type[AnyLine], line: str) -> AnyLine | None:
    try:
        return kind.model_validate_json(line)
    except ValidationError:
        return None


async def put_back(backend: Backend, records: Iterable[Record]) -> int:
    """Store the records of a backup that have not expired meanwhile; returns how many."""
    count = 0
    for record in records:
        ttl = None if record.expires_at is None else record.expires_at - time.time()
        if ttl is None or ttl > 0:
            await backend.put(record.name, record.value, collection=record.collection, ttl=ttl)
            count += 1
    return count
