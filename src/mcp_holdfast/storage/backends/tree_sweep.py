"""Walk the files of a filetree store, a piece at a time, and remove those that nobody needs any more."""

import errno
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from mcp_holdfast.storage.backends.swept import TEMPORARY_FOR, Swept

log = logging.getLogger(__name__)

TEMPORARY_PREFIX, TEMPORARY_SUFFIX = ".put-", ".tmp"
RECORD_SUFFIX, QUARANTINE_SUFFIX = ".json", ".corrupt"
DESCRIPTION_SUFFIX = "-info.json"
"""With the name of a collection's directory it is the name of the file beside it that describes it."""

NOTHING = Swept(examined=1)
REPLACED_MEANWHILE = frozenset({errno.ENOENT, errno.ESTALE})


class TreeSweep:
    """One walk over all files, in the thread of who iterates.

    `remove_if_expired` does so with a record's file and tells whether it did. Quarantined files stay for `quarantine`
    seconds.
    """

    def __init__(self, root: Path, *, remove_if_expired: Callable[[Path], bool], quarantine: float) -> None:
        self._root = root
        self._remove_if_expired = remove_if_expired
        self._quarantine = quarantine

    def pieces(self, limit: int) -> Iterator[Swept]:
        """Examine all files, at most `limit` of them before each answer.

        A file that cannot be examined now does not keep the others from it; how many there were is logged.

        Raises:
            OSError: the store's own directory cannot be listed.

        """
        swept, failures = Swept(), list[OSError]()
        for file, is_in_collection in self._files():
            try:
                swept += self._examine(file, is_in_collection=is_in_collection)
            except OSError as error:
                swept += NOTHING
                if error.errno not in REPLACED_MEANWHILE:
                    failures.append(error)
            if swept.examined >= limit:
                _report(failures)
                yield swept
                swept, failures = Swept(), []
        _report(failures)
        yield swept

    def _files(self) -> Iterator[tuple[os.DirEntry[str], bool]]:
        """Every file, and whether it is one of a collection; read as it is asked for, however many there are.

        Directories that are no collection of ours are not entered: another server's store may be beside it.
        """
        collections = []
        with os.scandir(self._root) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if (self._root / f"{entry.name}{DESCRIPTION_SUFFIX}").exists():
                        collections.append(entry)
                else:
                    yield entry, False
        for collection in collections:
            try:
                with os.scandir(collection) as entries:
                    for entry in entries:
                        yield entry, True
            except OSError as error:
                fields = {"collection": collection.name, "error": _kind(error)}
                log.warning("a collection could not be swept to its end", extra=fields)

    def _examine(self, file: os.DirEntry[str], *, is_in_collection: bool) -> Swept:
        path = Path(file.path)
        if file.name.startswith(TEMPORARY_PREFIX) and file.name.endswith(TEMPORARY_SUFFIX):
            if _age(path.lstat().st_mtime) > TEMPORARY_FOR:
                path.unlink()
                return Swept(examined=1, temporary=1)
        elif file.name.endswith(QUARANTINE_SUFFIX):
            if _is_quarantined_since(path) > self._quarantine:
                path.unlink()
                return Swept(examined=1, quarantined=1)
        elif is_in_collection and file.name.endswith(RECORD_SUFFIX) and self._remove_if_expired(path):
            return Swept(examined=1, expired=1)
        return NOTHING


def _is_quarantined_since(path: Path) -> float:
    """For how many seconds a file has been in quarantine; none at all for a directory, which nobody but a person made.

    By its change time: renaming sets that, and leaves the time of modification, which is as old as the record.
    """
    found = path.lstat()
    return 0.0 if stat.S_ISDIR(found.st_mode) else _age(found.st_ctime)


def _age(moment: float) -> float:
    return time.time() - moment


def _report(failures: list[OSError]) -> None:
    if failures:
        fields = {"files": len(failures), "error": _kind(failures[0])}
        log.warning("some files could not be swept and will be tried again", extra=fields)


def _kind(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, type(error).__name__)
