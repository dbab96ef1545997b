"""Open the store that the settings name: for the server, which makes what is missing, and for commands beside it."""

import asyncio
import errno
import logging
import os
import shutil
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from key_value.aio.errors import KeyValueOperationError, KeyValueStoreError
from pydantic import SecretStr

from mcp_holdfast.settings import ConfigurationError, Problem, Settings
from mcp_holdfast.storage import check_store, is_in_use
from mcp_holdfast.storage.atomic import AtomicStore
from mcp_holdfast.storage.backends import DISK, Backend, open_backend, open_memory
from mcp_holdfast.storage.keys import KeyRing, given_key_ring, sync_directory, temporary_key_ring, volume_key_ring
from mcp_holdfast.storage.sealing import HOLDFAST_COLLECTION, SealedStore

log = logging.getLogger(__name__)

UNFINISHED = ".r-"
"""What a restore that has not ended is called, with 8 more characters: as long as the name that it gets, because what
files are called depends on the length of their path.
"""

STORE_ERRORS = (OSError, KeyValueOperationError, KeyValueStoreError, sqlite3.Error)


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


def store_directory(settings: Settings) -> Path:
    return settings.home / "oauth-proxy"


def key_rings(settings: Settings) -> KeyRings:
    """Both rings, made where they are neither given nor on the volume.

    Both before the store is opened first: a kill in between must not leave a store without one of its keys.

    Raises:
        ConfigurationError: a key is wrong, or missing although the store is in use.

    """
    in_use = is_in_use(store_directory(settings))
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
    if settings.backend == "memory":
        log.warning("the memory backend loses every sign-in at a restart; set EXA_MCP_STORAGE_BACKEND=filetree to keep")
        memory = open_memory()
        return OpenStore(memory, memory)
    with _problems_named(settings):
        _refuse_unfinished_restore(settings)
        opened = _open_sealed(settings, keys)
        asyncio.run(check_store(opened.store))
    if not opened.store.seal.is_first_in_use or opened.store.is_rotating:
        log.warning("the store is still sealed with a key of HOLDFAST_STORAGE_KEY_PREVIOUS; run 'holdfast rotate'")
    return opened


def _refuse_unfinished_restore(settings: Settings) -> None:
    if is_in_use(store_directory(settings)):
        return
    for unfinished in settings.home.glob(f"{UNFINISHED}*"):
        what = f"{unfinished} is of a restore that was cut off, or is under way"
        raise ConfigurationError([Problem("FASTMCP_HOME", what, "Restore the backup again, or remove that directory")])


@asynccontextmanager
async def look_at_store(settings: Settings) -> AsyncIterator[OpenSealedStore | None]:
    """Open the store that is there as a server would, and change nothing; None if there is none, or only in memory.

    Raises:
        ConfigurationError: a server could not use it.

    """
    if settings.backend == "memory":
        yield None
        return
    with _problems_named(settings):
        _refuse_unfinished_restore(settings)
        if not is_in_use(store_directory(settings)):
            yield None
            return
        opened = _open_sealed(settings, key_rings(settings).storage)
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
    _refuse_memory(settings)
    with _problems_named(settings):
        _check_there_is_a_store(settings)
        opened = _open_sealed(settings, _storage_ring(settings, in_use=True))
        await check_store(opened.store)
    try:
        yield opened
    finally:
        await opened.backend.close()


@dataclass(frozen=True)
class EmptyStore:
    """Where a store is to be, of which there is nothing yet, and the keys that are to open it."""

    settings: Settings
    keys: KeyRing

    @contextmanager
    def filled(self) -> Iterator[Backend]:
        """Fill it inside the block: what was put into the backend is there as a whole or not at all."""
        directory = store_directory(self.settings)
        with _problems_named(self.settings):
            self.settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Of its own, whoever else restores at the same time; rename(2) replaces an empty directory only.
            unfinished = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=self.settings.home))
        try:
            yield open_backend(self.settings.backend, unfinished)
            with _problems_named(self.settings):
                try:
                    unfinished.rename(directory)
                except OSError as error:
                    if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                        raise
                    raise _not_empty(directory) from None
                sync_directory(directory.parent)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


@asynccontextmanager
async def open_empty(settings: Settings) -> AsyncIterator[EmptyStore]:
    """Find the place for a backup, which nobody may have begun to use; makes nothing there, and no keys.

    Raises:
        ConfigurationError: there is a store already, or a key is missing.

    """
    _refuse_memory(settings)
    directory = store_directory(settings)
    with _problems_named(settings):
        if directory.exists() and any(directory.iterdir()):
            raise _not_empty(directory)
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
    yield EmptyStore(settings, _storage_ring(settings, in_use=True))


def _not_empty(directory: Path) -> ConfigurationError:
    what = f"{directory} is not empty: there is a store, or another restore was faster"
    return ConfigurationError([Problem("FASTMCP_HOME", what, "Give an empty volume: nothing is overwritten")])


def _refuse_memory(settings: Settings) -> None:
    if settings.backend == "memory":
        what = "memory keeps its records inside the server's own process, where no other program can reach them"
        remedy = "Use filetree or disk for a server that is to be looked after; ending this one ends its sessions"
        raise ConfigurationError([Problem("EXA_MCP_STORAGE_BACKEND", what, remedy)])


def _open_sealed(settings: Settings, keys: KeyRing) -> OpenSealedStore:
    backend = open_backend(settings.backend, store_directory(settings))
    return OpenSealedStore(SealedStore(backend, keys), backend)


@contextmanager
def _problems_named(settings: Settings) -> Iterator[None]:
    try:
        yield
    except STORE_ERRORS as error:
        what = f"cannot use {store_directory(settings)}: {error}"
        remedy = "Make everything below it readable and writable for the user who runs the server"
        raise ConfigurationError([Problem("FASTMCP_HOME", what, remedy)]) from error


def _check_there_is_a_store(settings: Settings) -> None:
    directory = store_directory(settings)
    if not (directory / (DISK if settings.backend == "disk" else HOLDFAST_COLLECTION)).is_dir():
        what = f"there is no {settings.backend} store in {directory}"
        remedy = "Give the same volume and settings as to the server, which makes the store at its first start"
        raise ConfigurationError([Problem("FASTMCP_HOME", what, remedy)])
    owner = directory.stat().st_uid
    with tempfile.TemporaryFile(dir=directory) as made:
        is_foreign = os.geteuid() == 0 and os.fstat(made.fileno()).st_uid != owner
    if is_foreign:
        what = f"{directory} belongs to user {owner}, who could not read what root writes there"
        raise ConfigurationError([Problem("FASTMCP_HOME", what, f"Run this as that user: docker exec --user {owner}")])
