"""A lock on a record's file, for the moment in which it is replaced or removed by who did not write it.

It is an advisory lock (flock(2); on NFS a lock at the server), held for a few file operations only, and ends with
its process. Replacing the file leaves the lock on the old one, so who has it looks whether it is the right file.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

PAUSE = 0.01
"""In seconds. On NFS, asking again is faster than being waited for: there a client asks less and less often."""


@contextmanager
def locked(file: Path, *, wait: float = 0.0) -> Iterator[BinaryIO | None]:
    """Have a record's file for oneself inside the block: the open file, or None if that failed for `wait` seconds.

    Raises:
        FileNotFoundError: there is no such file.

    """
    opened = lock(file, wait=wait)
    try:
        yield opened
    finally:
        if opened is not None:
            opened.close()


def lock(file: Path, *, wait: float) -> BinaryIO | None:
    """Open a record's file and lock it until it is closed; None if others had it for `wait` seconds.

    Raises:
        FileNotFoundError: there is no such file.

    """
    deadline = time.monotonic() + wait
    while True:
        opened = file.open("r+b")
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Opened once more: on NFS nothing else tells for sure which file the name belongs to now.
            if is_open_as(opened, file):
                return opened
        except BlockingIOError:
            pass
        except BaseException:
            opened.close()
            raise
        opened.close()
        if time.monotonic() >= deadline:
            return None
        time.sleep(PAUSE)


def is_open_as(opened: BinaryIO, file: Path) -> bool:
    """Whether a name belongs to an open file.

    Raises:
        FileNotFoundError: it belongs to none.

    """
    with file.open("rb") as now:
        return os.path.sameopenfile(opened.fileno(), now.fileno())
