"""A lock on the file of a record that has expired, for the moment in which it is removed.

It is an advisory lock (flock(2); on NFS a lock at the server), never waited for, and ends with its process.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from mcp_holdfast.storage.backends.record_directory import opened_directory


@contextmanager
def locked(file: Path) -> Iterator[BinaryIO | None]:
    """Have a record's file for oneself inside the block: the open file, or None where somebody else has it.

    Raises:
        FileNotFoundError: there is no such file.

    """
    with file.open("r+b") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        # Opened once more: on NFS nothing else tells for sure which file the name belongs to now.
        yield opened if is_open_as(opened, file) else None


def is_open_as(opened: BinaryIO, file: Path) -> bool:
    """Whether a name belongs to an open file.

    Raises:
        FileNotFoundError: it belongs to none.

    """
    # Otherwise an NFS client may open the file that the name belonged to before.
    with opened_directory(file.parent), file.open("rb") as now:
        return os.path.sameopenfile(opened.fileno(), now.fileno())
