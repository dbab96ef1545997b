"""Locks that keep writes of a record apart from a renewal of its seal, in files beside the records.

Not on the record's own file: an NFS client that replaces a file which it has open renames the old one away first, and
for a moment there is none. The locks are advisory (flock(2); on NFS at the server) and end with their process.
"""

import asyncio
import fcntl
import os
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import BinaryIO

from anyio import to_thread

LOCKS = ".locks"
FILES = 64
"""Records share them; a lock is held for a few file operations only."""

PAUSE, WAIT = 0.01, 5.0
"""In seconds. On NFS, asking again is faster than being waited for: there a client asks less and less often."""


class RenewalLocks:
    """The locks of a store in a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory / LOCKS

    @asynccontextmanager
    async def hold(self, file: Path) -> AsyncIterator[None]:
        """Have a record's file for oneself inside the block.

        Raises:
            OSError: others have it, for unusually long, or the file system has no locks.

        """
        path = self._directory / f"{zlib.crc32(file.name.encode()) % FILES:02}"
        deadline = asyncio.get_running_loop().time() + WAIT
        while (opened := await to_thread.run_sync(_try_to_lock, path)) is None:
            if asyncio.get_running_loop().time() > deadline:
                raise TimeoutError(f"{LOCKS}/{path.name} is locked by another process")
            # Here and not in a thread: there are not many, and who has the lock needs one.
            await asyncio.sleep(PAUSE)
        with closing(opened):
            yield


def _try_to_lock(path: Path) -> BinaryIO | None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    opened = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b")
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        opened.close()
        return None
    except BaseException:
        opened.close()
        raise
    return opened
