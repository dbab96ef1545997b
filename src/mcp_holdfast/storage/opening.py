"""Open the store that the settings name: for the server, which makes what is missing, and for commands beside it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pydantic import SecretStr

from mcp_holdfast.settings import ConfigurationError, Problem, Settings
from mcp_holdfast.settings.engine_urls import ENGINES
from mcp_holdfast.storage import check_store, is_in_use
from mcp_holdfast.storage.atomic import AtomicStore
from mcp_holdfast.storage.backends import Backend, EngineProblem, open_memory
from mcp_holdfast.storage.keys import KeyRing, given_key_ring, temporary_key_ring, volume_key_ring
from mcp_holdfast.storage.locations import FILLED, STORE_ERRORS, Location, location_at, location_of, store_directory
from mcp_holdfast.storage.sealing import HOLDFAST_COLLECTION, SealedStore

log = logging.getLogger(__name__)

TRIED_EVERY = 1.0
"""In seconds, where the start is to wait for the store."""


@dataclass(frozen=True)
class OpenStore:
    """A store, and the backend below its seal, which sees when records expire but not what is in them."""

    store: AtomicStore
    backend: Backend


@dataclass(frozen=True)
class OpenSealedStore(OpenStore):
    """Any but the one in memory."""

    store: SealedStore


@dataclass(frozen=True)
class KeyRings:
    """What seals the store and what signs tokens; apart, so that each can be rotated alone."""

    storage: KeyRing
    signing: KeyRing


def key_rings(settings: Settings) -> KeyRings:
    """Both rings, made where they are neither given nor on the volume.

    Both before the store is opened first: a kill in between must not leave a store without one of its keys.

    Raises:
        ConfigurationError: a key is wrong, or missing although the store is in use.

    """
    in_use = settings.backend not in ENGINES and is_in_use(store_directory(settings.home))
    return KeyRings(_storage_ring(settings, in_use=in_use), _ring(settings, *_signing(settings), in_use=in_use))


def _signing(settings: Settings) -> tuple[SecretStr | None, Sequence[SecretStr], str, str]:
    return settings.signing_key, settings.signing_key_previous, "signing.key", "HOLDFAST_SIGNING_KEY"


def _storage_ring(settings: Settings, *, in_use: bool) -> KeyRing:
    storage = settings.storage_key, settings.storage_key_previous, "storage.key", "HOLDFAST_STORAGE_KEY"
    return _ring(settings, *storage, in_use=in_use)


def _ring(
    settings: Settings,
    current: SecretStr | None,
    previous: Sequence[SecretStr],
    file_name: str,
    variable: str,
    *,
    in_use: bool,
) -> KeyRing:
    if current is not None:
        return given_key_ring(current, previous, variable)
    if settings.backend == "memory":
        return temporary_key_ring()
    return volume_key_ring(settings.home / "keys" / file_name, variable, store_is_in_use=in_use)


def open_for_server(settings: Settings, keys: KeyRing) -> OpenStore:
    """Open the store, or begin one. Leaves no connection open: gunicorn forks its workers afterwards.

    Raises:
        ConfigurationError: it cannot be used, or is sealed with another key.

    """
    location = location_of(settings)
    if location is None:
        log.warning("the memory backend loses every sign-in at a restart; set EXA_MCP_STORAGE_BACKEND=filetree to keep")
        memory = open_memory()
        return OpenStore(memory, memory)
    opened = _open_sealed(location, keys)
    with location.problems_named():
        asyncio.run(_begin(location, opened, wait=settings.storage_wait))
    if not opened.store.seal.is_first_in_use or opened.store.is_rotating:
        log.warning("the store is still sealed with a key of HOLDFAST_STORAGE_KEY_PREVIOUS; run 'holdfast rotate'")
    return opened


async def _begin(location: Location, opened: OpenSealedStore, *, wait: float) -> None:
    """Check the store, as soon as it can be reached within `wait` seconds."""
    deadline = asyncio.get_running_loop().time() + wait
    while True:
        try:
            await location.refuse_unfinished()
            await check_store(opened.store)
            await opened.backend.delete(FILLED, collection=HOLDFAST_COLLECTION)
            await opened.backend.close()
        except STORE_ERRORS as error:
            await opened.store.close()
            if isinstance(error.__cause__, EngineProblem) or asyncio.get_running_loop().time() > deadline:
                raise
            left = f"{deadline - asyncio.get_running_loop().time():.0f} s"
            told = {"store": str(location), "at_most": left, "error": repr(error.__cause__ or error)}
            log.warning("waiting for the store, as HOLDFAST_STORAGE_WAIT says", extra=told)
            await asyncio.sleep(TRIED_EVERY)
        else:
            return


@asynccontextmanager
async def look_at_store(settings: Settings) -> AsyncIterator[OpenSealedStore | None]:
    """Open the store that is there as a server would, and change nothing; None if there is none, or only in memory.

    Raises:
        ConfigurationError: a server could not use it.

    """
    location = location_of(settings)
    if location is None:
        yield None
        return
    with location.problems_named():
        await location.refuse_unfinished()
        if not await location.has_store():
            yield None
            return
        opened = _open_sealed(location, key_rings(settings).storage)
        await opened.store.look_at_key()
    try:
        yield opened
    finally:
        await opened.store.close()


@asynccontextmanager
async def open_beside_server(settings: Settings) -> AsyncIterator[OpenSealedStore]:
    """Open the store that a server of the same settings uses, while it runs or not; begins none and makes no keys.

    Raises:
        ConfigurationError: there is no such store, or this process cannot use it.

    """
    location = _kept(settings)
    with location.problems_named():
        if not await location.has_store():
            what = f"there is no {settings.backend} store in {location}"
            remedy = f"Give the same {location.variable} and settings as to the server, which begins the store"
            raise ConfigurationError([Problem(location.variable, what, remedy)])
        await location.refuse_wrong_user()
        opened = _open_sealed(location, _storage_ring(settings, in_use=True))
        await check_store(opened.store)
    try:
        yield opened
    finally:
        await opened.store.close()


@dataclass(frozen=True)
class TwoPlaces:
    """A store, and the place that it is to be copied to; the keys open both."""

    source: Location
    target: Location
    keys: KeyRing


@asynccontextmanager
async def open_two_places(settings: Settings, source: str | None, target: str | None) -> AsyncIterator[TwoPlaces]:
    """Find a store and where it is to go, by URL; where one is not given it is the one of the settings.

    Raises:
        ConfigurationError: one of them is no place for a store, both are one, or there is no store to copy.

    """
    own = location_of(settings)
    places = [
        location_at(url, option, quarantine=settings.quarantine) if url else own
        for option, url in (("--from", source), ("--to", target))
    ]
    if None in places:
        _kept(settings)
    first, second = (place for place in places if place is not None)
    problems = [*first.problems(), *second.problems()]
    if first == second:
        problems.append(Problem("--to", "is where --from is", "Name another place"))
    if problems:
        raise ConfigurationError(problems)
    keys = _storage_ring(settings, in_use=True)
    with first.problems_named():
        if not await first.has_store():
            what = f"there is no store in {first}"
            raise ConfigurationError([Problem("--from", what, "Name the FASTMCP_HOME or engine of its server")])
        opened = _open_sealed(first, keys)
        try:
            await opened.store.look_at_key()
        finally:
            await opened.store.close()
    yield TwoPlaces(first, second, keys)


@dataclass(frozen=True)
class EmptyStore:
    """Where a store is to be, of which there is nothing yet, and the keys that are to open it."""

    location: Location
    keys: KeyRing


@asynccontextmanager
async def open_empty(settings: Settings) -> AsyncIterator[EmptyStore]:
    """Find the place for a backup, which nobody may have begun to use; makes nothing there, and no keys.

    Raises:
        ConfigurationError: there is a store already, or a key is missing.

    """
    location = _kept(settings)
    await location.refuse_filled()
    missing = [
        Problem(variable, "is not set, and no key is on the volume; a backup can be opened only with its keys", remedy)
        for key, variable, file in (
            (settings.storage_key, "HOLDFAST_STORAGE_KEY", "storage.key"),
            (settings.signing_key, "HOLDFAST_SIGNING_KEY", "signing.key"),
        )
        if key is None and not (settings.home / "keys" / file).exists()
        for remedy in [
            f"Set it to the key of the store that was backed up, or put that into {settings.home}/keys/{file}"
        ]
    ]
    if missing:
        raise ConfigurationError(missing)
    yield EmptyStore(location, _storage_ring(settings, in_use=True))


def _kept(settings: Settings) -> Location:
    location = location_of(settings)
    if location is None:
        what = "memory keeps its records inside the server's own process, where no other program can reach them"
        remedy = "Use filetree or disk for a server that is to be looked after; ending this one ends its sessions"
        raise ConfigurationError([Problem("EXA_MCP_STORAGE_BACKEND", what, remedy)])
    return location


def _open_sealed(location: Location, keys: KeyRing) -> OpenSealedStore:
    backend = location.open()
    return OpenSealedStore(SealedStore(backend, keys), backend)
