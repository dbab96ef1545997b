"""A directory of the volume, for the `filetree` and `disk` backends."""

import errno
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from mcp_holdfast.settings import ConfigurationError, Problem
from mcp_holdfast.storage import is_in_use
from mcp_holdfast.storage.backends import DISK, Backend, open_backend
from mcp_holdfast.storage.keys import sync_directory
from mcp_holdfast.storage.locations.location import Location
from mcp_holdfast.storage.sealing import HOLDFAST_COLLECTION
from mcp_holdfast.storage.volume import mount_of, volume_problems, warnings_of

UNFINISHED = ".r-"
"""What a restore that has not ended is called, with 8 more characters: as long as the name that it gets, because what
files are called depends on the length of their path.
"""


def store_directory(home: Path) -> Path:
    return home / "oauth-proxy"


@dataclass(frozen=True)
class Directory(Location):
    """A directory of the volume, for the `filetree` and `disk` backends."""

    backend: str
    home: Path

    variable: ClassVar[str] = "FASTMCP_HOME"
    remedy: ClassVar[str] = "Make everything below it readable and writable for the user who runs the server"

    @property
    def path(self) -> Path:
        return store_directory(self.home)

    def __str__(self) -> str:
        return str(self.path)

    def problems(self) -> list[Problem]:
        return volume_problems(self.home, self.backend)

    def told(self) -> dict[str, str]:
        mount = mount_of(self.home)
        return {"home": str(self.home), "file_system": mount.type, "mount_options": mount.options}

    async def warnings(self, backend: Backend) -> list[str]:
        return warnings_of(mount_of(self.home))

    def open(self, *, may_create: bool = True) -> Backend:
        with self.problems_named():
            return open_backend(self.backend, self.path)

    async def refuse_unfinished(self) -> None:
        if is_in_use(self.path):
            await super().refuse_unfinished()
            return
        for unfinished in self.home.glob(f"{UNFINISHED}*"):
            what = f"{unfinished} is of a restore that was cut off, or is under way"
            remedy = "Restore the backup again, or remove that directory"
            raise ConfigurationError([Problem(self.variable, what, remedy)])

    async def has_store(self) -> bool:
        return (self.path / (DISK if self.backend == "disk" else HOLDFAST_COLLECTION)).is_dir()

    async def refuse_wrong_user(self) -> None:
        owner = self.path.stat().st_uid
        with tempfile.TemporaryFile(dir=self.path) as made:
            is_foreign = os.geteuid() == 0 and os.fstat(made.fileno()).st_uid != owner
        if is_foreign:
            what = f"{self.path} belongs to user {owner}, who could not read what root writes there"
            remedy = f"Run this as that user: docker exec --user {owner}"
            raise ConfigurationError([Problem(self.variable, what, remedy)])

    async def refuse_filled(self) -> None:
        with self.problems_named():
            is_empty = not self.path.exists() or not any(self.path.iterdir())
        if not is_empty:
            raise self._not_empty()

    @asynccontextmanager
    async def filled(self) -> AsyncIterator[Backend]:
        with self.problems_named():
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Of its own, whoever else restores at the same time; rename(2) replaces an empty directory only.
            unfinished = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=self.home))
        try:
            backend = open_backend(self.backend, unfinished)
            yield backend
            await backend.close()
            with self.problems_named():
                self._put_in_place(unfinished)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    async def _has_any(self, *keys: str) -> bool:
        if not await self.has_store():
            return False
        backend = self.open()
        try:
            return any([await backend.read(key, collection=HOLDFAST_COLLECTION) is not None for key in keys])
        finally:
            await backend.close()

    def _put_in_place(self, filled: Path) -> None:
        try:
            filled.rename(self.path)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
            raise self._not_empty() from None
        sync_directory(self.path.parent)

    def _not_empty(self) -> ConfigurationError:
        what = f"{self.path} is not empty: there is a store, or another restore was faster"
        return ConfigurationError([Problem(self.variable, what, "Give an empty volume: nothing is overwritten")])
