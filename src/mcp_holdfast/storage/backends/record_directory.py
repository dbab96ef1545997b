"""The directory of a collection, opened for one operation, and what a file in it holds."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NO_FILE_OF_OURS = frozenset({errno.ELOOP, errno.ENXIO})
"""How open(2) refuses a symbolic link and a socket."""


@contextmanager
def opened_directory(directory: Path) -> Iterator[int]:
    """The descriptor of a directory, inside the block.

    Opening it has an NFS client ask which names there are and what they belong to, and not go by what it remembers: for
    half a minute it would take a new name for missing, and open the replaced file where anybody has it open.

    Raises:
        FileNotFoundError: there is no such directory.
        NotADirectoryError: a file or a symbolic link, which could lead anywhere, is in its place.

    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def content_of(name: str, directory: int) -> bytes | None:
    """What a file of an open directory holds; None where the name is that of something else.

    Raises:
        FileNotFoundError: there is no such file.

    """
    try:
        # A pipe must not be waited for.
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
    except OSError as error:
        if error.errno in NO_FILE_OF_OURS:
            return None
        raise
    try:
        found = os.fstat(descriptor)
        return os.read(descriptor, found.st_size) if stat.S_ISREG(found.st_mode) else None
    finally:
        os.close(descriptor)
