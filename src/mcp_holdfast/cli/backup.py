"""Copy the store into a file, and back into an empty volume."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, TextIO

from cyclopts import Parameter

from mcp_holdfast.cli.beside import EXIT_STORE_FAILED, EXIT_USAGE, run_before_server, run_beside_server
from mcp_holdfast.settings import ConfigurationError, Settings
from mcp_holdfast.storage.backup import NoBackup, Record, lines_of, put_back, records_in
from mcp_holdfast.storage.keys import sync_directory
from mcp_holdfast.storage.opening import EmptyStore, OpenSealedStore
from mcp_holdfast.storage.seal import Seal, Unsealable
from mcp_holdfast.storage.sealing import HOLDFAST_COLLECTION, KEY_CHECK, sealed_with_another_key

File = Annotated[Path, Parameter(help="a file; - for the standard streams", allow_leading_hyphen=True)]
STANDARD_STREAM = Path("-")


class FileProblem(Exception):
    """The file of the backup cannot be used; the message names it and says why."""


def backup(file: File, /) -> int:
    """Copy everything that is stored into a new file; servers may run. The records in it are sealed."""

    async def work(_: Settings, opened: OpenSealedStore) -> int:
        count = 0
        try:
            if _exists(file):
                sys.stderr.write(f"{file} exists already; name a new file\n")
                return EXIT_USAGE
            with _new_file(file) as target:
                async for line in lines_of(opened.backend):
                    with _file_problems(file):
                        target.write(f"{line.model_dump_json()}\n")
                    count += isinstance(line, Record)
        except FileProblem as problem:
            sys.stderr.write(f"nothing was backed up: {problem}\n")
            return EXIT_STORE_FAILED
        sys.stderr.write(f"{count} records; they can be restored only with the keys of the store, so keep those, too\n")
        return 0

    return run_beside_server(work)


def restore(file: File, /) -> int:
    """Put a backup into an empty store, of any backend, before its server is started."""

    async def work(_: Settings, empty: EmptyStore) -> int:
        try:
            with _in_a_file(file) as source:
                # To its end before anything is stored: only then is it sure to be whole, and sealed with our keys.
                _check(records_in(_lines_of(source)), Seal(empty.keys))
                async with empty.location.filled() as backend:
                    restored = await put_back(backend, records_in(_lines_of(source)))
        except (NoBackup, FileProblem) as problem:
            sys.stderr.write(f"{file} cannot be restored: {problem}\n")
            return EXIT_STORE_FAILED
        sys.stderr.write(f"restored {restored} records\n")
        return 0

    return run_before_server(work)


def _check(records: Iterable[Record], seal: Seal) -> None:
    """Read and open all records.

    Raises:
        NoBackup: it is not a whole backup.
        ConfigurationError: it was sealed with another key, in whole or in part.

    """
    has_key_check = False
    for record in records:
        try:
            collection, key, _ = seal.open_any(record.value)
        except Unsealable:
            raise ConfigurationError([sealed_with_another_key("the backup")]) from None
        has_key_check = has_key_check or (collection, key) == (HOLDFAST_COLLECTION, KEY_CHECK)
    if not has_key_check:
        raise NoBackup("it does not tell which key it was sealed with")


@contextmanager
def _file_problems(path: Path) -> Iterator[None]:
    """Tell what is wrong with the file from what is wrong with the store."""
    try:
        yield
    except OSError as error:
        raise FileProblem(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise FileProblem(f"{path} is not text") from error


def _exists(file: Path) -> bool:
    with _file_problems(file):
        return file != STANDARD_STREAM and file.exists()


@contextmanager
def _new_file(path: Path) -> Iterator[TextIO]:
    """Write a file that is there as a whole or not at all, for its owner only."""
    if path == STANDARD_STREAM:
        try:
            yield sys.stdout
            with _file_problems(path):
                sys.stdout.flush()
        except FileProblem:
            # Python would try once more when it ends (docs.python.org/3/library/signal.html, note on SIGPIPE).
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise
        return
    with _file_problems(path):
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    unfinished = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            yield opened
            with _file_problems(path):
                opened.flush()
                os.fsync(descriptor)
        with _file_problems(path):
            unfinished.rename(path)
            sync_directory(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def _lines_of(path: Path) -> Iterator[str]:
    with _file_problems(path), path.open(encoding="utf-8") as opened:
        yield from opened


@contextmanager
def _in_a_file(path: Path) -> Iterator[Path]:
    """What can be read twice: the file itself, or all that comes from the standard stream."""
    if path != STANDARD_STREAM:
        yield path
        return
    with ExitStack() as stack:
        with _file_problems(Path(tempfile.gettempdir())):
            spooled = stack.enter_context(tempfile.NamedTemporaryFile())
            shutil.copyfileobj(sys.stdin.buffer, spooled)
            spooled.flush()
        yield Path(spooled.name)
