"""Every record that our servers write, damaged in every way: it is a miss and set aside, and never taken for another.

DAMAGE_EVERY=n tries each n-th byte, length and pair of records only (`make test` does; `make promises` tries all).
Around what is sealed there are dates and a version, by which the store below orders its work: with those changed a
record may still be found, as it was sealed.
"""

import asyncio
import json
import os
import sqlite3
import tempfile
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, permutations
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest

from harness.identity_provider import IdentityProvider
from harness.oauth import OAuthClient, Person
from harness.proxy_login import ProxyPerson, proxy_environment
from harness.server import Server
from harness.waiting import HANGS_AFTER, eventually
from mcp_holdfast.storage import check_store, open_store
from mcp_holdfast.storage.atomic import AtomicStore
from mcp_holdfast.storage.keys import KeyRing

SECRET = "a-storage-key-of-more-than-32-characters"
KEYS = KeyRing((SECRET,), "test")
SERVER_KEYS = {"HOLDFAST_STORAGE_KEY": SECRET, "HOLDFAST_SIGNING_KEY": f"{SECRET}-to-sign-with"}

COLLECTIONS = {
    "holdfast_callbacks",
    "holdfast_clients",
    "holdfast_grants",
    "holdfast_login",
    "holdfast_registration_answers",
    "holdfast_registration_slots",
    "holdfast_registrations",
    "holdfast_sessions",
    "holdfast_tokens",
    "mcp-authorization-codes",
    "mcp-jti-mappings",
    "mcp-oauth-proxy-clients",
    "mcp-oauth-transactions",
    "mcp-refresh-tokens",
    "mcp-upstream-tokens",
}
"""Those that have a record after the sign-ins below, at least."""

EVERY = int(os.environ.get("DAMAGE_EVERY", "1"))

LIFE = 1000.0
"""In seconds, of each record."""

Value = dict[str, Any]
Collections = dict[str, dict[str, Value]]
Name = tuple[str, str]
"""Of a record: its collection and its key."""

Found = Literal["set aside", "missing", "as it was"]


def sign_in_in_every_state(http: httpx.Client, person: Person | ProxyPerson) -> None:
    """Leave behind a client with a session, one with a code, one whose person looks at the page, and a new one."""
    session, code, page, new = [OAuthClient(http, person=person) for _ in range(4)]
    for number, client in enumerate((session, code, page, new)):
        client.register(client_name=f"Client {number}").raise_for_status()
    session.redeem(session.code()).raise_for_status()
    session.refresh().raise_for_status()
    code.code()
    person.open(page.authorize().headers["location"]).raise_for_status()


async def records_below(home: Path) -> Collections:
    """All records of a server that has ended, by their collections and keys."""
    store = open_store("filetree", path=home / "oauth-proxy", keys=KEYS)
    names = [json.loads(info.read_text())["collection"] for info in (home / "oauth-proxy").glob("*-info.json")]
    return {name: {key: entry.value_as_dict async for key, entry in store.entries(name)} for name in names}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Collections:
    """What servers write: one with the built-in login, one with FastMCP's proxy for an identity provider."""
    directory = tmp_path_factory.mktemp("servers")
    provider = IdentityProvider(directory / "identity-provider").start()
    found: Collections = {}
    try:
        for login in ("local", "proxy"):
            server = Server(directory / login, directory / f"{login}.log", **SERVER_KEYS)
            if login == "proxy":
                server.environment.update(proxy_environment(provider, server.url))
            server.start()
            try:
                with httpx.Client(base_url=server.url, timeout=HANGS_AFTER) as http:
                    person = Person(http) if login == "local" else ProxyPerson(quick=True)
                    for _ in range(2):
                        sign_in_in_every_state(http, person)
            finally:
                server.stop()
            for collection, records in asyncio.run(records_below(directory / login)).items():
                found.setdefault(collection, {}).update(records)
    finally:
        provider.stop()
    return {collection: records for collection, records in found.items() if records}


class Volume(ABC):
    """Where the records are, for somebody who has no key."""

    @abstractmethod
    def __init__(self, directory: Path) -> None:
        """Look at a store in a directory."""

    @abstractmethod
    def contents(self) -> dict[Any, bytes]:
        """What is stored, by its place."""

    @abstractmethod
    def write(self, place: Any, content: bytes) -> None:
        """Store something in a place that had a record before."""

    @abstractmethod
    def date(self, place: Any, expires_at: datetime) -> None:
        """Let what is in a place expire at another time, as far as that can be seen from outside."""

    @abstractmethod
    def empty_quarantine(self) -> int:
        """Remove what was set aside; returns how much that was."""


class Files(Volume):
    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def contents(self) -> dict[Any, bytes]:
        return {file: file.read_bytes() for file in self._directory.glob("*/*.json")}

    def write(self, place: Path, content: bytes) -> None:
        place.write_bytes(content)

    def date(self, place: Path, expires_at: datetime) -> None:
        place.write_text(json.dumps({**json.loads(place.read_text()), "expires_at": expires_at.isoformat()}))

    def empty_quarantine(self) -> int:
        found = list(self._directory.glob("*/*.corrupt"))
        for file in found:
            file.unlink()
        return len(found)


class Rows(Volume):
    def __init__(self, directory: Path) -> None:
        self._rows = sqlite3.connect(directory / "disk" / "cache.db", isolation_level=None)
        self._columns: dict[str, Value] = {}

    def contents(self) -> dict[Any, bytes]:
        found = self._rows.execute("SELECT * FROM Cache WHERE key NOT LIKE 'quarantine::%'")
        names = [column for column, *_ in found.description]
        self._columns = {row["key"]: row for row in (dict(zip(names, row, strict=True)) for row in found)}
        return {key: str(row["value"]).encode() for key, row in self._columns.items()}

    def write(self, place: str, content: bytes) -> None:
        row = {**self._columns[place], "value": content}
        marks = ", ".join("CAST(? AS TEXT)" if column == "value" else "?" for column in row)
        insert = f"INSERT OR REPLACE INTO Cache ({', '.join(row)}) VALUES ({marks})"  # noqa: S608  # names of columns
        self._rows.execute(insert, list(row.values()))

    def date(self, place: str, expires_at: datetime) -> None:
        value = json.dumps({**json.loads(self.contents()[place]), "expires_at": expires_at.isoformat()})
        change = "UPDATE Cache SET expire_time = ?, value = ? WHERE key = ?"
        self._rows.execute(change, [expires_at.timestamp(), value, place])

    def empty_quarantine(self) -> int:
        return self._rows.execute("DELETE FROM Cache WHERE key LIKE 'quarantine::%'").rowcount


VOLUMES: dict[str, type[Volume]] = {"filetree": Files, "disk": Rows}


class Sealed:
    """A store, the places of its records, and what somebody without a key can do to them."""

    def __init__(self, store: AtomicStore, volume: Volume) -> None:
        self.store = store
        self.volume = volume
        self.values: Collections = {}
        self.places: dict[Name, Any] = {}

    async def put(self, collection: str, key: str, value: Value, life: float = LIFE) -> bytes:
        """Store a record; returns what its place holds."""
        before = self.volume.contents()
        await self.store.put(key, value, collection=collection, ttl=life)
        after = self.volume.contents()
        (place,) = (place for place in after if after[place] != before.get(place))
        self.values.setdefault(collection, {})[key] = value
        self.places[collection, key] = place
        return after[place]

    async def look_at(self, collection: str, key: str, content: bytes) -> Found:
        """Put something in a record's place and look for it. What is found must be the record as it was sealed."""
        self.volume.write(self.places[collection, key], content)
        value, life = await self.store.ttl(key, collection=collection)
        aside = self.volume.empty_quarantine()
        if value is None:
            return "set aside" if aside else "missing"
        assert (value, aside) == (self.values[collection][key], 0)
        assert life is not None
        assert life <= LIFE
        return "as it was"


@pytest.fixture(params=VOLUMES)
async def sealed(request: pytest.FixtureRequest) -> AsyncIterator[Sealed]:
    """In memory, since nothing here is about the disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        store = open_store(request.param, path=Path(directory), keys=KEYS)
        await check_store(store)
        yield Sealed(store, VOLUMES[request.param](Path(directory)))
        await store.close()  # type: ignore[attr-defined]


def smallest_of_each_collection(written: Collections) -> Iterator[tuple[str, str, Value]]:
    for collection, records in written.items():
        key = min(records, key=lambda key: len(json.dumps(records[key])))
        yield collection, key, records[key]


def test_there_are_records_of_each_kind(written: Collections) -> None:
    assert written.keys() >= COLLECTIONS


async def test_every_byte_flipped(written: Collections, sealed: Sealed) -> None:
    for collection, key, value in smallest_of_each_collection(written):
        whole = await sealed.put(collection, key, value)
        first, last = (whole.index(part) for part in (b'"sealed"', b'"}, "version"'))
        for position in range(0, len(whole), EVERY):
            flipped = bytearray(whole)
            flipped[position] ^= 1 << (position % 8)
            found = await sealed.look_at(collection, key, bytes(flipped))
            assert found == "set aside" or not first <= position <= last, f"{collection}: {found} at {position}"


async def test_every_truncation(written: Collections, sealed: Sealed) -> None:
    for collection, key, value in smallest_of_each_collection(written):
        whole = await sealed.put(collection, key, value)
        for length in range(0, len(whole), EVERY):
            assert await sealed.look_at(collection, key, whole[:length]) == "set aside", f"{collection}: {length}"


async def test_every_record_in_the_place_of_every_other_one(written: Collections, sealed: Sealed) -> None:
    contents = {
        (collection, key): await sealed.put(collection, key, value)
        for collection, records in written.items()
        for key, value in records.items()
    }
    for victim, other in islice(permutations(contents, 2), 0, None, EVERY):
        assert await sealed.look_at(*victim, contents[other]) == "set aside", f"{other} was taken for {victim}"


async def test_every_record_without_its_seal(written: Collections, sealed: Sealed) -> None:
    for collection, key, value in smallest_of_each_collection(written):
        stored = json.loads(await sealed.put(collection, key, value))
        for planted in (value, {"sealed": value}, {"sealed": None}, {"sealed": "\ud800"}, {}):
            content = json.dumps({**stored, "value": planted}).encode()
            assert await sealed.look_at(collection, key, content) == "set aside", f"{collection}: {planted}"


async def test_a_record_with_another_date_does_not_outlive_its_own(written: Collections, sealed: Sealed) -> None:
    for collection, key, value in smallest_of_each_collection(written):
        await sealed.put(collection, key, value, life=0.1)
        sealed.volume.date(sealed.places[collection, key], datetime.max.replace(tzinfo=UTC))
    expired_at = datetime.now(tz=UTC) + timedelta(seconds=0.1)
    eventually(lambda: datetime.now(tz=UTC), lambda now: now > expired_at)
    for collection, key in sealed.places:
        assert await sealed.store.get(key, collection=collection) is None
